"""The two kinds of signal, and how one becomes the other.

A *raster* is spikes over steps, `[T*B, ...]` inside a body. *Times* are one spike time per neuron, `[B, ...]`, in steps
from the start, infinity for none; a layer whose neurons may fire up to K times hands on `[B, K, N]`, sorted along K. A
spike at time t falls into step floor(t), so after step t (counted from 0) all spikes before t + 1 have been seen.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["first_spikes", "raster"]


def raster(times: Tensor, start: int, stop: int) -> Tensor:
    """The spikes of the steps start .. stop: times [B, ...] -> bool [stop - start, B, ...]."""
    at = torch.arange(start, stop, device=times.device).view(-1, *[1] * times.dim())
    return times.floor() == at


def first_spikes(spikes: Tensor, start: int = 0) -> Tensor:
    """Step of every neuron's first spike, infinity for none: spikes [T, B, ...] of the steps from start -> [B, ...]."""
    fired = spikes != 0
    first = (start + fired.int().argmax(0)).to(torch.promote_types(spikes.dtype, torch.float32))
    return torch.where(fired.any(0), first, math.inf)
