"""Work in proportion to spikes, for sequences in which hardly anything fires: compiled on a CPU, plain torch elsewhere.

The results are those of the plain formulas: random spikes bit for bit, sums of weights up to the order of addition.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor, nn

from spikewright import noise

__all__ = ["EventLinear", "bernoulli"]

_U = np.uint32


@njit(cache=True, inline="always")
def mix(x: Any) -> Any:
    """`noise._mix` on uint32."""
    x = _U(x ^ (x >> _U(16)))
    x = _U(x * _U(0x7FEB352D))
    x = _U(x ^ (x >> _U(15)))
    x = _U(x * _U(0x846CA68B))
    return _U(x ^ (x >> _U(16)))


@njit(cache=True, inline="always")
def sample_row(key: Any, seed: Any) -> Any:
    """What a sample's key becomes under a seed."""
    return mix(_U(mix(_U(_U(key) ^ _U(seed & np.uint64(0xFFFFFFFF)))) ^ _U(seed >> np.uint64(32))))


@njit(cache=True, inline="always")
def step_row(row: Any, t: Any) -> Any:
    """The same in step t."""
    return mix(_U(row ^ mix(_U(_U(t + 1) * _U(0x85EBCA6B)))))


@njit(cache=True, inline="always")
def place_mark(i: Any) -> Any:
    """What tells places of a sample apart."""
    return _U(_U(i + 1) * _U(0x9E3779B1))


@njit(cache=True)
def draw(row: Any, mark: Any, level: Any, hit: Any) -> None:
    """`noise.uniform` < level for the places marked: hit [K]."""
    for k in range(mark.size):
        hit[k] = level.dtype.type(mix(_U(row + mark[k])) >> _U(8)) * level.dtype.type(2.0**-24) < level[k]


@njit(cache=True)
def _bernoulli(levels: Any, keys: Any, seed: Any, start: Any, out: Any) -> None:
    samples, places = levels.shape
    mark, place, hit = np.empty(places, np.uint32), np.empty(places, np.int64), np.empty(places, np.uint8)
    level = np.empty(places, levels.dtype)
    for b in range(samples):
        active = 0
        for i in range(places):
            if levels[b, i] > 0:
                place[active], level[active], mark[active] = i, levels[b, i], place_mark(i)
                active += 1
        row = sample_row(keys[b], seed)
        for t in range(out.shape[0]):
            draw(step_row(row, start + t), mark[:active], level[:active], hit)
            for k in range(active):
                if hit[k]:
                    out[t, b, place[k]] = 1


def bernoulli(x: Tensor, level: Tensor, seed: int, start: int, stop: int) -> Tensor:
    """1 where `noise.uniform` of samples x [B, ...] lies below level [B, ...]: [stop - start, B, ...] of its dtype."""
    keys = noise.sample_keys(x)
    if level.device.type != "cpu" or level.dtype not in (torch.float32, torch.float64):
        return (noise.uniform(keys, seed, start, stop, tuple(x.shape[1:])) < level).to(level.dtype)
    out = torch.zeros(stop - start, *level.shape, dtype=level.dtype)
    flat = level.detach().flatten(1).contiguous().numpy()
    _bernoulli(flat, keys.numpy(), np.uint64(seed), start, out.view(stop - start, *flat.shape).numpy())
    return out


@njit(cache=True)
def _linear(x: Any, w: Any, out: Any) -> None:
    for n in range(x.shape[0]):
        row = out[n]
        for i in range(x.shape[1]):
            value = x[n, i]
            if value != 0:
                for j in range(row.size):
                    row[j] += value * w[i, j]


class EventLinear(nn.Linear):
    """`nn.Linear` for inputs that are almost all 0: on a CPU, without gradients, only the others cost anything.

    A row's sum is always taken in the same order, so it does not depend on the batch.
    """

    def forward(self, input: Tensor) -> Tensor:
        wanted = torch.is_grad_enabled() and (input.requires_grad or self.weight.requires_grad)
        plain = input.device.type == "cpu" and input.dtype == self.weight.dtype
        if wanted or not plain or input.dtype not in (torch.float32, torch.float64) or input.dim() != 2:
            return super().forward(input)
        if input.shape[-1] != self.in_features:
            return super().forward(input)
        out = torch.zeros(len(input), self.out_features, dtype=input.dtype)
        if self.bias is not None:
            out += self.bias.detach()
        _linear(input.detach().contiguous().numpy(), self.weight.detach().t().contiguous().numpy(), out.numpy())
        return out
