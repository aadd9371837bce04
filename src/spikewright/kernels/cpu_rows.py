"""What the loops of `cpu_loops` do that no kind of neuron changes: a call's record, its tiles, rows in and rows out.

Rows are float32 inside the loops. A float32 row in memory is used where it lies; a bfloat16 one passes through scratch,
and so do spikes that leave as means over windows.
"""

# mypy: ignore-errors
# (Numba's Python: functions are generic)

from __future__ import annotations

import numpy as np
from numba import float32, from_dtype, njit, uint16, void
from numba.types import CPointer

from spikewright.kernels.machine import at, bf16, from_bf16

__all__ = [
    "CALL",
    "SIGNATURE",
    "SLOT",
    "TAKEN",
    "copied",
    "extent",
    "filled",
    "hand_on",
    "narrow",
    "read",
    "taken_back",
]

_COUNTS = "taken slot tiles width steps neurons x_step s_step x_bytes s_bytes per_thread pool height across channels"
_ADDRESSES = "here x v0 age0 s v age g dx gv dv0 sums scratch"
_NUMBERS = "decay gain v_init keep shift attached never"
CALL = np.dtype(
    [(name, np.int64) for name in f"{_COUNTS} {_ADDRESSES}".split()]
    + [(name, np.float32) for name in _NUMBERS.split()]
    + [(name, np.float64) for name in ["v_th", "a", "b", "c", "d"]],
    align=True,
)
"""One call: how much (counts, in elements), where (addresses; 0 for none), and the neuron's numbers. Threads share the
counters `taken` and `slot`, which begin at 0; 2 bytes an element are bfloat16, 4 float32; `a` to `d` are the
surrogate's own numbers."""

TAKEN, SLOT = CALL.fields["taken"][1], CALL.fields["slot"][1]
SIGNATURE = void(CPointer(from_dtype(CALL)))


@njit
def extent(call, tile):
    """A tile's first neuron and number of neurons, its first output and number of outputs."""
    pool = call.pool
    if pool:
        bands = call.height // pool
        image, band = tile // bands, tile % bands
        lines = pool if band < bands - 1 else call.height - pool * band
        line = call.across * call.channels
        outputs = call.across // pool * call.channels
        return (image * call.height + band * pool) * line, lines * line, tile * outputs, outputs
    lo = tile * call.width
    n = min(call.width, call.neurons - lo)
    return lo, n, lo, n


@njit
def filled(row, value):
    """Set a row to a value."""
    for i in range(len(row)):
        row[i] = value


@njit
def copied(source, row, otherwise):
    """Fill a row from an address, or with a value where the address is 0."""
    if source:
        given = at(source, len(row), float32)
        for i in range(len(row)):
            row[i] = given[i]
    else:
        filled(row, otherwise)


@njit
def wide(source, row):
    """Fill a row from the bfloat16 at an address."""
    bits = at(source, len(row), uint16)
    for i in range(len(row)):
        row[i] = from_bf16(bits[i])


@njit
def narrow(row, target):
    """Round a row to the bfloat16 at an address."""
    bits = at(target, len(row), uint16)
    for i in range(len(row)):
        bits[i] = bf16(row[i])


@njit
def read(source, n, bytes_each, scratch):
    """The address of n float32 that lie at `source`, or have been widened into scratch."""
    if bytes_each == 4:
        return source
    wide(source, at(scratch, n, float32))
    return scratch


@njit
def _window(call, row, column, k):
    """All channels of the k-th pixel of a window in the band at `row`."""
    pixel = (k // call.pool) * call.across + column * call.pool + k % call.pool
    return at(row + 4 * pixel * call.channels, call.channels, float32)


@njit(error_model="numpy")  # Python's would look for a division by zero at every element
def hand_on(call, row, n, target):
    """Bring a row of n spikes in scratch to its place, as means over windows where the call pools. Overwrites it."""
    if not call.pool:
        narrow(at(row, n, float32), target)
        return
    channels = call.channels
    area = float32(call.pool * call.pool)
    for column in range(call.across // call.pool):
        first = _window(call, row, column, 0)
        for k in range(1, call.pool * call.pool):
            other = _window(call, row, column, k)
            for c in range(channels):
                first[c] += other[c]
        if call.s_bytes == 4:
            means = at(target + 4 * column * channels, channels, float32)
            for c in range(channels):
                means[c] = first[c] / area
        else:
            for c in range(channels):
                first[c] /= area
            narrow(first, target + 2 * column * channels)


@njit(error_model="numpy")
def taken_back(call, source, row, n, means):
    """The gradient of `hand_on`: the address of n float32, for the spikes, from what lies at `source`."""
    if not call.pool:
        return read(source, n, call.s_bytes, row)
    channels, pool = call.channels, call.pool
    area = float32(pool * pool)
    if call.across % pool or n != pool * call.across * channels:  # lines or columns that no window covers
        filled(at(row, n, float32), float32(0))
    for column in range(call.across // pool):
        place = read(source + call.s_bytes * column * channels, channels, call.s_bytes, means)
        given = at(place, channels, float32)
        for k in range(pool * pool):
            pixel = _window(call, row, column, k)
            for c in range(channels):
                pixel[c] = given[c] / area
    return row
