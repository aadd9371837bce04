"""Random numbers as a pure function of (seed, sample, step, position).

A network's random draws must not depend on who shares a sample's batch, on how the steps are cut into blocks, or on the
device. So they are not taken from a stream: each number is a hash of what it belongs to. A sample is known by its own
content, so the same image under the same seed meets the same noise, wherever it stands in a batch.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

__all__ = ["bounded", "normal", "sample_keys", "seeded", "uniform"]

_MASK = 0xFFFFFFFF
ALONE = 1 << 15  # numbers below which another thread costs more than it brings
_GOLDEN = 0x9E3779B1  # odd, 2^32 / golden ratio: spreads consecutive counters


def _mix(x: Tensor) -> Tensor:
    """A 32-bit bijection with avalanche (two multiply-xorshift rounds), on int64 tensors holding 0 .. 2^32 - 1."""
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & _MASK
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & _MASK
    return x ^ (x >> 16)


def _counter(n: int, device: torch.device) -> Tensor:
    return (torch.arange(1, n + 1, device=device) * _GOLDEN) & _MASK


def sample_keys(x: Tensor) -> Tensor:
    """One 32-bit key a sample, from the bits of its values: x [B, ...] -> int64 [B]."""
    bits = x.detach().flatten(1).to(torch.float32).contiguous().view(torch.int32).long() & _MASK
    return _mix(_mix(bits ^ _counter(bits.shape[1], x.device)).sum(1) & _MASK)


def seeded(keys: Tensor, seed: int) -> Tensor:
    """The keys [B] under a seed: other numbers for the same samples."""
    return _mix(_mix(keys ^ (seed & _MASK)) ^ ((seed >> 32) & _MASK))


def _rows(keys: Tensor, start: int, stop: int) -> Tensor:
    """A key for every step of every sample: keys [B] -> [stop - start, B]."""
    steps = _mix((torch.arange(start, stop, device=keys.device) + 1) * 0x85EBCA6B & _MASK)
    return _mix(keys[None, :] ^ steps[:, None])


def _bits(rows: Tensor, size: int) -> Tensor:
    """24 random bits a position: keys [T, B] -> int64 [T, B, size]."""
    return _mix((rows[..., None] + _counter(size, rows.device)) & _MASK) >> 8


def uniform(keys: Tensor, seed: int, start: int, stop: int, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [0, 1), multiples of 2^-24: keys [B] -> float32 [stop - start, B, *shape] for those steps."""
    rows = _rows(seeded(keys, seed), start, stop)
    bits = _bits(rows, torch.Size(shape).numel())
    return (bits.to(torch.float32) * 2.0**-24).reshape(*rows.shape, *shape)


def normal(keys: Tensor, step: int, size: int) -> Tensor:
    """Standard normal numbers of one step, by inversion: keys [B] -> float32 [B, size]."""
    return _drawn(keys, step, size, gaussian=True, peak=0.0, centre=0.0)


def bounded(keys: Tensor, step: int, size: int, peak: float, centre: float, gaussian: bool) -> Tensor:
    """Noise of one step within centre +- peak: keys [B] -> float32 [B, size].

    Gaussian: centre + peak g / max|g|, the largest being that of the sample's own `size` numbers; else uniform.
    """
    return _drawn(keys, step, size, gaussian, peak, centre)


def _drawn(keys: Tensor, step: int, size: int, gaussian: bool, peak: float, centre: float) -> Tensor:
    """`peak` 0: the normal numbers themselves."""
    row = _rows(keys, step, step + 1)[0]
    return (_on_cpu if row.device.type == "cpu" else _in_torch)(row, size, gaussian, peak, centre)


def _in_torch(row: Tensor, size: int, gaussian: bool, peak: float, centre: float) -> Tensor:
    """The definition."""
    x = (2 * _bits(row, size) + 1 - 2**24).to(torch.float32) * 2.0**-24  # odd multiples of 2^-24 in -1 .. 1
    if not gaussian:
        return centre + peak * x
    g = math.sqrt(2) * torch.erfinv(x)
    return g if peak == 0 else centre + g * (peak / g.abs().amax(1, keepdim=True))


def _on_cpu(row: Tensor, size: int, gaussian: bool, peak: float, centre: float) -> Tensor:
    from spikewright.kernels.team import run_on_team
    from spikewright.noise_loops import Draw

    keys, out = row.contiguous(), torch.empty(len(row), size)
    call = Draw(keys=keys.data_ptr(), out=out.data_ptr(), rows=len(row), size=size, gaussian=gaussian)
    call.here, call.peak, call.centre = ctypes.addressof(call), peak, centre
    run_on_team(_fill().address, call.here, torch.get_num_threads() if out.numel() > ALONE else 1)
    return out


@cache
def _fill() -> Any:
    """The compiled loop, out of Numba's cache if it is there."""
    import numba

    from spikewright import noise_loops
    from spikewright.kernels import machine
    from spikewright.kernels.generated import module_of

    module, cached = module_of(noise_loops, "", Path(str(machine.__file__)).read_text(), numba.__version__)
    return numba.cfunc(noise_loops.SIGNATURE, cache=cached)(module.fill)
