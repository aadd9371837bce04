"""The compiled loops of layers that map spike times to spike times: in event order, a sample at a time.

Arrays: times [B, E] with E = K * N events (K spikes for each of N inputs; event e belongs to input e % N), weights
[N, M] (a row for each input, so that an event adds one stretch of memory), out and its gradient g [B, M]. A forward
takes the events in the order of their times, `order` [B, E] and how many count, `counts` [B], and so does a backward.
Both are shared out by neurons, a tile at a time, so that no two threads write to the same place and a tile's weights
stay in the cache from sample to sample.
"""

# mypy: ignore-errors
# (Numba's Python: functions are generic)

from __future__ import annotations

import numpy as np
from numba import njit

__all__ = ["causal_backward", "causal_forward", "instant_backward", "instant_forward", "sort"]

STEPS, FEW = 4096, 8  # so many whole steps, or different times, are sorted by counting
REASSOCIATE = {"reassoc", "contract", "nsz"}  # sums over neurons may be taken in any (but always the same) order


@njit(cache=True, nogil=True)
def in_order(times, limit, order):
    """Events before `limit`, earliest first and equal ones as they come, into `order`; how many there are."""
    events = np.flatnonzero(times < limit)
    moments, count = moments_of(times[events], limit)
    if count > 0:  # a place for every moment
        starts = np.zeros(count + 1, np.int64)
        for at in moments:
            starts[at + 1] += 1
        for k in range(1, len(starts)):
            starts[k] += starts[k - 1]
        for k in range(len(events)):
            order[starts[moments[k]]] = events[k]
            starts[moments[k]] += 1
    else:
        sort = np.argsort(times[events], kind="mergesort")
        for k in range(len(sort)):
            order[k] = events[sort[k]]
    return len(events)


@njit(cache=True, nogil=True)
def moments_of(times, limit):
    """The number of each event's moment, and how many there can be: steps, or the few different times there are; 0
    moments where the times are neither whole nor few."""
    moments, count = np.empty(len(times), np.int64), 0
    if limit <= STEPS:
        for t in times:
            if t < 0 or t != np.floor(t):
                break
            moments[count] = int(t)
            count += 1
        if count == len(times):
            return moments, int(np.ceil(limit))
    found, count = np.empty(FEW, times.dtype), 0
    for t in times:
        at = 0
        while at < count and found[at] < t:
            at += 1
        if at == count or found[at] != t:
            if count == FEW:
                return moments, 0
            found[at + 1 : count + 1] = found[at:count].copy()
            found[at] = t
            count += 1
    for k in range(len(times)):
        at = 0
        while found[at] < times[k]:
            at += 1
        moments[k] = at
    return moments, count


@njit(cache=True, nogil=True)
def sort(part, lo, hi, times, limit, order, counts):
    """The events of samples lo .. hi before `limit` in their order."""
    for b in range(lo, hi):
        counts[b] = in_order(times[b], limit, order[b])


# ---- integrate and fire, instantaneous synapses


@njit(cache=True, nogil=True)
def instant_forward(part, lo, hi, times, weight, v_th, latency, steps, late, straight, order, counts, out):
    """V_j = sum of w_ji over the inputs so far; the first event at which V_j > v_th fires, `latency` later.

    With `late`, silent neurons get the time steps + (v_th - V_j) / v_th, V_j what they ended with; with `straight`, a
    spike comes when a straight line from V_j before the event to V_j after it, `latency` later, crosses v_th.
    """
    inputs, width = weight.shape[0], hi - lo
    v, was = np.empty(width, weight.dtype), np.empty(width, weight.dtype)
    for b in range(len(times)):
        n = counts[b]
        v[:] = 0
        fire = out[b, lo:hi]
        fire[:] = np.inf
        left, k = width, 0
        while k < n and left > 0:
            t = times[b, order[b, k]]
            if t + latency >= steps:
                break
            if straight:
                was[:] = v
            while k < n and times[b, order[b, k]] == t:
                row = weight[order[b, k] % inputs, lo:hi]
                for j in range(width):
                    v[j] += row[j]
                k += 1
            fresh = 0  # few events make any neuron fire: look for those in a loop without branches
            for j in range(width):
                fresh += 1 if (v[j] > v_th) and (fire[j] == np.inf) else 0
            if fresh > 0:
                left -= fresh
                for j in range(width):
                    if v[j] > v_th and fire[j] == np.inf:
                        fire[j] = t + latency * ((v_th - was[j]) / (v[j] - was[j]) if straight else 1)
        if late:
            for j in range(width):
                fire[j] = steps + (v_th - v[j]) / v_th if fire[j] == np.inf else fire[j]


