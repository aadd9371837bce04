import hashlib
import io
import re
import stat
import struct
import tarfile
import time
import zipfile

import numpy as np
import pytest
from conftest import cifar_bytes, damages, packed, tar_bytes

from spikewright.data import archive, cifar
from spikewright.errors import DataError

BODY = b"the body of a member" * 50
WANTED = {"set/a": len(BODY), "set/b": 3}
PLAIN = [("set/a", BODY), ("set/readme", b"hello"), ("set/b", b"abc")]
NAMES = re.compile(r"in/[0-9]\.bin")


def read_tar(path):
    return dict(archive.tar_members(path, WANTED))


def read_zip(path):
    return dict(archive.zip_members(path, NAMES, 10_000, 100_000))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_tar(tmp_path, mode):
    (tmp_path / "t").write_bytes(tar_bytes(PLAIN, mode))
    assert read_tar(tmp_path / "t") == {"set/a": BODY, "set/b": b"abc"}


def strange(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


HOSTILE = {
    "parent": ("../evil", b"x"),
    "deep parent": ("set/../../evil", b"x"),
    "absolute": ("/etc/evil", b"x"),
    "drive": ("C:evil", b"x"),
    "backslash": ("set\\..\\evil", b"x"),
    "escape code": ("set/\x1b[31m", b"x"),
    "symlink": ("", strange("set/link", tarfile.SYMTYPE, "/etc/passwd")),
    "hardlink": ("", strange("set/link", tarfile.LNKTYPE, "set/a")),
    "device": ("", strange("set/null", tarfile.CHRTYPE)),
    "pipe": ("", strange("set/pipe", tarfile.FIFOTYPE)),
    "wanted as a link": ("", strange("set/a", tarfile.SYMTYPE, "b")),
    "twice": ("set/a", BODY),
    "other size": ("set/b", b"abcd"),
}


@pytest.mark.parametrize("case", HOSTILE)
@pytest.mark.parametrize("first", [True, False])
def test_hostile_tar(tmp_path, refused, case, first):
    members = [HOSTILE[case], *PLAIN] if first else [*PLAIN, HOSTILE[case]]
    (tmp_path / "t").write_bytes(tar_bytes(members, "w:gz"))
    refused(read_tar, tmp_path / "t")
    assert [p.name for p in tmp_path.iterdir()] == ["t"]


def header(name, size, kind=b"0"):
    """One raw tar header with any size, as tarfile would not write it."""
    if size < 0:
        field = (256**12 + size).to_bytes(12, "big")
    else:
        field = b"%011o\0" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big")
    raw = bytearray(512)
    raw[:100] = name.ljust(100, b"\0")
    raw[100:108], raw[124:136], raw[148:156], raw[156:157] = b"0000644\0", field, b" " * 8, kind
    raw[257:265] = b"ustar\x0000"
    raw[148:156] = b"%06o\0 " % sum(raw)
    return bytes(raw)


@pytest.mark.parametrize("size", [-512, -1, -(2**40), 2**31, 2**40, 2**62])
@pytest.mark.parametrize("kind", [b"0", b"x", b"g", b"L", b"5", b"S"])
@pytest.mark.parametrize("pack", [bytes, packed])
def test_declared_tar_sizes(tmp_path, refused, size, kind, pack):
    """A negative size once sent tarfile in circles; an extended header's size was read into memory on trust."""
    good = tar_bytes(PLAIN)
    (tmp_path / "t").write_bytes(pack(header(b"set/c", size, kind) + good))
    if kind == b"0":
        refused(read_tar, tmp_path / "t")
    for raw in (header(b"set/c", size, kind) + good, good[:3584] + header(b"set/c", size, kind) + bytes(2048)):
        (tmp_path / "t").write_bytes(pack(raw))
        start = time.perf_counter()
        try:
            # A folder's size means nothing, and tarfile takes a bad last header for the end: then all is as it was.
            assert read_tar(tmp_path / "t") == {"set/a": BODY, "set/b": b"abc"}
        except DataError as error:
            assert str(error).isprintable()
        assert time.perf_counter() - start < 2


def test_tar_bomb(tmp_path, refused):
    (tmp_path / "t").write_bytes(tar_bytes([("set/zeros", bytes(30_000_000)), *PLAIN], "w:gz"))
    assert "unpacks to more" in refused(read_tar, tmp_path / "t")


@pytest.mark.parametrize("damage", damages(tar_bytes(PLAIN, "w:gz")), ids=lambda case: case[0])
def test_damaged_tar(tmp_path, damage):
    (tmp_path / "t").write_bytes(damage[1])
    try:
        assert read_tar(tmp_path / "t") == {"set/a": BODY, "set/b": b"abc"}
    except DataError as error:
        assert str(error).isprintable()


def make_zip(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as out:
        for name, body in members:
            out.writestr(name, body)


def test_zip(tmp_path):
    make_zip(tmp_path / "z", [("in/2.bin", b"two"), ("in/", b""), ("in/1.bin", b"one"), ("readme", b"x")])
    assert list(archive.zip_members(tmp_path / "z", NAMES, 100, 100)) == [("in/1.bin", b"one"), ("in/2.bin", b"two")]


@pytest.mark.parametrize(
    "name", ["../in/1.bin", "/in/1.bin", "in/../../1.bin", "C:/1.bin", "in\\..\\1", "a\x1b", "\u202e"]
)
def test_hostile_zip_names(tmp_path, refused, name):
    make_zip(tmp_path / "z", [("in/1.bin", b"one"), (name, b"evil")])
    refused(read_zip, tmp_path / "z")
    assert [p.name for p in tmp_path.iterdir()] == ["z"]


def test_hostile_zips(tmp_path, refused):
    link = zipfile.ZipInfo("in/2.bin")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    make_zip(tmp_path / "z", [("in/1.bin", b"one"), (link, b"/etc/passwd")])
    assert "a link" in refused(read_zip, tmp_path / "z")
    with pytest.warns(UserWarning, match="Duplicate"):
        make_zip(tmp_path / "z", [("in/1.bin", b"one"), ("in/1.bin", b"two")])
    assert "twice" in refused(read_zip, tmp_path / "z")
    make_zip(tmp_path / "z", [("in/1.bin", bytes(20_000))])
    assert "20,000" in refused(read_zip, tmp_path / "z")
    make_zip(tmp_path / "z", [(f"in/{k}.bin", bytes(9_900)) for k in range(10)])
    assert "declares 99,000" in refused(lambda: list(archive.zip_members(tmp_path / "z", NAMES, 10_000, 50_000)))
    make_zip(tmp_path / "z", [("in/1.bin", b"one" * 100)], zipfile.ZIP_BZIP2)
    assert "method 12" in refused(read_zip, tmp_path / "z")
    make_zip(tmp_path / "z", [("in/1.bin", b"one" * 100)])
    raw = bytearray((tmp_path / "z").read_bytes())
    raw[raw.rindex(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "z").write_bytes(raw)
    assert "encrypted" in refused(read_zip, tmp_path / "z")


@pytest.mark.parametrize("size", [0, 1, 299, 301, 9_999, 2**31 - 1, 2**32 - 2])
def test_zip_that_lies_about_a_size(tmp_path, refused, size):
    make_zip(tmp_path / "z", [("in/1.bin", bytes(range(150)) * 2)])
    raw = bytearray((tmp_path / "z").read_bytes())
    entry = raw.rindex(b"PK\x01\x02")
    raw[entry + 24 : entry + 28] = struct.pack("<I", size)
    (tmp_path / "z").write_bytes(raw)
    refused(read_zip, tmp_path / "z")


def test_damaged_zip(tmp_path):
    out = io.BytesIO()
    make_zip(out, [("in/1.bin", np.random.default_rng(0).bytes(500)), ("in/2.bin", b"two" * 20)])
    (tmp_path / "z").write_bytes(out.getvalue())
    good, refusals = read_zip(tmp_path / "z"), 0
    for _, raw in damages(out.getvalue()):
        (tmp_path / "z").write_bytes(raw)
        try:
            found = read_zip(tmp_path / "z")
            assert all(good[name] == body for name, body in found.items())  # a damaged name may hide a member
        except DataError as error:
            assert str(error).isprintable()
            refusals += 1
    assert refusals > 15


# CIFAR-10's batches

IMAGES = np.random.default_rng(2).integers(0, 256, (4, 3, 32, 32), dtype=np.uint8)
LABELS = [3, 0, 9, 1]
BATCH = cifar_bytes(IMAGES, LABELS)


@pytest.fixture
def six(monkeypatch):
    """Six small batches in place of the published ones."""
    batches = {name: cifar_bytes(IMAGES[::-1], [k, 1, 2, 3]) for k, name in enumerate(cifar.BATCHES)}
    table = {name: (len(raw), hashlib.sha256(raw).hexdigest()) for name, raw in batches.items()}
    monkeypatch.setattr(cifar, "BATCHES", table)
    return batches


def test_cifar_batch():
    images, labels = cifar.parse_batch(BATCH, "here")
    assert (images == IMAGES).all() and labels.tolist() == LABELS
    assert images.dtype == np.uint8 and labels.dtype == np.int64


def test_cifar_batch_is_not_executed(tmp_path, refused):
    canary = tmp_path / "canary"
    for call in (b"cos\nsystem\n", b"cposix\nsystem\n", b"cbuiltins\neval\n"):
        command = f"touch {canary}".encode()
        evil = call + b"(U" + bytes([len(command)]) + command + b"tR"
        assert (cifar.parse_batch(cifar_bytes(IMAGES, LABELS, tail=evil), "here")[0] == IMAGES).all()
        refused(cifar.parse_batch, b"\x80\x02" + evil + b".", "here")
    assert not canary.exists()


@pytest.mark.parametrize("labels", [[3, 0, 9], [3, 0, 9, 1, 1], [3, 0, 10, 1], []])
def test_cifar_labels(refused, labels):
    refused(cifar.parse_batch, cifar_bytes(IMAGES, labels), "here")


@pytest.mark.parametrize(
    "claim", [b"T\xff\xff\xff\x7f", b"T\xff\xff\xff\xff", b"\x8e" + b"\xff" * 8, b"\x8b\xff\xff\xff\x7f"]
)
def test_cifar_declared_sizes(refused, claim):
    refused(cifar.parse_batch, BATCH[:200] + claim + BATCH[200:], "here")
    refused(cifar.parse_batch, b"\x80\x02U\x04data" + claim, "here")


def test_cifar_folder_and_archive(tmp_path, six, refused):
    for name, raw in six.items():
        (tmp_path / name).write_bytes(raw)
    assert dict(cifar.folder_batches(tmp_path)) == six
    members = [("cifar-10-batches-py/readme.html", b"x"), *((f"{cifar.FOLDER}/{k}", v) for k, v in six.items())]
    (tmp_path / "t").write_bytes(tar_bytes(members, "w:xz"))
    assert dict(cifar.archive_batches(tmp_path / "t")) == six
    (tmp_path / "t").write_bytes(tar_bytes(members[:-1], "w:gz"))
    assert "lacks 'cifar-10-batches-py/test_batch'" in refused(lambda: list(cifar.archive_batches(tmp_path / "t")))
    members[1] = members[1][0], members[1][1][:-5] + b"?" + members[1][1][-4:]
    (tmp_path / "t").write_bytes(tar_bytes(members, "w:gz"))
    assert "SHA-256" in refused(lambda: list(cifar.archive_batches(tmp_path / "t")))


@pytest.mark.parametrize("damage", damages(BATCH), ids=lambda case: case[0])
def test_damaged_cifar_batch(tmp_path, six, refused, damage):
    for name, raw in six.items():
        (tmp_path / name).write_bytes(raw)
    (tmp_path / "test_batch").write_bytes(damage[1])
    assert "test_batch" in refused(lambda: list(cifar.folder_batches(tmp_path)))
    try:
        cifar.parse_batch(damage[1], "here")  # without its checksum a batch may pass or not, but cleanly
    except DataError as error:
        assert str(error).isprintable()
