"""`Competition.run` without gradients on a CPU, compiled: the same arithmetic, sample by sample."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

__all__ = ["compete"]


@njit(cache=True)
def _conductance(v: Any, g_e: Any, g_i: Any, current: Any, inhibition: Any, c: Any) -> None:
    one, half, nothing = v.dtype.type(1), v.dtype.type(0.5), v.dtype.type(1e-30)
    zero, sixth = v.dtype.type(0), v.dtype.type(1 / 6)
    k, decay_e, decay_i, mean_e, mean_i = c[0], c[1], c[2], c[3], c[4]
    rest, e_exc, e_inh = c[5], c[6], c[7]
    for j in range(v.size):
        e = g_e[j] * decay_e + max(current[j], zero)
        i = g_i[j] * decay_i + inhibition[j] + max(-current[j], zero)
        g_e[j] = e if e > nothing else zero  # denormal numbers are slow
        g_i[j] = i if i > nothing else zero
        e, i = mean_e * e, mean_i * i
        x = k * (one + e + i)
        p = one + x * (half + x * sixth)
        v[j] = (v[j] + k * p * (rest + e * e_exc + i * e_inh)) / (one + x * p)


@njit(cache=True)
def _current(v: Any, current: Any, inhibition: Any, c: Any) -> None:
    decay, gain, rest = c[0], c[1], c[5]
    for j in range(v.size):
        v[j] = rest + (v[j] - rest) * decay - inhibition[j] + gain * current[j]


@njit(cache=True)
def _fire(v: Any, age: Any, theta: Any, c: Any, fired: Any) -> int:
    reset, v_th, refractory, one, zero = c[8], c[9], c[10], v.dtype.type(1), v.dtype.type(0)
    spikes = 0
    for j in range(v.size):
        held = age[j] < refractory
        s = (v[j] - (v_th + theta[j]) > zero) & (not held)
        v[j] = reset if (held | s) else v[j]
        age[j] = zero if s else age[j] + one
        fired[j] = one if s else zero
        spikes += s
    return spikes


@njit(cache=True)
def compete(
    current: Any, conductance: Any, partners: Any, places: Any, strength: Any, to_partner: Any,
    theta: Any, c: Any, p: Any, cells: Any, others: Any, inhibiting: Any, out: Any,
) -> None:  # fmt: skip
    """current [T, B, N] -> out [T, B, N]; the state changes in place.

    Args:
        conductance, partners: what cells there are.
        c, p: numbers of cell and partner: k or decay, decay_e or gain, decay_i, mean_e, mean_i, rest, e_exc, e_inh,
            reset, threshold, refractory steps.
        cells, others: [4, B, N] each: v, age, g_e, g_i.
        inhibiting: [B, N], who inhibits in the next step.
    """
    steps, samples, n = current.shape
    group = n // places
    inhibition, none, drive = np.zeros(n, c.dtype), np.zeros(n, c.dtype), np.zeros(n, c.dtype)
    for b in range(samples):
        left = inhibiting[b].sum()
        for t in range(steps):
            if left:
                for first in range(0, n, group):
                    mine = inhibiting[b, first : first + group]
                    total = mine.sum()
                    for j in range(group):
                        inhibition[first + j] = strength * (total - mine[j])
            else:
                inhibition[:] = 0
            v, age = cells[0, b], cells[1, b]
            if conductance:
                _conductance(v, cells[2, b], cells[3, b], current[t, b], inhibition, c)
            else:
                _current(v, current[t, b], inhibition, c)
            left = _fire(v, age, theta, c, inhibiting[b])
            out[t, b] = inhibiting[b]
            if partners:
                for j in range(n):
                    drive[j] = to_partner * inhibiting[b, j]
                _conductance(others[0, b], others[2, b], others[3, b], drive, none, p)
                left = _fire(others[0, b], others[1, b], none, p, inhibiting[b])
