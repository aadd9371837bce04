"""CIFAR-10's "python version": six batches of 10,000 colour images, each a Python 2 pickle.

A pickle is a program, so none is ever run. `pickletools.genops` only lists the instructions; the pixel bytes and the
labels are arguments of two of them.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from spikewright.data.archive import tar_members
from spikewright.data.files import DECODER_ERRORS, check_sha256, quoted, read_exactly, regular_size, unpacked
from spikewright.errors import DataError

FOLDER = "cifar-10-batches-py"
ARCHIVES = ("cifar-10-python.tar.gz", "cifar-10-python.tar.xz")
ROW = 3 * 32 * 32

# File -> (bytes, SHA-256). The class names in batches.meta are known, so that file is not read.
BATCHES: dict[str, tuple[int, str]] = {
    "data_batch_1": (31_035_704, "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"),
    "data_batch_2": (31_035_320, "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8"),
    "data_batch_3": (31_035_999, "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9"),
    "data_batch_4": (31_035_696, "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b"),
    "data_batch_5": (31_035_623, "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154"),
    "test_batch": (31_035_526, "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831"),
}


def parse_batch(raw: bytes | bytearray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of one batch, from the bytes of its pickle, which is not executed.

    Returns: images uint8 `[N, 3, 32, 32]`, labels int64 `[N]`.
    Raises DataError: not a batch, pixels and labels of different number, a label outside 0..9.
    """
    pixels, key = b"", ""
    labels: list[int] = []
    try:
        for opcode, argument, _ in pickletools.genops(raw):
            if isinstance(argument, (str, bytes)) and opcode.name != "GLOBAL":
                text = argument if isinstance(argument, str) else argument.decode("latin-1")
                if key == "data" and len(text) >= ROW:
                    pixels = text.encode("latin-1")
                elif opcode.name in ("SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "SHORT_BINBYTES"):
                    key = text if text in ("data", "labels", "filenames", "batch_label") else key
            elif key == "labels" and isinstance(argument, int) and opcode.name in ("BININT1", "BININT", "BININT2"):
                labels.append(argument)
    except DECODER_ERRORS as error:
        raise DataError(f"{where} is not a CIFAR batch: {type(error).__name__}; fetch or copy it again") from None
    count = len(pixels) // ROW
    if not count or len(pixels) != count * ROW or len(labels) != count:
        raise DataError(
            f"{where} holds {len(pixels):,} pixel bytes and {len(labels):,} labels, expected {ROW:,} bytes a label; "
            "fetch or copy it again"
        )
    if not all(0 <= label <= 9 for label in labels):
        raise DataError(f"{where} holds a label outside 0..9; fetch or copy it again")
    images = np.frombuffer(bytearray(pixels), dtype=np.uint8).reshape(count, 3, 32, 32)
    return images, np.asarray(labels, dtype=np.int64)


def folder_batches(folder: Path) -> Iterator[tuple[str, bytearray]]:
    """The six batches of the unpacked folder, each checked against its SHA-256."""
    for name, (size, sha256) in BATCHES.items():
        path = folder / name
        found = regular_size(path)
        if found != size:
            raise DataError(
                f"{quoted(path)} has {found:,} bytes, expected {size:,}; it is damaged, fetch or copy it again"
            )
        with unpacked(path, "a CIFAR batch") as stream:
            raw = read_exactly(stream, size, quoted(path))
        check_sha256(raw, sha256, quoted(path))
        yield name, raw


def archive_batches(path: Path) -> Iterator[tuple[str, bytearray]]:
    """The six batches of the published tar file, each checked against its SHA-256, in the archive's order."""
    wanted = {f"{FOLDER}/{name}": size for name, (size, _) in BATCHES.items()}
    for member, raw in tar_members(path, wanted):
        name = member.removeprefix(f"{FOLDER}/")
        check_sha256(raw, BATCHES[name][1], f"{quoted(path)}: {member!r}")
        yield name, raw
