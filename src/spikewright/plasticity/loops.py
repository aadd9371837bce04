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

__all__ = ["fire", "inhibited", "learn", "learn_by_reward", "scatter", "sort"]

SILENT = 255  # a time no step has
LEVELS = 256  # what 8 bits tell apart
RUN = 257  # so many of them add up within 16 bits


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


@njit(nogil=True, cache=True, inline="always")
def _changed(v, before, ltp, ltd, code, p, low, high):
    """A weight after the order rule; before: its input fired in time."""
    change = ltp * factor(code, v, low, high, p, True) if before else -ltd * factor(code, v, low, high, p, False)
    return min(max(v + change, low), high)


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
                w[i] = _changed(w[i], before, ltp, ltd, code, p, low, high)


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
def _reinforce(m, lines, count, kept, ltp, ltd, code, p, low, high):
    """The order rule on one map's kernel [C * K * K]: lines[:count] fired and are strengthened, all others weakened."""
    for i in range(count):
        kept[i] = _changed(m[lines[i]], True, ltp, ltd, code, p, low, high)
    for i in range(len(m)):
        m[i] = _changed(m[i], False, ltp, ltd, code, p, low, high)
    for i in range(count):
        m[lines[i]] = kept[i]


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz", "reassoc"})
def _level(m, low, step, new):
    """Weights in LEVELS of `step` above `low`, into new; returns the sum of what weights lie above their level."""
    above, scale = 0.0, 1.0 / step
    for i in range(len(m)):
        level = np.int32((m[i] - low) * scale + 0.5)
        above += max(0.0, m[i] - (low + step * level))
        new[i] = level
    return above


@njit(nogil=True, cache=True)
def _relevel(m, f, low, step, new, old, levels, sums):
    """Write what changed of a map's levels: old [C * K * K], levels [C * K * K, F], sums over channels [K * K, F]."""
    above = _level(m, low, step, new)
    for i in range(len(m)):
        if new[i] != old[i]:
            levels[i, f] = new[i]
            sums[i % len(sums), f] += np.int32(new[i]) - np.int32(old[i])
            old[i] = new[i]
    return above


@njit(nogil=True, cache=True)
def _add_levels(levels, first, apart, channels, count, short, out, sign):
    """Add (sign 1) or take off (-1) the rows first + apart * channels[:count] of levels [rows, F]: out [F], int32."""
    for start in range(0, count, RUN):
        stop = min(start + RUN, count)
        short[:] = 0
        i = start
        while i + 4 <= stop:  # four at a time: the sum is read and written less
            a, b = levels[first + apart * channels[i]], levels[first + apart * channels[i + 1]]
            c, d = levels[first + apart * channels[i + 2]], levels[first + apart * channels[i + 3]]
            for f in range(len(short)):
                short[f] += np.uint16(a[f]) + np.uint16(b[f]) + np.uint16(c[f]) + np.uint16(d[f])
            i += 4
        while i < stop:
            a = levels[first + apart * channels[i]]
            for f in range(len(short)):
                short[f] += np.uint16(a[f])
            i += 1
        for f in range(len(short)):
            out[f] += sign * np.int32(short[f])


@njit(nogil=True, cache=True)
def _positions(shape, k, pad):
    """[places, inputs]: where an input place lies in the kernel of an output place, -1 outside."""
    _, height, width = shape
    rows, columns = height + 2 * pad - k + 1, width + 2 * pad - k + 1
    position = np.full((rows * columns, height * width), -1, np.int64)
    for p in range(rows * columns):
        for i in range(height * width):
            ky, kx = i // width + pad - p // columns, i % width + pad - p % columns
            if ky >= 0 and ky < k and kx >= 0 and kx < k:
                position[p, i] = ky * k + k - 1 - kx
    return position


@njit(nogil=True, cache=True)
def _limits(position, events, fired, levels, sums, above, low, high, step, rounding, listed, limit, highest):
    """Upper limits of the potentials [places, F], and the highest of each place; returns the places whose neurons are
    looked at: all that the largest weight `high` could lift to the largest potential there is for sure.

    events [inputs]: how many fired at each input place, fired [C * inputs]: who.
    """
    places, inputs = position.shape
    channels, features = len(fired) // inputs, len(above)
    short, total = np.empty(features, np.uint16), np.empty(features, np.int32)
    silent, kernel = np.empty(inputs, np.bool_), np.zeros(places, np.int64)
    for i in range(inputs):  # those that fired or, if they are fewer, those that did not
        silent[i] = 2 * events[i] > channels
        count = 0
        for c in range(channels):
            listed[i, count] = c
            count += fired[c * inputs + i] != silent[i]
    for p in range(places):
        for i in range(inputs):
            kernel[p] += events[i] if position[p, i] >= 0 else 0

    reached, looked = 0.0, 0  # the largest potential is at least that
    nearest = np.argsort(-kernel)
    for p in nearest:
        slack = rounding * kernel[p] * kernel[p]
        if not kernel[p] or high * kernel[p] + slack < reached:
            break
        looked += 1
        total[:] = 0
        for i in range(inputs):
            first = position[p, i]
            if first >= 0 and silent[i]:
                for f in range(features):
                    total[f] += sums[first, f]
                _add_levels(levels, first, len(sums), listed[i], channels - events[i], short, total, -1)
            elif first >= 0:
                _add_levels(levels, first, len(sums), listed[i], events[i], short, total, 1)
        for f in range(features):
            limit[p, f] = low * kernel[p] + step * total[f] + above[f] + slack
        highest[p] = limit[p].max()
        reached = max(reached, (low - step / 2) * kernel[p] + step * total.max() - slack)
    return nearest[:looked]


