"""The compiled loops of leaky neurons with exponential synapses: exact between events, forwards and backwards in time.

tau_m dV/dt = I - V, tau_s dI/dt = -I between events. A gap of length s takes (V, I) to
(V em + I k (em - es), I es) and the adjoint, backwards, (lV, lI) to (lV em, lI es + lV l (em - es)), with
em = exp(-s / tau_m), es = exp(-s / tau_s), k = tau_s / (tau_m - tau_s), l = tau_m / (tau_m - tau_s); where the two time
constants are equal, k (em - es) and l (em - es) become s / tau em. States are float64 whatever the times are.

Arrays as in `loops`; spikes and currents [B, K, M], the K spikes of every neuron in order, infinity for none.
"""

# mypy: ignore-errors
# (Numba's Python: functions are generic)

from __future__ import annotations

import numpy as np
from numba import njit

from spikewright.times.loops import REASSOCIATE, in_order

__all__ = ["lif_backward", "lif_forward", "potential_backward", "potential_forward"]

NEWTON = 200  # iterations; a handful unless the potential only just touches the threshold


@njit(cache=True, nogil=True)
def mixing(s, tau_m, tau_s):
    """(em, es, k (em - es)) of a gap s."""
    em, es = np.exp(-s / tau_m), np.exp(-s / tau_s)
    return em, es, (s / tau_m * em if tau_m == tau_s else tau_s / (tau_m - tau_s) * (em - es))


@njit(cache=True, nogil=True)
def crossing(v, i, gap, v_th, tau_m, tau_s):
    """How long after (v < v_th, i) the potential reaches v_th, infinity if not within `gap`."""
    if i <= v_th:
        return np.inf
    if tau_m == tau_s:
        peak = tau_m * (1 - v / i)
    else:
        c = tau_s / (tau_m - tau_s) * i
        if v + c <= 0:
            return np.inf
        peak = np.log(c * tau_m / ((v + c) * tau_s)) / (1 / tau_s - 1 / tau_m)
    end = min(peak, gap)
    em, _, mix = mixing(end, tau_m, tau_s)
    if v * em + i * mix < v_th:
        return np.inf
    s = 0.0  # the potential is concave up to its peak, so Newton's steps from the left never pass the crossing
    for _ in range(NEWTON):
        em, es, mix = mixing(s, tau_m, tau_s)
        at = v * em + i * mix
        rate = (i * es - at) / tau_m
        if rate <= 0:
            break
        step = (v_th - at) / rate
        s += step
        if step <= 1e-14 * (1 + s):
            break
    return min(s, gap)


@njit(cache=True, nogil=True)
def lif_forward(part, lo, hi, times, weight, v_th, tau_m, tau_s, steps, order, counts, spikes, currents):
    """Spikes of every neuron, up to K, V set to 0 after each; and its current at them."""
    inputs, neurons = weight.shape
    most = spikes.shape[1]
    v, i = np.empty(neurons), np.empty(neurons)
    fired, who = np.empty(neurons, np.int64), np.empty(neurons, np.int64)
    later_v, later_i = np.empty(neurons), np.empty(neurons)
    for b in range(lo, hi):
        n = in_order(times[b], steps, order[b])
        counts[b] = n
        v[:] = 0
        i[:] = 0
        fired[:] = 0
        spikes[b] = np.inf
        currents[b] = np.inf
        now, k, done = 0.0, 0, 0
        while done < neurons:
            until = times[b, order[b, k]] if k < n else steps
            gap = until - now
            active = 0
            for j in range(neurons):
                if fired[j] < most and i[j] > v_th and v[j] + (i[j] - v[j]) * gap / tau_m >= v_th:  # else out of reach
                    vj, ij, left, any_spike = v[j], i[j], gap, False
                    while fired[j] < most:
                        s = crossing(vj, ij, left, v_th, tau_m, tau_s)
                        if s >= left:
                            break
                        any_spike = True
                        left -= s
                        vj, ij = 0.0, ij * np.exp(-s / tau_s)
                        spikes[b, fired[j], j] = until - left
                        currents[b, fired[j], j] = ij
                        fired[j] += 1
                        done += 1 if fired[j] == most else 0
                    if any_spike:
                        em, es, mix = mixing(left, tau_m, tau_s)
                        who[active], later_v[active], later_i[active] = j, vj * em + ij * mix, ij * es
                        active += 1
            if k >= n:
                break
            em, es, mix = mixing(gap, tau_m, tau_s)
            for j in range(neurons):
                v[j] = v[j] * em + i[j] * mix
                i[j] *= es
            for a in range(active):
                v[who[a]], i[who[a]] = later_v[a], later_i[a]
            while k < n and times[b, order[b, k]] == until:
                row = weight[order[b, k] % inputs]
                for j in range(neurons):
                    i[j] += row[j]
                k += 1
            now = until


