"""A saved model: `model.safetensors` and `model.json`, two public names that change as one.

No file system renames two files at once, so the new pair is first published as one folder, `.model.new`: that single
rename is the moment the new pair replaces the old. Moving its files to the public names afterwards is tidying: a kill
between the two moves leaves one file here and one there, and a reader takes each from `.model.new` if it is there.
The next save finishes the moves first. Checksums tie the two files together, so a stray copy of one is noticed.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from ..errors import ConfigError, ModelFileError
from .atomic import point, publish, quoted, read_bytes, sync_folder, writing
from .formats import JSON_LIMIT, json_from_bytes, json_to_bytes, tensors_from_bytes, tensors_to_bytes

__all__ = ["load_pair", "save_pair"]

FORMAT = 1


def save_pair(folder: Path, name: str, tensors: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Replace the pair `name.safetensors`, `name.json` in `folder` by a new one: a kill leaves the old or the new.

    Raises `ResourceError` when it cannot be written, `ConfigError` when `meta` is not strict JSON or `tensors` are
    not dense. The old pair, or the new one, is then what `load_pair` gives.
    """
    folder = Path(folder)
    data = tensors_to_bytes(tensors)
    meta = json.loads(json_to_bytes(folder / f"{name}.json", meta))
    head = {"format": FORMAT, "sha256": _sha256(data), "bytes": len(data), "meta_sha256": _meta_sha256(meta)}
    files = {
        f"{name}.safetensors": data,
        f"{name}.json": json_to_bytes(folder / f"{name}.json", head | {"meta": meta}),
    }
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _finish(folder, name)
        publish(_pending(folder, name), files)
        _finish(folder, name)


def load_pair(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and the meta data of the pair.

    Raises `ConfigError` when there is none or it may not be read, `ModelFileError` when it is damaged, incomplete or
    of another format, and `ResourceError` when it does not fit into memory.
    """
    try:
        return _load(Path(folder), name)
    except (ConfigError, ModelFileError):  # a save may have moved the files between the two reads
        return _load(Path(folder), name)


def _load(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    path = _place(folder, name, f"{name}.json")
    match json_from_bytes(path, read_bytes(path, JSON_LIMIT)):
        case {"format": 1, "sha256": str(sha256), "bytes": int(size), "meta_sha256": meta_sha256, "meta": dict(meta)}:
            if _meta_sha256(meta) != meta_sha256:
                raise ModelFileError(f"{quoted(path)} does not match its checksum; restore it from a copy")
        case {"format": other} if other != FORMAT:
            raise ModelFileError(
                f"{quoted(path)} has model format {str(other)[:20]!r}, expected {FORMAT}; use the version of "
                "spikewright that wrote it"
            )
        case _:
            raise ModelFileError(f"{quoted(path)} does not describe a model; restore it from a copy")
    path = _place(folder, name, f"{name}.safetensors")
    if not os.path.exists(path):
        raise ModelFileError(f"{quoted(path)} is missing beside its description; restore it from a copy")
    data = read_bytes(path, size)
    if _sha256(data) != sha256:
        raise ModelFileError(
            f"{quoted(path)} does not match the checksum in '{name}.json': damaged, or of another model; restore both "
            "from a copy"
        )
    return tensors_from_bytes(path, data), meta


def _pending(folder: Path, name: str) -> Path:
    return folder / f".{name}.new"


def _place(folder: Path, name: str, file: str) -> Path:
    pending = _pending(folder, name) / file
    return pending if os.path.exists(pending) else folder / file


def _finish(folder: Path, name: str) -> None:
    """Move what is in `.name.new` to the public names."""
    pending = _pending(folder, name)
    if not pending.is_dir():
        return
    for file in (f"{name}.safetensors", f"{name}.json"):
        if (pending / file).exists():
            os.replace(pending / file, folder / file)
            point(f"moved {file}")
    sync_folder(folder)
    pending.rmdir()
    point("finished")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _meta_sha256(meta: dict[str, Any]) -> str:
    return _sha256(json.dumps(meta, separators=(",", ":")).encode())
