"""A cache of its own and no network for every test here; files in the real formats; the real sets where they lie."""

import gzip
import io
import os
import struct
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from spikewright.data import download
from spikewright.errors import DataError

_given = os.environ.get("SPIKEWRIGHT_DATA")
REAL = Path(_given) if _given else Path(__file__).resolve().parents[3] / "shared" / "data"


class NoNetwork:
    def open(self, url, data=None, timeout=0.0):
        raise OSError("no network in tests")


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SPIKEWRIGHT_DATA", raising=False)
    monkeypatch.setattr(download, "https_opener", NoNetwork)
    monkeypatch.setattr(download.shutil, "which", lambda name: None)


@pytest.fixture
def refused():
    """Calls something that must end in one clean DataError line, quickly; returns the line."""

    def check(call, *arguments, error=DataError, **options):
        start = time.perf_counter()
        with pytest.raises(error) as caught:
            call(*arguments, **options)
        line = str(caught.value)
        assert line and line.isprintable(), repr(line)
        assert time.perf_counter() - start < 2
        return line

    return check


@pytest.fixture
def real():
    def find(name):
        if not (REAL / name).exists():
            pytest.skip(f"no real {name} here")
        return REAL

    return find


def idx_bytes(array):
    array = np.asarray(array, dtype=np.uint8)
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def cifar_bytes(images, labels, tail=b""):
    """A batch as Python 2 and an old NumPy pickled it, protocol 2."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    pixels = np.asarray(images, dtype=np.uint8).tobytes()
    out = b"\x80\x02}q\x01(" + text(b"batch_label") + b"q\x02" + text(b"training batch 1 of 5") + b"q\x03"
    out += text(b"labels") + b"q\x04]q\x05(" + b"".join(b"K" + bytes([k]) for k in labels) + b"e"
    out += (
        text(b"data") + b"q\x06cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85" + text(b"b")
    )
    out += b"\x87Rq\x09(K\x01J" + struct.pack("<i", len(labels)) + b"M\x00\x0c\x86cnumpy\ndtype\nq\x0a" + text(b"u1")
    out += b"K\x00K\x01\x87Rq\x0b(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    out += b"T" + struct.pack("<I", len(pixels)) + pixels + b"tb"
    out += text(b"filenames") + b"q\x0c]q\x0d(" + b"".join(text(b"image_%d.png" % k) for k in labels) + b"e" + tail
    return out + b"u."


def recording_bytes(x, y, p, t):
    x, y, p, t = (np.asarray(v, dtype=np.int64) for v in (x, y, p, t))
    return np.stack([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8).tobytes()


def tar_bytes(members, mode="w"):
    """Members: name -> bytes, or a TarInfo for anything but a plain file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:
        for name, body in members:
            if isinstance(body, tarfile.TarInfo):
                tar.addfile(body)
                continue
            info = tarfile.TarInfo(name)
            info.size = len(body)
            tar.addfile(info, io.BytesIO(body))
    return out.getvalue()


def damages(good):
    """Ways in which a file gets damaged: (name, bytes)."""
    rng = np.random.default_rng(0)
    cases = [("empty", b""), ("one byte", good[:1]), ("zeros", bytes(len(good))), ("text", b"<html>404</html>\n" * 40)]
    for cut in (3, 7, len(good) // 2, len(good) - 1):
        cases.append((f"cut at {cut}", good[:cut]))
    for place in [0, 1, 2, 3, 5, *rng.integers(0, len(good), 12).tolist()]:
        flipped = bytearray(good)
        flipped[place] ^= 1 << int(rng.integers(8))
        cases.append((f"flip at {place}", bytes(flipped)))
    for place in (0, 4, len(good) // 2, len(good)):
        cases.append((f"insert at {place}", good[:place] + b"\x07\x00\xff" + good[place:]))
    return cases


def packed(data):
    return gzip.compress(data, mtime=0)
