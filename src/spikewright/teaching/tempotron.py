"""The tempotron's rule pattern by pattern, compiled: what `recipes/local/tempotron.py` does with batches of 1."""

from __future__ import annotations

import numpy as np
from numba import njit
from torch import Tensor

from spikewright.teaching.kernels import Potential
from spikewright.teaching.pairs import spikes_of

__all__ = ["cycle", "potentials"]


def potentials(frames: Tensor, kernel: Potential) -> np.ndarray:
    """Unweighted potentials of every input: frames [P, T, N] -> float32 [P, N, T]."""
    patterns, steps, inputs = frames.shape
    table = kernel(np.arange(steps)).astype(np.float32)
    found = np.zeros((patterns, inputs, steps), np.float32)
    spikes = spikes_of(frames.transpose(0, 1))
    for p in range(patterns):
        for j in range(spikes.offsets[p], spikes.offsets[p + 1]):
            t = spikes.steps[j]
            found[p, spikes.units[j], t:] += np.float32(spikes.values[j]) * table[: steps - t]
    return found


@njit(cache=True)
def cycle(psp, labels, order, w, velocity, lr, momentum, v_th):  # type: ignore[no-untyped-def]
    """Present every pattern once, in the given order; returns the errors made on the way.

    Args:
        psp: `potentials`, float32 [P, N, T].
        labels: whether the neuron should fire, bool [P].
        w, velocity: weights and last change / lr, float32 [N]; changed in place.
    """
    inputs, steps = psp.shape[1], psp.shape[2]
    v = np.empty(steps, np.float32)
    errors = 0
    for p in order:
        v[:] = 0
        for i in range(inputs):
            weight, row = w[i], psp[p, i]
            for t in range(steps):
                v[t] += weight * row[t]
        at = np.argmax(v)
        sign = np.float32(0)
        if (v[at] >= v_th) != labels[p]:
            errors += 1
            sign = np.float32(1 if labels[p] else -1)
        for i in range(inputs):
            velocity[i] = momentum * velocity[i] + sign * psp[p, i, at]
            w[i] += lr * velocity[i]
    return errors
