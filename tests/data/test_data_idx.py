import hashlib
import os
import struct

import numpy as np
import pytest
from conftest import damages, idx_bytes, packed

from spikewright.data import idx

IMAGES = np.random.default_rng(1).integers(0, 256, (5, 6, 7), dtype=np.uint8)
GOOD = idx_bytes(IMAGES)
SHA = hashlib.sha256(GOOD).hexdigest()


@pytest.mark.parametrize("pack", [bytes, packed])
def test_reads_what_was_written(tmp_path, pack):
    path = tmp_path / "images"
    path.write_bytes(pack(GOOD))
    read = idx.read(path, ndim=3, sha256=SHA)
    assert read.dtype == np.uint8 and read.flags.writeable and (read == IMAGES).all()
    path.write_bytes(pack(idx_bytes([3, 1, 2])))
    assert idx.read(path, ndim=1).tolist() == [3, 1, 2]


@pytest.mark.parametrize("pack", [bytes, packed])
@pytest.mark.parametrize("damage", damages(GOOD), ids=lambda case: case[0])
def test_damage_under_a_checksum(tmp_path, refused, damage, pack):
    path = tmp_path / "im\x1bages"
    path.write_bytes(pack(damage[1]))
    assert "im\\x1bages" in refused(idx.read, path, ndim=3, sha256=SHA)


@pytest.mark.parametrize("damage", damages(packed(GOOD)), ids=lambda case: case[0])
def test_damage_of_the_gzip(tmp_path, damage):
    """A flip in the gzip header's time stamp changes nothing; all else is refused."""
    path = tmp_path / "images"
    path.write_bytes(damage[1])
    try:
        assert (idx.read(path, ndim=3, sha256=SHA) == IMAGES).all()
    except idx.DataError as error:
        assert str(error).isprintable() and "images" in str(error)


@pytest.mark.parametrize("shape", [(2**32 - 1,) * 3, (2**31, 1, 1), (0, 6, 7), (1 << 30, 2, 2), (5, 6, 8), (5, 6, 6)])
def test_declared_sizes(tmp_path, refused, shape):
    path = tmp_path / "images"
    for pack in (bytes, packed):
        path.write_bytes(pack(bytes((0, 0, 8, 3)) + struct.pack(">3I", *shape) + IMAGES.tobytes()))
        refused(idx.read, path, ndim=3)


@pytest.mark.parametrize("magic", [b"\0\0\x0d\x03", b"\0\0\x08\x01", b"\x08\0\0\x03", b"PK\x03\x04", b"\x93NUM"])
def test_wrong_magic(tmp_path, refused, magic):
    (tmp_path / "images").write_bytes(magic + GOOD[4:])
    assert "starts with" in refused(idx.read, tmp_path / "images", ndim=3)


def test_bomb_stops_at_the_declared_size(tmp_path, refused):
    (tmp_path / "images").write_bytes(packed(GOOD + bytes(50_000_000)))
    assert "more than 210" in refused(idx.read, tmp_path / "images", ndim=3)


def test_things_that_are_not_files(tmp_path, refused):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert "a directory" in refused(idx.read, tmp_path / "folder", ndim=3)
    assert "a pipe" in refused(idx.read, tmp_path / "pipe", ndim=3)
    refused(idx.read, tmp_path / "absent", ndim=3)
    refused(idx.read, tmp_path / "nul\0", ndim=3)
    (tmp_path / "locked").write_bytes(GOOD)
    (tmp_path / "locked").chmod(0)
    if not os.access(tmp_path / "locked", os.R_OK):
        assert "Permission" in refused(idx.read, tmp_path / "locked", ndim=3)
