"""Random numbers as a pure function of (seed, sample, step, position).

A network's random draws must not depend on who shares a sample's batch, on how the steps are cut into blocks, or on the
device. So they are not taken from a stream: each number is a hash of what it belongs to. A sample is known by its own
content, so the same image under the same seed meets the same noise, wherever it stands in a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["sample_keys", "uniform"]

_MASK = 0xFFFFFFFF
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


def uniform(keys: Tensor, seed: int, start: int, stop: int, shape: tuple[int, ...]) -> Tensor:
    """Uniform numbers in [0, 1), multiples of 2^-24: keys [B] -> float32 [stop - start, B, *shape] for those steps."""
    device = keys.device
    low, high = seed & _MASK, (seed >> 32) & _MASK
    keys = _mix(_mix(keys ^ low) ^ high)
    steps = _mix((torch.arange(start, stop, device=device) + 1) * 0x85EBCA6B & _MASK)
    rows = _mix(keys[None, :] ^ steps[:, None])  # [T, B]
    size = torch.Size(shape).numel()
    bits = _mix((rows[..., None] + _counter(size, device)) & _MASK)
    return ((bits >> 8).to(torch.float32) * 2.0**-24).reshape(*rows.shape, *shape)
