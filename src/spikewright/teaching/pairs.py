"""Sums over pairs of an event and an input spike, in proportion to their number."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from torch import Tensor

from spikewright.teaching.kernels import Kernel

__all__ = ["Spikes", "spikes_of", "sums"]


class Spikes(NamedTuple):
    """The nonzero values of a raster, sample by sample."""

    steps: np.ndarray  # int64 [E]
    units: np.ndarray  # int64 [E]
    values: np.ndarray  # float64 [E]
    offsets: np.ndarray  # int64 [B + 1]: where each sample's begin


def spikes_of(raster: Tensor) -> Spikes:
    """raster [T, B, N] -> its nonzero values."""
    by_sample = raster.transpose(0, 1)
    sample, steps, units = by_sample.nonzero(as_tuple=True)
    values = by_sample[sample, steps, units].double().numpy(force=True)
    offsets = np.searchsorted(sample.numpy(force=True), np.arange(len(by_sample) + 1))
    return Spikes(steps.numpy(force=True), units.numpy(force=True), values, offsets)


def sums(events: Spikes, inputs: Spikes, kernel: Kernel, shape: tuple[int, int]) -> np.ndarray:
    """sum over events e and inputs j of one sample of value_e value_j kernel(t_e - t_j): float64 [units, inputs]."""
    reach = 1 + max(events.steps.max(initial=0), inputs.steps.max(initial=0))
    table = np.ascontiguousarray(kernel(np.arange(-reach, reach + 1)), np.float64)
    total = np.zeros(shape)
    _add(total, *events, *inputs, table, reach)
    return total


@njit(cache=True)
def _add(total, e_steps, e_units, e_values, e_offsets, steps, units, values, offsets, table, zero):  # type: ignore[no-untyped-def]
    for b in range(len(offsets) - 1):
        for e in range(e_offsets[b], e_offsets[b + 1]):
            row, at, value = total[e_units[e]], e_steps[e] + zero, e_values[e]
            for j in range(offsets[b], offsets[b + 1]):
                row[units[j]] += value * values[j] * table[at - steps[j]]
