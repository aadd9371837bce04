"""Layers of once-firing neurons, event by event: the compiled loops of firing and of learning.

A sample is a list of input neurons in the order they fire, `at[ends[n, 0]:ends[n, steps]]`, those of step t between
ends[n, t] and ends[n, t + 1]. An event adds its weights to the potentials it reaches and nothing else is touched: work
is spikes times fan-out. Weights are [C, K, K, F] with the columns of the kernel reversed, potentials [row, column, F],
so what an event adds along a row is one run of memory.

Definitions: `competition` (who learns), `rules.Order` (how), and the neuron `OnceIF` (who fires).
"""

# mypy: ignore-errors
# (Numba's Python: functions are generic)

from __future__ import annotations

import numpy as np
from numba import njit

from spikewright.plasticity.weights import factor

__all__ = ["decide", "fire", "inhibited", "learn", "learn_by_reward", "scatter", "sort"]

SILENT = 255  # a time no step has


@njit(nogil=True, cache=True)
def sort(times, steps, at, ends):
    """Events of first-spike times [N, M] (uint8, `steps` or more: never): fills ends [N, steps + 1], and at."""
    n, m = times.shape
    where = 0
    for i in range(n):
        counts = np.zeros(steps, np.int64)
        for j in range(m):
            if times[i, j] < steps:
                counts[times[i, j]] += 1
        ends[i, 0] = where
        for t in range(steps):
            ends[i, t + 1] = ends[i, t] + counts[t]
            counts[t] = ends[i, t]
        for j in range(m):
            t = times[i, j]
            if t < steps:
                at[counts[t]] = j
                counts[t] += 1
        where = ends[i, steps]


@njit(nogil=True, cache=True)
def inhibited(times, channels, never):
    """Point-wise inhibition of first-spike times [N, channels * places], in place: `competition.earliest`."""
    n, m = times.shape
    places = m // channels
    for i in range(n):
        for p in range(places):
            best = 0
            for c in range(1, channels):
                if times[i, c * places + p] < times[i, best * places + p]:
                    best = c
            for c in range(channels):
                if c != best:
                    times[i, c * places + p] = never


@njit(nogil=True, cache=True, inline="always")
def _integrate(pot, w, event, height, width, k, pad, features, rows, columns, mark, stamp):
    """Add what one input neuron's spike brings; note the places it reached."""
    place = event % (height * width)
    c, y, x = event // (height * width), place // width, place % width
    first = x + pad - k + 1
    low, high = max(0, first), min(columns - 1, x + pad)
    for ky in range(max(0, y + pad - rows + 1), min(k, y + pad + 1)):
        row = (y + pad - ky) * columns
        a, b, size = (row + low) * features, ((c * k + ky) * k + low - first) * features, (high - low + 1) * features
        reached, brought = pot[a : a + size], w[b : b + size]
        for i in range(size):
            reached[i] += brought[i]
        for p in range(row + low, row + high + 1):
            mark[p] = stamp


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "reassoc"})
def _most(x):
    """The largest of some potentials; the flags let it be found many at a time."""
    most = x[0]
    for i in range(len(x)):
        most = x[i] if x[i] > most else most
    return most