@njit(cache=True, nogil=True, fastmath=REASSOCIATE)
def lif_backward(
    part, lo, hi, times, weight, order, counts, spikes, currents, g, v_th, tau_m, tau_s, floor, dweight, dtimes, below
):
    """The adjoint. At a spike lV += (v_th lV + g) / (I - v_th); dL/dw = -tau_s lI and dL/dt = sum w (lV - lI)."""
    inputs, width, most = weight.shape[0], hi - lo, spikes.shape[1]
    ratio = 1.0 if tau_m == tau_s else tau_m / tau_s
    lv, li = np.empty(width), np.empty(width)
    later_v, later_i = np.empty(width), np.empty(width)
    last, who = np.empty(width, np.int64), np.empty(width, np.int64)
    for b in range(len(times)):
        lv[:] = 0
        li[:] = 0
        now = 0.0
        for j in range(width):
            last[j] = -1
            for f in range(most):
                if spikes[b, f, lo + j] < np.inf:
                    last[j] = f
                    now = max(now, float(spikes[b, f, lo + j]))
        k = counts[b] - 1
        while k >= 0:
            until = float(times[b, order[b, k]])
            if until >= now:  # after the last spike: no influence
                k -= 1
                continue
            gap, active = now - until, 0
            for j in range(width):
                if last[j] >= 0 and spikes[b, last[j], lo + j] > until:
                    vj, ij, at = lv[j], li[j], now
                    while last[j] >= 0 and spikes[b, last[j], lo + j] > until:
                        f = last[j]
                        t = float(spikes[b, f, lo + j])
                        em, es, mix = mixing(at - t, tau_m, tau_s)
                        vj, ij = vj * em, ij * es + vj * mix * ratio
                        vj += (v_th * vj + g[b, f, lo + j]) / max(currents[b, f, lo + j] - v_th, floor)
                        at = t
                        last[j] -= 1
                    em, es, mix = mixing(at - until, tau_m, tau_s)
                    who[active], later_v[active], later_i[active] = j, vj * em, ij * es + vj * mix * ratio
                    active += 1
            em, es, mix = mixing(gap, tau_m, tau_s)
            for j in range(width):
                li[j] = li[j] * es + lv[j] * mix * ratio
                lv[j] *= em
            for a in range(active):
                lv[who[a]], li[who[a]] = later_v[a], later_i[a]
            while k >= 0 and times[b, order[b, k]] == until:
                e = order[b, k]
                dw = dweight[e % inputs, lo:hi]
                for j in range(width):
                    dw[j] -= tau_s * li[j]
                if below:
                    w = weight[e % inputs, lo:hi]
                    total = 0.0
                    for j in range(width):
                        total += w[j] * (lv[j] - li[j])
                    dtimes[part, b, e] += total
                k -= 1
            now = until


@njit(cache=True, nogil=True)
def potential_forward(part, lo, hi, times, weight, tau_m, tau_s, steps, order, counts, out):
    """Potentials without a threshold at the ends of the steps: out [T, B, M]."""
    inputs, neurons = weight.shape
    v, i = np.empty(neurons), np.empty(neurons)
    for b in range(lo, hi):
        n = in_order(times[b], steps, order[b])
        counts[b] = n
        v[:] = 0
        i[:] = 0
        now, k = 0.0, 0
        for step in range(1, len(out) + 1):
            while True:
                event = k < n and times[b, order[b, k]] < step
                until = float(times[b, order[b, k]]) if event else float(step)
                em, es, mix = mixing(until - now, tau_m, tau_s)
                for j in range(neurons):
                    v[j] = v[j] * em + i[j] * mix
                    i[j] *= es
                now = until
                if not event:
                    break
                row = weight[order[b, k] % inputs]
                for j in range(neurons):
                    i[j] += row[j]
                k += 1
            out[step - 1, b] = v


@njit(cache=True, nogil=True, fastmath=REASSOCIATE)
def potential_backward(part, lo, hi, times, weight, order, counts, g, tau_m, tau_s, dweight, dtimes, below):
    """The adjoint of `potential_forward`: at the end of a step lV -= g / tau_m."""
    inputs, width = weight.shape[0], hi - lo
    ratio = 1.0 if tau_m == tau_s else tau_m / tau_s
    lv, li = np.empty(width), np.empty(width)
    for b in range(len(times)):
        lv[:] = 0
        li[:] = 0
        now, k = float(len(g)), counts[b] - 1
        for step in range(len(g), 0, -1):
            while True:
                event = k >= 0 and times[b, order[b, k]] >= step
                until = float(times[b, order[b, k]]) if event else float(step)
                em, es, mix = mixing(now - until, tau_m, tau_s)
                for j in range(width):
                    li[j] = li[j] * es + lv[j] * mix * ratio
                    lv[j] *= em
                now = until
                if not event:
                    break
                k = receive(part, b, k, lo, hi, weight, order, lv, li, tau_s, dweight, dtimes, below, inputs)
            for j in range(width):
                lv[j] -= g[step - 1, b, lo + j] / tau_m
        while k >= 0:
            until = float(times[b, order[b, k]])
            em, es, mix = mixing(now - until, tau_m, tau_s)
            for j in range(width):
                li[j] = li[j] * es + lv[j] * mix * ratio
                lv[j] *= em
            now = until
            k = receive(part, b, k, lo, hi, weight, order, lv, li, tau_s, dweight, dtimes, below, inputs)


@njit(cache=True, nogil=True, fastmath=REASSOCIATE)
def receive(part, b, k, lo, hi, weight, order, lv, li, tau_s, dweight, dtimes, below, inputs):
    """What the k-th event of sample b gets of the adjoint; the index of the one before it."""
    e = order[b, k]
    dw, w = dweight[e % inputs, lo:hi], weight[e % inputs, lo:hi]
    total = 0.0
    for j in range(hi - lo):
        dw[j] -= tau_s * li[j]
        total += w[j] * (lv[j] - li[j])
    if below:
        dtimes[part, b, e] += total
    return k - 1