@njit(nogil=True, cache=True)
def _strongest(looked, limit, highest, position, place, base, size, maps):
    """(map, place) of the largest potential, -1 for none above 0; limits that were looked at end as -infinity."""
    zero = maps.dtype.type(0)
    best, winner, where = zero, -1, -1
    while True:
        p = -1
        for q in looked:
            p = q if p < 0 or highest[q] > highest[p] else p
        if p < 0 or highest[p] < best:
            return winner, where
        f = np.argmax(limit[p])
        limit[p, f] = -np.inf
        highest[p] = limit[p].max()
        potential = zero
        for e in range(size):
            if position[p, place[e]] >= 0:
                potential += maps[f, base[e] + position[p, place[e]]]
        if potential > best or (potential == best and winner >= 0 and (f, p) < (winner, where)):
            best, winner, where = potential, f, p


@njit(nogil=True, cache=True)
def learn_by_reward(at, ends, order, labels, per_class, w, shape, k, pad, features, reward, punish, rates):
    """Samples one after the other: the neuron with the largest potential, of equals the first map, then place,
    decides by its map's class, and learns by the rule `reward` if that is right, by `punish` if not. Every input that
    fired was in time; without a potential above 0 nobody answers. Returns (right, wrong).

    Few potentials are summed up as they are defined, event by event. For others an upper limit is enough: weights in
    LEVELS add up exactly in whole numbers, so in any order and also as the sum of all less those that did not fire, and
    the limit adds all that a map's weights lie above their levels. Only whose limit reaches the largest potential found
    is looked at; a place that the largest weight could not lift there is left out at once.
    """
    channels, height, width = shape
    inputs, synapses, steps = height * width, channels * k * k, ends.shape[1] - 1
    low, high = min(reward[4], punish[4]), max(reward[5], punish[5])
    step = (high - low) / (LEVELS - 1)
    rounding = np.finfo(w.dtype).eps * max(abs(low), abs(high))

    maps = w.reshape(-1, features).T.copy()
    new, old = np.empty(synapses, np.uint8), np.zeros((features, synapses), np.uint8)
    levels, sums = np.zeros((synapses, features), np.uint8), np.zeros((k * k, features), np.int32)
    above = np.empty(features)
    for f in range(features):
        above[f] = _relevel(maps[f], f, low, step, new, old[f], levels, sums)

    position = _positions(shape, k, pad)
    fired, events = np.zeros(channels * inputs, np.bool_), np.empty(inputs, np.int64)
    listed = np.empty((inputs, channels + 1), np.int64)
    place, base, lines = np.empty(fired.size, np.int64), np.empty(fired.size, np.int64), np.empty(fired.size, np.int64)
    kept, limit, highest = np.empty(fired.size, w.dtype), np.empty((len(position), features)), np.empty(len(position))
    right, wrong = 0, 0
    for n in range(len(order)):
        begin, end = ends[order[n], 0], ends[order[n], steps]
        size = end - begin
        events[:] = 0
        for e in range(size):
            event = np.int64(at[begin + e])
            fired[event] = True
            place[e], base[e] = event % inputs, event // inputs * k * k
            events[place[e]] += 1
        looked = _limits(
            position, events, fired, levels, sums, above, low, high, step, rounding, listed, limit, highest
        )
        winner, where = _strongest(looked, limit, highest, position, place, base, size, maps)
        if winner >= 0:
            correct = winner // per_class == labels[n]
            right, wrong = right + correct, wrong + (not correct)
            ltp, ltd, code, own, least, most = reward if correct else punish
            rate, count = rates[0] if correct else rates[1], 0
            for e in range(size):
                if position[where, place[e]] >= 0:
                    lines[count] = base[e] + position[where, place[e]]
                    count += 1
            m = maps[winner]
            _reinforce(m, lines, count, kept, ltp * rate, ltd * rate, code, own, least, most)
            above[winner] = _relevel(m, winner, low, step, new, old[winner], levels, sums)
        for e in range(begin, end):
            fired[at[e]] = False
    w[:] = maps.T.copy().reshape(-1)
    return right, wrong
