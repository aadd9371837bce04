"""One file or one folder at a time: written whole or not at all, read with its size checked first.

A temporary name is `.tmp-<pid>-<nonce>` beside its target; what a killed process left behind is known by the pid, and
`sweep` removes it. Writing fails with `ResourceError` (no space, no permission, no folder) or, when the path itself is
wrong, `ConfigError`. Reading fails with `ConfigError` when there is nothing to read and with `ModelFileError` when
what is there is damaged.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import ConfigError, ModelFileError, ResourceError

_TEMPORARY = re.compile(r"\.tmp-(\d+)-[0-9a-f]{8}")
_OPEN: set[str] = set()  # the temporary names that this process is working on
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_WRONG_PATH = {errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}
_NOT_THERE = _WRONG_PATH | {errno.ENOENT, errno.EACCES, errno.EPERM}
_EXHAUSTED = {errno.ENOMEM, errno.EMFILE, errno.ENFILE}

_fault: Callable[[str], None] | None = None
"""Called with the name of each phase of a write; a test sets it to kill the process or to raise there."""


def cache_dir() -> Path:
    """The user's cache: `$XDG_CACHE_HOME/spikewright` or `~/.cache/spikewright`."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(root) if os.path.isabs(root) else Path.home() / ".cache") / "spikewright"


def point(phase: str) -> None:
    """Say to the tests' fault hook, if there is one, which phase of a write has been reached."""
    if _fault is not None:
        _fault(phase)


def quoted(path: Path | str) -> str:
    """A path for a message, with control characters escaped."""
    return repr(str(path))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn any `OSError` inside into one line that names `path` and the remedy."""
    try:
        yield
    except OSError as error:
        what = f"{quoted(path)} cannot be written: {error.strerror or error}"
        if error.errno in _FULL:
            raise ResourceError(f"{what}; free some space or choose a folder on another disk") from error
        if error.errno in _WRONG_PATH:
            raise ConfigError(f"{what}; choose another path") from error
        raise ResourceError(f"{what}; check that the folder exists and that you may write there") from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """The same for reading: nothing there, out of memory or descriptors, or damage."""
    try:
        yield
    except MemoryError as error:
        raise ResourceError(f"{quoted(path)} does not fit into memory; use a machine with more") from error
    except OSError as error:
        what = f"{quoted(path)} cannot be read: {error.strerror or error}"
        if error.errno in _EXHAUSTED:
            raise ResourceError(f"{what}; close other programs or raise their limits") from error
        if error.errno in _NOT_THERE:
            raise ConfigError(f"{what}; check the path and its permissions") from error
        raise ModelFileError(f"{what}; the disk may be failing, restore the file from a copy") from error


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable, where the file system can sync a folder at all."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def write_synced(path: Path, data: bytes) -> None:
    """Write a new file and flush it to the disk; raises bare `OSError` and may leave a part behind."""
    view, half = memoryview(data), len(data) // 2
    point("before-open")
    with open(path, "xb") as file:
        point("opened")
        file.write(view[:half])
        file.flush()
        point("half-written")
        file.write(view[half:])
        file.flush()
        point("written")
        os.fsync(file.fileno())
    point("synced")


@contextmanager
def temporary(folder: Path) -> Iterator[Path]:
    """A new name in `folder` for a file or a folder; what still bears it at the end is removed."""
    temp = folder / f".tmp-{os.getpid()}-{secrets.token_hex(4)}"
    _OPEN.add(temp.name)
    try:
        yield temp
    finally:
        _OPEN.discard(temp.name)
        _remove(temp)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove the temporary files and folders of processes that no longer run."""
    for name in os.listdir(folder):
        if match := _TEMPORARY.fullmatch(name):
            pid = int(match[1])
            in_use = name in _OPEN if pid == os.getpid() else process_mark(pid) is not None
            if not in_use:
                _remove(folder / name)


def process_mark(pid: int) -> str | None:
    """What tells process `pid` from a later one of the same number ("" if unknown); None when no such process runs."""
    with suppress(OSError, ValueError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # from the third field, the state, on
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return None if fields[0] in "ZX" else f"{boot}:{fields[19]}"
    if os.name == "nt":  # os.kill would end the process there
        return ""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return None
    except PermissionError:
        pass
    return ""


def write_atomic(path: Path, data: bytes) -> None:
    """Replace the file `path` by `data`: whoever reads it, at whatever moment, finds all of the old or all of the new.

    Raises `ResourceError` or `ConfigError` when it cannot be written; the old file is then untouched.
    """
    path = Path(path)
    with writing(path):
        with temporary(path.parent) as temp:
            write_synced(temp, data)
            os.replace(temp, path)
            point("renamed")
        sync_folder(path.parent)


def publish(folder: Path, files: dict[str, bytes]) -> None:
    """Write `files` into a new folder that appears under its name complete or not at all.

    Raises `ResourceError` or `ConfigError` when it cannot be written.
    """
    with writing(folder):
        sweep(folder.parent)
        with temporary(folder.parent) as temp:
            point("before-folder")
            temp.mkdir()
            for name, data in files.items():
                write_synced(temp / name, data)
            sync_folder(temp)
            point("folder-synced")
            os.rename(temp, folder)
            point("folder-renamed")
        sync_folder(folder.parent)
        point("committed")


def read_bytes(path: Path, limit: int | None = None, follow: bool = True) -> bytes:
    """All of a regular file, refused before any of it is read when it holds more than `limit` bytes.

    Without a limit, the memory of the machine is the limit; with `follow=False` a symbolic link is refused.

    Raises `ConfigError` (no such file, no permission, not a file), `ModelFileError` (too large, the disk fails) or
    `ResourceError` (out of memory or descriptors).
    """
    with reading(path):
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)  # a FIFO must not block
        descriptor = os.open(path, flags | (0 if follow else getattr(os, "O_NOFOLLOW", 0)))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ConfigError(f"{quoted(path)} is not a regular file; choose another path")
        with open(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            if limit is not None and size > limit:
                raise ModelFileError(
                    f"{quoted(path)} holds {size} bytes, expected at most {limit}; it is damaged or something else"
                )
            if size > _physical_memory():
                raise MemoryError
            return file.read(size)


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 62
