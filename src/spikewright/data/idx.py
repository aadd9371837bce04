"""IDX, the format of MNIST and Fashion-MNIST: a big-endian header of sizes, then one byte per value."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from spikewright.data.files import check_sha256, quoted, read_exactly, unpacked
from spikewright.errors import DataError

BUDGET = 1 << 30  # bytes; twenty times MNIST's largest file


def read(path: Path, *, ndim: int, sha256: str | None = None, budget: int = BUDGET) -> np.ndarray:
    """An IDX file of unsigned bytes, gzip-compressed or not.

    Args:
        ndim: 3 for images `[N, H, W]`, 1 for labels `[N]`.
        sha256: of the unpacked file; None reads a file that no table knows.
        budget: the most bytes the header may declare.

    Returns: uint8 array with the declared shape, writable.
    Raises DataError: wrong magic, sizes that are zero, over the budget or not the file's, damage, another checksum.
    """
    where = quoted(path)
    with unpacked(path, "an IDX file") as stream:
        header = stream.read(4 + 4 * ndim)
        magic = bytes((0, 0, 8, ndim))  # 8: unsigned byte
        if header[:4] != magic:
            raise DataError(
                f"{where} starts with {header[:4].hex() or 'nothing'}, expected {magic.hex()} "
                f"(IDX, unsigned bytes, {ndim} dimensions); put the published file in its place"
            )
        if len(header) != 4 + 4 * ndim:
            raise DataError(f"{where} ends inside its header; it is damaged, fetch or copy it again")
        shape = tuple(int.from_bytes(header[4 + 4 * i : 8 + 4 * i], "big") for i in range(ndim))
        size = math.prod(shape)
        if not 0 < size <= budget:
            raise DataError(
                f"{where} declares the shape {shape}, {size:,} bytes, expected 1 to {budget:,}; "
                "it is damaged, fetch or copy it again"
            )
        data = read_exactly(stream, size, f"{where}, after its header,")
    if sha256 is not None:
        check_sha256(bytes(header) + data, sha256, where)
    return np.frombuffer(data, dtype=np.uint8).reshape(shape)