@njit(nogil=True, cache=True)
def fire(at, ends, w, shape, k, pad, features, threshold, pool, stride, pool_pad, out):
    """First spikes of a layer, after its pool: out [N, features * places behind the pool], uint8; `steps`: never.

    A neuron fires when its potential first exceeds the threshold; a pool hands on its earliest spike. pool = 1, stride
    = 1, pool_pad = 0 is none.
    """
    _, height, width = shape
    rows, columns = height + 2 * pad - k + 1, width + 2 * pad - k + 1
    down, across = (rows + 2 * pool_pad - pool) // stride + 1, (columns + 2 * pool_pad - pool) // stride + 1
    steps = ends.shape[1] - 1
    pot = np.empty(rows * columns * features, w.dtype)
    times = np.empty(rows * columns * features, np.uint8)
    best = np.empty(features, np.uint8)
    limit = w.dtype.type(threshold)
    mark = np.empty(rows * columns, np.int64)
    for n in range(len(ends)):
        pot[:] = 0
        times[:] = steps
        mark[:] = -1
        for t in range(steps):
            for e in range(ends[n, t], ends[n, t + 1]):
                _integrate(pot, w, np.int64(at[e]), height, width, k, pad, features, rows, columns, mark, t)
            now, never = np.uint8(t), np.uint8(steps)
            for p in range(rows * columns):
                if mark[p] == t:
                    here, when = pot[p * features : (p + 1) * features], times[p * features : (p + 1) * features]
                    for f in range(features):
                        when[f] = min(when[f], now if here[f] > limit else never)
        for py in range(down):
            for px in range(across):
                best[:] = steps
                for y in range(max(0, py * stride - pool_pad), min(rows, py * stride - pool_pad + pool)):
                    for x in range(max(0, px * stride - pool_pad), min(columns, px * stride - pool_pad + pool)):
                        i = (y * columns + x) * features
                        when = times[i : i + features]
                        for f in range(features):
                            best[f] = min(best[f], when[f])
                for f in range(features):
                    out[n, (f * down + py) * across + px] = best[f]


@njit(nogil=True, cache=True)
def scatter(x, w, k, pad, out, start, stop):
    """A convolution of mostly zeros, x [N, H, W, C] -> out [N, rows, columns, F], for samples start .. stop: what is
    not zero adds its weights, times its value."""
    _, height, width, channels = x.shape
    _, rows, columns, features = out.shape
    for n in range(start, stop):
        flat = out[n].reshape(-1)
        flat[:] = 0
        for y in range(height):
            for place in range(width):
                first = place + pad - k + 1
                low, high = max(0, first), min(columns - 1, place + pad)
                size = (high - low + 1) * features
                for c in range(channels):
                    v = x[n, y, place, c]
                    if v != 0:
                        for ky in range(max(0, y + pad - rows + 1), min(k, y + pad + 1)):
                            a = ((y + pad - ky) * columns + low) * features
                            b = ((c * k + ky) * k + low - first) * features
                            reached, brought = flat[a : a + size], w[b : b + size]
                            for i in range(size):
                                reached[i] += v * brought[i]


@njit(nogil=True, cache=True)
def _update(w, feature, row, column, step, times, shape, k, pad, features, ltp, ltd, code, p, low, high):
    """The order rule on one winner: whoever fired by `step` is strengthened, all others weakened."""
    channels, height, width = shape
    for c in range(channels):
        for ky in range(k):
            y = row + ky - pad
            for kx in range(k):
                x = column + kx - pad
                inside = y >= 0 and y < height and x >= 0 and x < width
                before = inside and times[(c * height + y) * width + x] <= step
                i = ((c * k + ky) * k + k - 1 - kx) * features + feature
                v = w[i]
                change = (
                    ltp * factor(code, v, low, high, p, True) if before else -ltd * factor(code, v, low, high, p, False)
                )
                w[i] = min(max(v + change, low), high)


