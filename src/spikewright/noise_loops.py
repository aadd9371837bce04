"""The draws of `noise.normal` and `noise.bounded` on the CPU, in the Python that Numba compiles: hash, inversion and
scaling of a sample in one pass.

All that is used is integer arithmetic and correctly rounded +, *, / and sqrt, so a number does not depend on where in a
vector register it was made; LLVM cannot vectorise the C library's log, so there is one here.
"""

# mypy: ignore-errors
# (Numba's Python: functions are generic)

from __future__ import annotations

import ctypes

import numpy as np
from numba import carray, float32, from_dtype, int32, int64, njit, uint32, void
from numba.types import CPointer

from spikewright.kernels.machine import add_one, at

__all__ = ["SIGNATURE", "Draw", "fill"]


@njit(inline="always")
def _log(y):
    """ln y in float32 for normal y > 0, to about 1 unit in the last place (Cephes' polynomial)."""
    bits = np.float32(y).view(np.int32)
    e = float32((bits >> 23) - int32(126))
    m = np.int32((bits & int32(0x007FFFFF)) | int32(0x3F000000)).view(np.float32)  # 0.5 .. 1
    low = m < float32(0.707106781186547524)
    e = e - float32(1) if low else e
    x = (m + m if low else m) - float32(1)
    p = float32(7.0376836292e-2)
    p = p * x + float32(-1.1514610310e-1)
    p = p * x + float32(1.1676998740e-1)
    p = p * x + float32(-1.2420140846e-1)
    p = p * x + float32(1.4249322787e-1)
    p = p * x + float32(-1.6668057665e-1)
    p = p * x + float32(2.0000714765e-1)
    p = p * x + float32(-2.4999993993e-1)
    p = p * x + float32(3.3333331174e-1)
    z = x * x
    r = p * x * z + e * float32(-2.12194440e-4) - float32(0.5) * z
    return x + r + e * float32(0.693359375)


@njit(inline="always")
def _normal(x):
    """sqrt(2) erfinv(x) for -1 < x < 1 in float32 (Giles 2010, "Approximating the erfinv function")."""
    w = -_log((float32(1) - x) * (float32(1) + x))
    c = w - float32(2.5)
    p = float32(2.81022636e-08)
    p = p * c + float32(3.43273939e-07)
    p = p * c + float32(-3.5233877e-06)
    p = p * c + float32(-4.39150654e-06)
    p = p * c + float32(0.00021858087)
    p = p * c + float32(-0.00125372503)
    p = p * c + float32(-0.00417768164)
    p = p * c + float32(0.246640727)
    p = p * c + float32(1.50140941)
    t = np.sqrt(w) - float32(3)
    q = float32(-0.000200214257)
    q = q * t + float32(0.000100950558)
    q = q * t + float32(0.00134934322)
    q = q * t + float32(-0.00367342844)
    q = q * t + float32(0.00573950773)
    q = q * t + float32(-0.0076224613)
    q = q * t + float32(0.00943887047)
    q = q * t + float32(1.00167406)
    q = q * t + float32(2.83297682)
    return (p if w < float32(5) else q) * x * float32(1.41421356)


class Draw(ctypes.Structure):
    """One call: keys int64 [rows] -> out float32 [rows, size], by address; threads share the counter `taken`."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ["here", "keys", "out", "rows", "size", "gaussian", "taken"]),
        *((name, ctypes.c_float) for name in ("peak", "centre")),
    )


SIGNATURE = void(CPointer(from_dtype(np.dtype(Draw))))
TAKEN = Draw.taken.offset


@njit(error_model="numpy")
def _fill(key, row, gaussian, peak, centre):
    """See `noise._drawn`."""
    most = int32(0)
    for i in range(len(row)):
        h = uint32(key + uint32(uint32(i + 1) * uint32(0x9E3779B1)))
        h = uint32(h ^ (h >> uint32(16)))
        h = uint32(h * uint32(0x7FEB352D))
        h = uint32(h ^ (h >> uint32(15)))
        h = uint32(h * uint32(0x846CA68B))
        h = uint32(h ^ (h >> uint32(16)))
        odd = int32(int32(h >> uint32(8)) * int32(2) + int32(1 - (1 << 24)))
        most = max(most, abs(odd))
        row[i] = float32(odd) * float32(2.0**-24)
    if gaussian:
        for i in range(len(row)):
            row[i] = _normal(row[i])
    if peak != 0:  # the largest normal number is that of the largest uniform one
        top = _normal(float32(most) * float32(2.0**-24)) if gaussian else float32(1)
        scale, shift = float32(peak / top), float32(centre)
        for i in range(len(row)):
            row[i] = row[i] * scale + shift


def fill(address):
    """Fill rows, one at a time, until none is left."""
    call = carray(address, 1)[0]
    while True:
        b = add_one(call.here + TAKEN)
        if b >= call.rows:
            return
        key = uint32(at(call.keys + 8 * b, 1, int64)[0])
        _fill(key, at(call.out + 4 * call.size * b, call.size, float32), call.gaussian != 0, call.peak, call.centre)
