"""Checkpoints of a run: folders that appear complete, are believed only when their checksums verify, and expire."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ConfigError, ModelFileError, SpikewrightError
from .atomic import point, publish, quoted, read_bytes, reading, sync_folder, temporary, writing
from .formats import JSON_LIMIT, json_from_bytes, json_to_bytes, tensors_from_bytes, tensors_to_bytes

__all__ = ["Checkpoints"]

FORMAT = 1
TENSORS, STATE, SUMS = "tensors.safetensors", "state.json", "SHA256SUMS"
_NAME = re.compile(r"step-(\d+)(?:\.(\d+))?")


class Checkpoints:
    """The checkpoints in `folder`, of which the newest `keep` (two at least) that verify are kept.

    One checkpoint is a folder `step-0000123` with `tensors.safetensors`, `state.json` and `SHA256SUMS`, as
    `sha256sum -c` reads it. A step saved once more, after a fall-back for instance, becomes `step-0000123.1`: nothing
    is ever written over, and what does not verify is never deleted.

    `damaged` lists, after `latest`, what did not verify: one line each, for the caller to print as a warning.
    """

    def __init__(self, folder: Path, keep: int = 2) -> None:
        if keep < 2:
            raise ConfigError(f"keep is {keep}, expected 2 or more; the last but one is there for when the last breaks")
        self.folder = Path(folder)
        self.keep = keep
        self.damaged: list[str] = []

    def save(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> Path:
        """Write a checkpoint and delete the oldest. A kill at any moment leaves the old ones and perhaps the new one.

        Raises `ResourceError` when it cannot be written; `ConfigError` when `step` is negative, `state` is not strict
        JSON or `tensors` are not dense. What was there before is then still there.
        """
        if step < 0:
            raise ConfigError(f"step is {step}, expected 0 or more; count steps from 0")
        data = tensors_to_bytes(tensors)
        head = {"format": FORMAT, "step": step, "tensors_bytes": len(data), "state": state}
        files = {TENSORS: data, STATE: json_to_bytes(self.folder / STATE, head)}
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            sync_folder(self.folder.parent)
        again = [revision for number, revision, _ in self._found() if number == step]
        name = f"step-{step:07d}" + (f".{again[0] + 1}" if again else "")
        publish(self.folder / name, files | {SUMS: "".join(_line(*file) for file in files.items()).encode()})
        self._expire(self.folder / name)
        return self.folder / name

    def latest(self) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
        """The step, tensors and state of the newest checkpoint that verifies; None when there are none at all.

        Raises `ModelFileError` when there are checkpoints but none verifies, or when the newest that verifies has a
        format this version does not know.
        """
        self.damaged = []
        for step, _, folder in self._found():
            try:
                files, head = _verify(folder, step)
                return step, tensors_from_bytes(folder / TENSORS, files[TENSORS]), head["state"]
            except _UnknownFormat:
                raise
            except (ConfigError, ModelFileError) as error:
                self.damaged.append(str(error))
        if self.damaged:
            raise ModelFileError(
                f"{quoted(self.folder)} holds no checkpoint that verifies ({'; '.join(self.damaged)}); restore one "
                "from a copy, or start again in another folder"
            )
        return None

    def _found(self) -> list[tuple[int, int, Path]]:
        """(step, revision, folder) of all there are, damaged or not, the newest first."""
        with reading(self.folder):
            try:
                names = os.listdir(self.folder)
            except FileNotFoundError:
                return []
        matches = [match for name in names if (match := _NAME.fullmatch(name))]
        return sorted(((int(m[1]), int(m[2] or 0), self.folder / m[0]) for m in matches), reverse=True)

    def _expire(self, new: Path) -> None:
        """Delete what verifies beyond the newest `keep`: first out of sight, so that a kill leaves no half folder."""
        kept = 1
        for step, _, folder in self._found():
            if folder == new or not _verifies(folder, step):
                continue
            kept += 1
            if kept > self.keep:
                with writing(folder), temporary(self.folder) as aside:
                    os.rename(folder, aside)
                    point("set-aside")


class _UnknownFormat(ModelFileError):
    """Not damage, so no reason to fall back."""


def _line(name: str, data: bytes) -> str:
    return f"{hashlib.sha256(data).hexdigest()}  {name}\n"


def _verifies(folder: Path, step: int) -> bool:
    try:
        _verify(folder, step)
    except SpikewrightError:
        return False
    return True


def _verify(folder: Path, step: int) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The two files of a checkpoint and the parsed `state.json`, after all checks; no link is followed.

    Only the known names are ever opened: a list of sums that names anything else does not verify.
    """
    if os.path.islink(folder) or not os.path.isdir(folder):
        raise ModelFileError(f"{quoted(folder)} is not a folder")
    sums = read_bytes(folder / SUMS, 1000, follow=False).decode("ascii", "replace")
    state = read_bytes(folder / STATE, JSON_LIMIT, follow=False)
    if _line(STATE, state) not in sums:
        raise ModelFileError(f"{quoted(folder / STATE)} does not match its checksum")
    match json_from_bytes(folder / STATE, state):
        case {"format": 1, "step": found, "tensors_bytes": int(size), "state": dict()} as head if found == step:
            pass
        case {"format": other} if other != FORMAT:
            raise _UnknownFormat(
                f"{quoted(folder)} has checkpoint format {str(other)[:20]!r}, expected {FORMAT}; use the version of "
                "spikewright that wrote it"
            )
        case _:
            raise ModelFileError(f"{quoted(folder / STATE)} is not the state of step {step}")
    tensors = read_bytes(folder / TENSORS, size, follow=False)
    if sums != _line(TENSORS, tensors) + _line(STATE, state):
        raise ModelFileError(f"{quoted(folder / TENSORS)} does not match its checksum")
    return {TENSORS: tensors, STATE: state}, head
