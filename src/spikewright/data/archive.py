"""Tar and zip archives, read member by member into memory: nothing is ever unpacked to a path an archive chose.

Only members asked for by name are read, each no further than its known size. An archive with a name that leads
elsewhere, a link or a device is refused whole: nobody publishes such a data set by accident.
"""

from __future__ import annotations

import io
import re
import stat
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from spikewright.data.files import decoding, quoted, read_exactly, regular_size, unpacked
from spikewright.errors import DataError

SLACK = 1 << 20  # bytes of headers, readmes and padding allowed in a tar beside its known members
RATIO = 100  # a zip of real recordings shrinks by less than two; more than this is a bomb


def tar_members(path: Path, wanted: Mapping[str, int]) -> Iterator[tuple[str, bytearray]]:
    """The wanted members (name -> size in bytes) of a tar file, plain, gzip or xz, in the order they lie in it.

    Raises DataError: a member missing, twice, of another size or not a regular file; hostile names and links; damage;
    more bytes than the wanted members account for.
    """
    where = quoted(path)
    missing = set(wanted)
    with unpacked(path, "a tar archive") as stream:
        source = _Forward(stream, sum(wanted.values()) + SLACK, max(wanted.values()) + SLACK, where)
        with tarfile.open(fileobj=source, mode="r:") as tar:
            for member in tar:
                _check_name(member.name, where)
                if not (member.isreg() or member.isdir()):
                    raise DataError(f"{where} holds {member.name!r}, a link or device; get the published archive")
                if member.size < 0:
                    raise DataError(f"{where}: {member.name!r} declares {member.size} bytes; get the published archive")
                if member.name not in wanted:
                    continue
                size = wanted[member.name]
                if member.name not in missing:
                    raise DataError(f"{where} holds {member.name!r} twice; get the published archive")
                if not member.isreg() or member.size != size:
                    raise DataError(
                        f"{where}: {member.name!r} has {member.size:,} bytes, expected a file of {size:,}; "
                        "get the published archive"
                    )
                missing.remove(member.name)
                body = tar.extractfile(member)
                yield member.name, read_exactly(body or io.BytesIO(), size, f"{where}: {member.name!r}")  # type: ignore[arg-type]
    if missing:
        raise DataError(f"{where} lacks {sorted(missing)[0]!r}; get the published archive")


def zip_members(path: Path, pattern: re.Pattern[str], largest: int, budget: int) -> Iterator[tuple[str, bytearray]]:
    """The members of a zip file whose whole name matches, in order of name.

    Args:
        largest: the most bytes one member may declare.
        budget: the most bytes all of them may declare together.

    Raises DataError: hostile names and links, duplicates, members that overlap or declare too much, damage.
    """
    where = quoted(path)
    packed = regular_size(path)
    with decoding(path, "a zip archive"), zipfile.ZipFile(path) as archive:
        chosen: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            _check_name(info.orig_filename, where)
            if stat.S_ISLNK(info.external_attr >> 16):
                raise DataError(f"{where} holds {info.filename!r}, a link; get the published archive")
            if not pattern.fullmatch(info.filename):
                continue
            if info.filename in chosen:
                raise DataError(f"{where} holds {info.filename!r} twice; get the published archive")
            if info.file_size > largest:
                raise DataError(
                    f"{where}: {info.filename!r} declares {info.file_size:,} bytes, expected at most {largest:,}; "
                    "get the published archive"
                )
            if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise DataError(
                    f"{where}: {info.filename!r} is encrypted or packed by method {info.compress_type}, "
                    "expected stored or deflated; get the published archive"
                )
            chosen[info.filename] = info
        total = sum(info.file_size for info in chosen.values())
        if total > min(budget, RATIO * packed) or sum(info.compress_size for info in chosen.values()) > packed:
            raise DataError(
                f"{where} has {packed:,} bytes and declares {total:,} unpacked, expected at most "
                f"{min(budget, RATIO * packed):,}; get the published archive"
            )
        for name in sorted(chosen):
            with archive.open(chosen[name]) as body:
                yield name, read_exactly(body, chosen[name].file_size, f"{where}: {name!r}")  # type: ignore[arg-type]


def _check_name(name: str, where: str) -> None:
    parts = re.split(r"[/\\]", name)
    if ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:", name) or not name.isprintable():
        raise DataError(f"{where} holds a member named {name[:100]!r}, which leads outside; get the published archive")


class _Forward(io.RawIOBase):
    """A stream that only goes forward and only so far.

    Guards `tarfile`, which trusts declared sizes: a header of extended attributes may claim gigabytes, a negative size
    makes it seek back and read the same member for ever.
    """

    def __init__(self, stream: BinaryIO, limit: int, largest: int, where: str) -> None:
        self._stream, self._limit, self._largest, self._where = stream, limit, largest, where
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or offset < self._position:
            raise DataError(f"{self._where} declares a negative size; get the published archive")
        self._refuse_beyond(offset)
        while self._position < offset and self.read(min(offset - self._position, 1 << 20)):
            pass
        return self._position

    def read(self, size: int = -1) -> bytes:
        if size < 0 or size > self._largest:
            raise DataError(f"{self._where} declares a part of {size:,} bytes; get the published archive")
        self._refuse_beyond(self._position + size)
        data = self._stream.read(size)
        self._position += len(data)
        return data

    def _refuse_beyond(self, position: int) -> None:
        # Blocks are 512 bytes and records 10,240: reading may run past the last member by that much.
        if position > self._limit:
            raise DataError(
                f"{self._where} unpacks to more than {self._limit:,} bytes, expected less; get the published archive"
            )