@njit(cache=True, nogil=True, fastmath=REASSOCIATE)
def instant_backward(part, lo, hi, times, weight, order, counts, out, g, steps, ahead, dweight, dtimes, below):
    """dt_j/dw_ji = -1 and dt_j/dt_i = w_ji for inputs before t_j (of a silent neuron: all).

    w_ji is taken as it were after a step of size `ahead` along this sample's own gradient, -g_j.
    """
    inputs = weight.shape[0]
    post, error = np.empty(hi - lo, times.dtype), np.empty(hi - lo, g.dtype)
    width = hi - lo
    for b in range(len(times)):
        last = 0.0
        for j in range(width):
            t = out[b, lo + j]
            post[j] = t if t < steps else steps
            error[j] = g[b, lo + j]
            last = max(last, post[j]) if error[j] != 0 else last
        for k in range(counts[b]):
            e = order[b, k]
            t = times[b, e]
            if t >= last:
                break
            i = e % inputs
            dw = dweight[i, lo:hi]
            for j in range(width):
                dw[j] -= error[j] if t < post[j] else 0
            if below:
                w = weight[i, lo:hi]
                total = dw[0] * 0
                for j in range(width):
                    total += (w[j] + ahead * error[j]) * error[j] if t < post[j] else 0
                dtimes[part, b, e] += total


# ---- causal sets: potentials that are straight lines between events


@njit(cache=True, nogil=True)
def causal_forward(part, lo, hi, x, weight, above, below, limit, order, counts, out, size, slope):
    """x_j = (above + sum_C w x) / (sum_C w - below), C the shortest prefix of the events that ends before the next."""
    inputs, width = weight.shape[0], hi - lo
    s, p, more = np.empty(width, weight.dtype), np.empty(width, weight.dtype), np.empty(width, weight.dtype)
    for b in range(len(x)):
        n = counts[b]
        s[:] = -below
        p[:] = above
        fire, sizes, slopes = out[b, lo:hi], size[b, lo:hi], slope[b, lo:hi]
        fire[:] = np.inf
        sizes[:] = 0
        slopes[:] = 1
        left, k = width, 0
        while k < n and left > 0:
            now, end = x[b, order[b, k]], k + 1
            while end < n and x[b, order[b, end]] == now:
                end += 1
            more[:] = 0  # the weights of all events of this moment, four at a time
            while k + 4 <= end:
                w0, w1 = weight[order[b, k] % inputs, lo:hi], weight[order[b, k + 1] % inputs, lo:hi]
                w2, w3 = weight[order[b, k + 2] % inputs, lo:hi], weight[order[b, k + 3] % inputs, lo:hi]
                for j in range(width):
                    more[j] += (w0[j] + w1[j]) + (w2[j] + w3[j])
                k += 4
            while k < end:
                row = weight[order[b, k] % inputs, lo:hi]
                for j in range(width):
                    more[j] += row[j]
                k += 1
            following = x[b, order[b, k]] if k < n else limit
            left = 0
            for j in range(width):
                s[j] += more[j]
                p[j] += more[j] * now
                at = p[j] / s[j] if s[j] > 0 else np.inf
                fires = (fire[j] == np.inf) and (at < following)
                fire[j] = at if fires else fire[j]
                sizes[j] = k if fires else sizes[j]
                slopes[j] = s[j] if fires else slopes[j]
                left += 1 if fire[j] == np.inf else 0


@njit(cache=True, nogil=True, fastmath=REASSOCIATE)
def causal_backward(part, lo, hi, x, weight, order, out, size, slope, g, dweight, dx, below):
    """dx_j/dw_ji = (x_i - x_j) / S and dx_j/dx_i = w_ji / S for i in j's causal set, S = sum_C w - below."""
    inputs = weight.shape[0]
    width = hi - lo
    a, ax = np.empty(width, g.dtype), np.empty(width, g.dtype)
    here, change = np.empty(width, g.dtype), np.empty(width, g.dtype)
    for b in range(len(x)):
        sizes = size[b, lo:hi]
        last = 0
        for j in range(width):
            fired = sizes[j] > 0
            a[j] = g[b, lo + j] / slope[b, lo + j] if fired else 0
            ax[j] = a[j] * out[b, lo + j] if fired else 0
            last = max(last, sizes[j])
        k = 0
        while k < last:
            now = x[b, order[b, k]]
            for j in range(width):  # a causal set has all events of a moment, or none
                here[j] = a[j] if k < sizes[j] else 0
                change[j] = a[j] * now - ax[j] if k < sizes[j] else 0
            while k < last and x[b, order[b, k]] == now:
                e = order[b, k]
                i = e % inputs
                dw = dweight[i, lo:hi]
                for j in range(width):
                    dw[j] += change[j]
                if below:
                    w = weight[i, lo:hi]
                    total = dw[0] * 0
                    for j in range(width):
                        total += w[j] * here[j]
                    dx[part, b, e] += total
                k += 1
