"""Reading and writing files with bounds: what every reader of this package stands on.

A name that comes from outside is printed with `repr`, so no control byte of it reaches a terminal. A file is read no
further than it may be, and written under a temporary name until it is whole.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import lzma
import os
import stat
import struct
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from spikewright.errors import DataError, ResourceError

GZIP, XZ = b"\x1f\x8b", b"\xfd7zXZ"

# What the standard library's decoders raise on bytes they cannot make sense of.
DECODER_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    LookupError,
    RuntimeError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    tarfile.TarError,
    zipfile.BadZipFile,
)


class ChecksumError(DataError):
    """Bytes that are not the ones expected; `found` is their SHA-256."""

    def __init__(self, message: str, found: str) -> None:
        super().__init__(message)
        self.found = found


def quoted(path: str | os.PathLike[str]) -> str:
    """The path in quotes, with control characters and undecodable bytes escaped."""
    return repr(os.fspath(path))


def reason(error: BaseException) -> str:
    """The text of a foreign exception on one line, without raw control characters."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text[:200] or type(error).__name__


def regular_size(path: Path) -> int:
    """Bytes of a regular file; DataError for anything else, since opening a pipe or a device may never return."""
    try:
        info = os.stat(path)
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {quoted(path)}: {reason(error)}; check the path and its permissions") from None
    if not stat.S_ISREG(info.st_mode):
        kind = "a directory" if stat.S_ISDIR(info.st_mode) else "a pipe, device or socket"
        raise DataError(f"{quoted(path)} is {kind}, expected a regular file; put the published file in its place")
    return info.st_size


@contextlib.contextmanager
def decoding(path: str | os.PathLike[str], what: str) -> Iterator[None]:
    """Turns whatever a decoder raises inside the block into one DataError that names the file."""
    try:
        yield
    except DataError:
        raise
    except DECODER_ERRORS as error:
        raise DataError(
            f"{quoted(path)} cannot be read as {what}: {reason(error)}; it is damaged, fetch or copy it again"
        ) from None


@contextlib.contextmanager
def unpacked(path: Path, what: str) -> Iterator[BinaryIO]:
    """The file's bytes as a stream, decompressed on the way if it starts like gzip or xz."""
    regular_size(path)
    with decoding(path, what), open(path, "rb") as raw:
        magic = raw.read(6)
        raw.seek(0)
        if magic.startswith(GZIP):
            with gzip.open(raw, "rb") as stream:
                yield cast(BinaryIO, stream)
        elif magic.startswith(XZ):
            with lzma.open(raw, "rb") as stream:
                yield cast(BinaryIO, stream)
        else:
            yield raw


def read_exactly(stream: BinaryIO, size: int, where: str) -> bytearray:
    """`size` bytes and then the end of the stream; DataError, naming `where`, if it is shorter or longer."""
    data = bytearray()
    while len(data) <= size:  # one byte more than wanted shows a longer stream without reading it
        piece = stream.read(min(size + 1 - len(data), 1 << 22))
        if not piece:
            break
        data += piece
    if len(data) != size:
        found = f"only {len(data):,}" if len(data) < size else f"more than {size:,}"
        raise DataError(f"{where} holds {found} bytes, expected {size:,}; it is damaged, fetch or copy it again")
    return data


def check_sha256(data: bytes | bytearray, expected: str, where: str) -> None:
    """ChecksumError unless the SHA-256 of `data` is `expected`."""
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise ChecksumError(
            f"{where} has SHA-256 {found[:16]}..., expected {expected[:16]}...; "
            "it is damaged or another version, delete it and fetch or copy the published file again",
            found,
        )


def _sweep(folder: Path) -> None:
    """Removes what a process that was killed left here a day ago or longer."""
    for stale in folder.glob(".part-*"):
        with contextlib.suppress(OSError):
            if time.time() - stale.stat().st_mtime > 86_400:
                stale.unlink()


@contextlib.contextmanager
def becoming(target: Path) -> Iterator[BinaryIO]:
    """A temporary file beside `target` that takes its name, in one step, when the block ends without an error.

    Raises ResourceError when the disk is full, DataError when the folder cannot be written.
    """
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        with tempfile.NamedTemporaryFile(prefix=".part-", dir=target.parent, delete=False) as stream:
            temporary = stream.name
            yield cast(BinaryIO, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ResourceError(f"no space left for {quoted(target)}; free some, or set XDG_CACHE_HOME") from None
        raise DataError(
            f"cannot write {quoted(target)}: {reason(error)}; set XDG_CACHE_HOME to a folder you can write"
        ) from None
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
