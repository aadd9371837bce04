"""What the loops of `cpu_loops` do that no kind of neuron changes: a call's record, its tiles, rows in and rows out.

Membranes and gradients are float32 inside the loops; a bfloat16 row of gradients passes through scratch. Spikes are
counts of one byte, and become floats only on their way out, as means over windows where a call pools.
"""

# mypy: ignore-errors
# (Numba's Python: functions are generic)

from __future__ import annotations

import ctypes

import numpy as np
from numba import float32, from_dtype, njit, uint8, uint16, uint32, void
from numba.types import CPointer

from spikewright.kernels.machine import (
    BLOCK,
    EXPONENT,
    STREAMED,
    add_counts,
    at,
    bf16,
    bits_of,
    copy_block,
    from_bf16,
    stream,
)

__all__ = [
    "SIGNATURE",
    "SLOT",
    "STRANGE",
    "TAKEN",
    "Call",
    "all_finite",
    "copied",
    "extent",
    "filled",
    "hand_on",
    "leave",
    "read",
    "taken_back",
]

_COUNTS = "steps neurons width tiles x_step s_step x_bytes s_bytes per_thread pool height across channels past"
_SHARED = "taken slot strange"
_ADDRESSES = "here x v0 age0 s v age g gv dx dv0 sums scratch"
_NUMBERS = "decay gain v_init keep shift attached never"


class Call(ctypes.Structure):
    """One call: how much (counts, in elements), where (addresses; 0 for none), and the neuron's numbers.

    Threads share the counters `taken`, `slot` and `strange`, which begin at 0; 2 bytes an element are bfloat16, 4
    float32; `a` to `d` are the surrogate's own numbers.
    """

    _fields_ = (
        [(name, ctypes.c_int64) for name in f"{_COUNTS} {_SHARED} {_ADDRESSES}".split()]
        + [(name, ctypes.c_float) for name in _NUMBERS.split()]
        + [(name, ctypes.c_double) for name in ["v_th", "a", "b", "c", "d"]]
    )


TAKEN, SLOT, STRANGE = Call.taken.offset, Call.slot.offset, Call.strange.offset
SIGNATURE = void(CPointer(from_dtype(np.dtype(Call))))


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
def leave(row, n, bytes_each, target, spare, past):
    """Bring n float32 from scratch to their place, as float32 or bfloat16 and, if asked for, past the caches."""
    if past and (target | n * bytes_each) % STREAMED == 0:
        if bytes_each == 2:
            narrow(at(row, n, float32), spare)
        stream(row if bytes_each == 4 else spare, target, n * bytes_each)
    elif bytes_each == 4:
        copied(row, at(target, n, float32), float32(0))
    else:
        narrow(at(row, n, float32), target)


@njit
def read(source, n, bytes_each, scratch):
    """The address of n float32 that lie at `source`, or have been widened into scratch."""
    if bytes_each == 4:
        return source
    wide(source, at(scratch, n, float32))
    return scratch


@njit
def all_finite(row):
    """Whether there is neither NaN nor infinity in a row."""
    most = uint32(0)
    for i in range(len(row)):
        most = max(most, bits_of(row[i]) & EXPONENT)
    return most < EXPONENT


@njit
def hand_on(call, counts, n, target, spare):
    """Bring n counts of spikes to their place: where a call pools, as means over windows.

    There the counts are sums over the lines of a band, and columns are added here.
    """
    if call.pool:
        _add_columns(call, counts, spare)
        counts = spare
        spare += n + BLOCK
    past = call.past and (target | n * call.s_bytes) % STREAMED == 0
    place = -(-spare // STREAMED) * STREAMED if past else target
    found = at(counts, n, uint8)
    area = max(call.pool * call.pool, 1)
    share, exact = 1.0 / area, area & (area - 1) == 0  # to multiply by a power of 2 leaves nothing to round
    if call.s_bytes == 4:
        out = at(place, n, float32)
        if exact:
            for i in range(n):
                out[i] = float32(found[i]) * float32(share)
        else:
            for i in range(n):
                out[i] = found[i] * share  # in float64: rounded to what the quotient is rounded to
    else:
        bits = at(place, n, uint16)
        if exact:
            for i in range(n):
                bits[i] = bits_of(float32(found[i]) * float32(share)) >> uint32(16)
        else:
            for i in range(n):
                bits[i] = bf16(float32(found[i] * share))
    if past:
        stream(place, target, n * call.s_bytes)


@njit
def _add_columns(call, counts, sums):
    """Add up the counts of the pixels of each window, in whole blocks: what runs over the end of a pixel is written
    again by the next, and the last may run over by a block at most."""
    channels, pool = call.channels, call.pool
    for column in range(call.across // pool):
        for c in range(0, channels, BLOCK):
            total = sums + column * channels + c
            pixel = counts + column * pool * channels + c
            add_counts(total, pixel, pixel + channels)
            for k in range(2, pool):
                add_counts(total, total, pixel + k * channels)


@njit
def taken_back(call, source, row, n, means):
    """The gradient of `hand_on`: the address of n float32 for the spikes, from what lies at `source`.

    Where a call pools these are one line, which all lines of the band share, with one of zeros behind it for lines that
    no window covers.
    """
    if not call.pool:
        return read(source, n, call.s_bytes, row)
    channels, pool = call.channels, call.pool
    columns = call.across // pool
    given = at(read(source, columns * channels, call.s_bytes, means), columns * channels, float32)
    mean = at(means, columns * channels, float32)
    share = 1.0 / (pool * pool)  # in float64, so that the product is rounded as the quotient is
    for i in range(len(mean)):
        mean[i] = given[i] * share
    for pixel in range(columns * pool):
        for c in range(0, channels, BLOCK):
            copy_block(row + 4 * (pixel * channels + c), means + 4 * (pixel // pool * channels + c))
    covered = columns * pool * channels
    filled(at(row + 4 * covered, 2 * n - covered, float32), float32(0))  # columns, and lines, that no window covers
    return row