@njit(nogil=True, cache=True)
def learn(at, ends, order, w, shape, k, pad, features, threshold, winners, radius, rule, rates, found):
    """Samples one after the other: who wins (point-wise inhibition, then `winners` winners apart), and the order rule.

    Steps are run only until the last winner has fired. rule: (ltp, ltd, code, p, low, high); rates multiply both
    amplitudes, one a sample; found [len(order), winners, 4] receives (feature, row, column, step), step -1: none.
    """
    _, height, width = shape
    ltp, ltd, code, own, low, high = rule
    rows, columns = height + 2 * pad - k + 1, width + 2 * pad - k + 1
    steps = ends.shape[1] - 1
    pot = np.empty(rows * columns * features, w.dtype)
    mark = np.empty(rows * columns, np.int64)
    decided = np.empty(rows * columns, np.bool_)
    who, much = np.empty(rows * columns, np.int64), np.empty(rows * columns, w.dtype)
    place = np.empty(rows * columns, np.int64)
    used = np.empty(features, np.bool_)
    times = np.full(shape[0] * height * width, SILENT, np.uint8)
    for n in range(len(order)):
        sample = order[n]
        pot[:] = 0
        mark[:] = -1
        decided[:] = False
        used[:] = False
        count, t = 0, 0
        while t < steps and count < winners:
            for e in range(ends[sample, t], ends[sample, t + 1]):
                times[at[e]] = t
                _integrate(pot, w, np.int64(at[e]), height, width, k, pad, features, rows, columns, mark, t)
            candidates = 0
            for p in range(rows * columns):
                if mark[p] == t and not decided[p]:
                    here = pot[p * features : (p + 1) * features]
                    most = _most(here)
                    if most > threshold:
                        best = 0
                        while here[best] != most:
                            best += 1
                        decided[p] = True
                        who[candidates], much[candidates], place[candidates] = best, most, p
                        candidates += 1
            while count < winners and candidates:
                best = -1
                for i in range(candidates):
                    if who[i] < 0:
                        continue
                    y, x = place[i] // columns, place[i] % columns
                    free = not used[who[i]]
                    for j in range(count):
                        near = abs(y - found[n, j, 1]) <= radius and abs(x - found[n, j, 2]) <= radius
                        free = free and not near
                    if not free:
                        who[i] = -1
                    elif best < 0 or much[i] > much[best] or (much[i] == much[best] and who[i] < who[best]):
                        best = i
                if best < 0:
                    break
                found[n, count, 0], found[n, count, 3] = who[best], t
                found[n, count, 1], found[n, count, 2] = place[best] // columns, place[best] % columns
                used[who[best]] = True
                count += 1
            t += 1
        for j in range(count):
            f, y, x, s = found[n, j, 0], found[n, j, 1], found[n, j, 2], found[n, j, 3]
            up, down = ltp * rates[n], ltd * rates[n]
            _update(w, f, y, x, s, times, shape, k, pad, features, up, down, code, own, low, high)
        for e in range(ends[sample, 0], ends[sample, t]):
            times[at[e]] = SILENT
        for j in range(count, winners):
            found[n, j, 3] = -1


@njit(nogil=True, cache=True)
def decide(at, begin, end, w, shape, k, pad, features, pot, mark):
    """The neuron with the largest potential after all of a sample's events: (feature, row, column), -1 without any
    above 0; of equals the first map, then the first place."""
    _, height, width = shape
    rows, columns = height + 2 * pad - k + 1, width + 2 * pad - k + 1
    pot[:] = 0
    for e in range(begin, end):
        _integrate(pot, w, np.int64(at[e]), height, width, k, pad, features, rows, columns, mark, 0)
    most, best, where = _most(pot), -1, -1
    if most > 0:
        for p in range(rows * columns):
            here = pot[p * features : (p + 1) * features]
            if _most(here) == most:
                f = 0
                while here[f] != most:
                    f += 1
                if best < 0 or f < best:
                    best, where = f, p
    return best, where // columns, where % columns


@njit(nogil=True, cache=True)
def learn_by_reward(at, ends, order, labels, per_class, w, shape, k, pad, features, reward, punish, rates):
    """Samples one after the other: the neuron with the largest potential decides by its map's class, and learns by the
    rule `reward` if that is right, by `punish` if not. Every input that fired was in time. Returns (right, wrong)."""
    channels, height, width = shape
    rows, columns = height + 2 * pad - k + 1, width + 2 * pad - k + 1
    steps = ends.shape[1] - 1
    pot = np.empty(rows * columns * features, w.dtype)
    mark = np.empty(rows * columns, np.int64)
    times = np.full(channels * height * width, SILENT, np.uint8)
    right, wrong = 0, 0
    for n in range(len(order)):
        sample = order[n]
        begin, end = ends[sample, 0], ends[sample, steps]
        f, y, x = decide(at, begin, end, w, shape, k, pad, features, pot, mark)
        if f < 0:
            continue
        correct = f // per_class == labels[n]
        right, wrong = right + correct, wrong + (not correct)
        ltp, ltd, code, own, low, high = reward if correct else punish
        rate = rates[0] if correct else rates[1]
        for e in range(begin, end):
            times[at[e]] = 0
        _update(w, f, y, x, 0, times, shape, k, pad, features, ltp * rate, ltd * rate, code, own, low, high)
        for e in range(begin, end):
            times[at[e]] = SILENT
    return right, wrong
