"""The folder of one run: locked while somebody works in it, with line-by-line records that survive a kill."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from io import RawIOBase
from pathlib import Path
from types import TracebackType
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

from ..errors import BusyError, ConfigError, ModelFileError, SpikewrightError
from .atomic import (
    point,
    process_mark,
    quoted,
    read_bytes,
    reading,
    sweep,
    sync_folder,
    write_atomic,
    write_synced,
    writing,
)
from .formats import json_from_bytes, read_json

__all__ = ["RunFolder"]

LOCK = ".lock"
LINES_LIMIT = 256 << 20


class RunFolder:
    """A folder that one process at a time works in, as a context manager; reading its lines needs no lock.

    The lock is the file `.lock` with the process that holds it. One that a dead process left behind is reported, and
    taken with `take_over=True` only; one that a live process on this machine holds is never taken. A folder made here
    in which nothing was written is gone again at the end.
    """

    def __init__(self, path: Path, take_over: bool = False) -> None:
        self.path = Path(path)
        self.take_over = take_over
        self._made = False
        self._mine: dict[str, Any] | None = None

    def __enter__(self) -> RunFolder:
        """Create the folder, lock it, and clear what killed processes left half written.

        Raises `BusyError` when somebody else holds the lock, `ResourceError` or `ConfigError` when the folder cannot
        be made or written to.
        """
        self._made = not os.path.lexists(self.path)
        with writing(self.path):
            try:
                self._take()
            except FileNotFoundError:  # the process that made the folder has just removed it again
                self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        mine, self._mine = self._mine, None
        if mine and mine["pid"] == os.getpid() and self._holder() == mine:  # not in a forked child, not if taken over
            with suppress(OSError):
                (self.path / LOCK).unlink()
                if self._made:
                    self.path.rmdir()  # only if nothing came of it: a folder with files stays

    def append_line(self, name: str, obj: dict[str, Any]) -> None:
        """Add one JSON line to the file `name`, on the disk when this returns; a torn last line is dropped first.

        Raises `ResourceError` when it cannot be written, leaving the file as it was, and `ConfigError` when `obj` is
        not strict JSON (NaN and infinity are for the caller to replace by None).
        """
        path = self.path / name
        try:
            line = (json.dumps(obj, allow_nan=False) + "\n").encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise ConfigError(f"{quoted(path)} cannot hold this as JSON: {error}; write None instead") from error
        if _torn(path):
            self.truncate_lines(name, lambda _: True)
        with writing(path):
            new = not path.exists()
            with open(path, "ab", buffering=0) as file:
                size = file.seek(0, os.SEEK_END)
                try:
                    point("before-line")
                    _write_all(file, line[: len(line) // 2])
                    point("half-line")
                    _write_all(file, line[len(line) // 2 :])
                    point("line")
                    os.fsync(file.fileno())
                except BaseException:
                    with suppress(OSError):
                        file.truncate(size)
                    raise
            if new:
                sync_folder(self.path)

    def read_lines(self, name: str) -> list[dict[str, Any]]:
        """All whole lines of the file `name`, none if there is no such file; a torn last line is left out.

        Raises `ModelFileError` when a line before that is damaged, naming it.
        """
        return [obj for _, obj in self._lines(name)]

    def truncate_lines(self, name: str, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Keep the lines of the file `name` for which `keep` holds, byte for byte; drop the others and a torn last one.

        Raises `ModelFileError` for a damaged line and as `write_atomic`.
        """
        path = self.path / name
        kept = b"".join(line for line, obj in self._lines(name) if keep(obj))
        if path.exists() and kept != read_bytes(path, LINES_LIMIT):
            write_atomic(path, kept)

    def _lines(self, name: str) -> list[tuple[bytes, dict[str, Any]]]:
        path = self.path / name
        with reading(path):
            if not path.exists():
                return []
        lines = read_bytes(path, LINES_LIMIT).split(b"\n")[:-1]  # what follows the last newline is empty or torn
        parsed = []
        for number, line in enumerate(lines, 1):
            obj = json_from_bytes(Path(f"{path}:{number}"), line)
            if not isinstance(obj, dict):
                raise ModelFileError(f"{quoted(f'{path}:{number}')} is not a JSON object; restore it from a copy")
            parsed.append((line + b"\n", obj))
        return parsed

    def _take(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        with _alone(self.path):
            self._lock()

    def _lock(self) -> None:
        lock = self.path / LOCK
        if lock.exists() or lock.is_symlink():
            self._judge(self._holder())
            lock.unlink()
        sweep(self.path)
        mine = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": datetime.now().astimezone().isoformat(timespec="seconds"),
            "started": process_mark(os.getpid()),
        }
        try:
            write_synced(lock, json.dumps(mine).encode())
        except FileExistsError as error:
            raise BusyError(f"{quoted(self.path)} has just been taken by another process; {_REMEDY}") from error
        except BaseException:
            with suppress(OSError):
                lock.unlink()
            raise
        self._mine = mine

    def _holder(self) -> dict[str, Any]:
        """What `.lock` says; empty when it says nothing that can be read."""
        try:
            holder = read_json(self.path / LOCK)
        except SpikewrightError:
            return {}
        return holder if isinstance(holder, dict) else {}

    def _judge(self, holder: dict[str, Any]) -> None:
        """Raise `BusyError` unless the lock may be taken from `holder`."""
        stale = f"if nothing else runs there, take it over with --take-over; or {_REMEDY}"
        match holder:
            case {"pid": int(pid), "host": str(host), "since": str(since), "started": started} if pid > 0:
                who = f"process {pid} on {host[:80]!r} since {since[:40]!r}"
            case _:
                pid, host, started, who = 0, "", "", "a process that left no name"
        if pid and host == socket.gethostname():
            mark = process_mark(pid)
            if mark is not None and (not mark or not started or mark == started):
                raise BusyError(f"{quoted(self.path)} is in use by {who}; {_REMEDY}")
            who += ", which no longer runs"
        if not self.take_over:
            raise BusyError(f"{quoted(self.path)} is locked by {who}; {stale}")


_REMEDY = "wait for it or choose another folder with --out"


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the kernel's own lock on the folder, where there is one, so that two take-overs cannot cross."""
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _write_all(file: RawIOBase, data: bytes) -> None:
    while data:
        data = data[file.write(data) :]


def _torn(path: Path) -> bool:
    with suppress(OSError), open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
    return False
