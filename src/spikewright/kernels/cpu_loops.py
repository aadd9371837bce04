"""The fused time loops of integrate-and-fire neurons, in the Python that Numba compiles: the template of `cpu`.

`cpu` copies this file with the part between the marks written for one kind of neuron, and compiles the copy. As it
stands it is that of an identity surrogate, float32 in and out, >=, no pooling.

Neurons are one row a step, [T, N], taken in tiles that fit the cache: all steps of a tile are run before the next one,
so its membranes never leave the cache, and a current that is constant in time (x_step 0) is read from memory once.
Threads take tiles off a shared counter. The backward pass runs the forward again, tile by tile, from the current and
the first state: exact, and less to keep and to read than potentials.

With POOL = k the neurons are channels-last images, [B, H, W, C]; a tile is a band of k lines, and its spikes leave it
as means over k x k windows.
"""

# mypy: ignore-errors
# (Numba's Python: functions are generic, intrinsics get their first argument from the compiler)

from __future__ import annotations

from math import sqrt  # noqa: F401  (formulas use it)

import numpy as np
from numba import carray, float32, float64, from_dtype, njit, uint16, void  # noqa: F401
from numba.types import CPointer

from spikewright.kernels.machine import add_one, at, bf16, exp, from_bf16, same  # noqa: F401

# --- one kind of neuron
STRICT = False
TIMED = False
SUMS = False
POOL = 0
X, X_BYTES, load_x, store_x = float32, 4, same, same
S, S_BYTES, load_s, store_s = float32, 4, same, same


def slope(x, v_th, age, a, b, c, d):
    return float32(1)


# --- end

_COUNTS = "taken slot tiles width steps neurons x_step s_step per_thread height across channels"
_ADDRESSES = "here x v0 age0 s v age g dx gv dv0 sums scratch"
_NUMBERS = "decay gain v_init keep shift attached never"
CALL = np.dtype(
    [(name, np.int64) for name in f"{_COUNTS} {_ADDRESSES}".split()]
    + [(name, np.float32) for name in _NUMBERS.split()]
    + [(name, np.float64) for name in ["v_th", "a", "b", "c", "d"]],
    align=True,
)
"""One call: how much (counts, in elements), where (addresses; 0 for none), and the neuron's numbers. Threads share the
counters `taken` and `slot`, which begin at 0; `a` to `d` are the surrogate's own numbers."""

TAKEN, SLOT = CALL.fields["taken"][1], CALL.fields["slot"][1]
SIGNATURE = void(CPointer(from_dtype(CALL)))


@njit
def _fires(u, v_th):
    over = u - v_th
    return over > float32(0) if STRICT else over >= float32(0)


@njit
def _extent(call, tile):
    """A tile's first neuron and number of neurons, its first output and number of outputs."""
    if POOL:
        bands, across = call.height // POOL, call.across // POOL
        image, band = tile // bands, tile % bands
        lines = POOL if band < bands - 1 else call.height - POOL * band
        line = call.across * call.channels
        outputs = across * call.channels
        return (image * call.height + band * POOL) * line, lines * line, tile * outputs, outputs
    lo = tile * call.width
    n = min(call.width, call.neurons - lo)
    return lo, n, lo, n


@njit
def _start(call, lo, n, v, age):
    """Membranes (and ages) before the first step."""
    if call.v0:
        v0 = at(call.v0 + 4 * lo, n, float32)
        for i in range(n):
            v[i] = v0[i]
    else:
        for i in range(n):
            v[i] = call.v_init
    if TIMED:
        if call.age0:
            age0 = at(call.age0 + 4 * lo, n, float32)
            for i in range(n):
                age[i] = age0[i]
        else:
            for i in range(n):
                age[i] = call.never


@njit
def _window(call, row, column, k):
    """All channels of the k-th pixel of a window in the band at `row`."""
    pixel = (k // POOL) * call.across + column * POOL + k % POOL
    return at(row + 4 * pixel * call.channels, call.channels, float32)


@njit
def _pool(call, row, s):
    """Means of the band of spikes at `row` over its windows, into `s`. Overwrites the band."""
    channels = call.channels
    for column in range(call.across // POOL):
        out = at(s + S_BYTES * column * channels, channels, S)
        first = _window(call, row, column, 0)
        for k in range(1, POOL * POOL):
            other = _window(call, row, column, k)
            for c in range(channels):
                first[c] += other[c]
        for c in range(channels):
            out[c] = store_s(first[c] / float32(POOL * POOL))


@njit
def _spread(call, g, row, n):
    """The gradient of `_pool`: from the means at `g` to the band of n spikes at `row`."""
    channels = call.channels
    if call.across % POOL or n != POOL * call.across * channels:  # lines or columns that no window covers
        band = at(row, n, float32)
        for i in range(n):
            band[i] = float32(0)
    for column in range(call.across // POOL):
        given = at(g + S_BYTES * column * channels, channels, S)
        for k in range(POOL * POOL):
            pixel = _window(call, row, column, k)
            for c in range(channels):
                pixel[c] = load_s(given[c]) / float32(POOL * POOL)


def forward(address):
    """Spikes and last states."""
    call = carray(address, 1)[0]
    decay, gain, v_th = call.decay, call.gain, float32(call.v_th)
    keep, shift = call.keep, call.shift
    width = call.width
    mine = call.scratch + 4 * call.per_thread * add_one(call.here + SLOT)
    v = at(mine, width, float32)
    age = at(mine + 4 * width, width, float32)
    row = mine + 8 * width
    while True:
        tile = add_one(call.here + TAKEN)
        if tile >= call.tiles:
            break
        lo, n, out_lo, out_n = _extent(call, tile)
        _start(call, lo, n, v, age)
        spikes = at(row, n, float32)
        for t in range(call.steps):
            x = at(call.x + X_BYTES * (t * call.x_step + lo), n, X)
            s_address = call.s + S_BYTES * (t * call.s_step + out_lo)
            s = at(s_address, out_n, S)
            if TIMED:
                for i in range(n):
                    u = decay * v[i] + gain * load_x(x[i])
                    age[i] = float32(0) if _fires(u, v_th) else age[i] + float32(1)
            for i in range(n):
                now = load_x(x[i])
                u = decay * v[i] + gain * now
                fired = _fires(u, v_th)
                v[i] = (keep * u + shift if fired else u) + float32(0) * now
                if POOL:
                    spikes[i] = float32(1) if fired else float32(0)
                else:
                    s[i] = store_s(float32(1) if fired else float32(0))
            if POOL:
                _pool(call, row, s_address)
        last = at(call.v + 4 * lo, n, float32)
        for i in range(n):
            last[i] = v[i]
        if TIMED:
            last = at(call.age + 4 * lo, n, float32)
            for i in range(n):
                last[i] = age[i]


def backward(address):
    """Gradients of the current, the first membrane and, where asked for, of decay, gain, threshold and shift."""
    call = carray(address, 1)[0]
    decay, gain, wide_v_th, v_th = call.decay, call.gain, call.v_th, float32(call.v_th)
    keep, shift, attached = call.keep, call.shift, call.attached
    a, b, c, d = call.a, call.b, call.c, call.d
    steps, width, constant = call.steps, call.width, call.x_step == 0
    slot = add_one(call.here + SLOT)
    mine = call.scratch + 4 * call.per_thread * slot
    v = at(mine, width, float32)
    age = at(mine + 4 * width, width, float32)
    row = mine + 8 * width
    gv = at(mine + 12 * width, width, float32)
    total = mine + 16 * width
    history = mine + 32 * width  # one line a step, after the first membrane
    ages = history + 4 * width * (steps + 1)
    of_decay, of_gain, of_v_th, of_shift = 0.0, 0.0, 0.0, 0.0
    while True:
        tile = add_one(call.here + TAKEN)
        if tile >= call.tiles:
            break
        lo, n, out_lo, out_n = _extent(call, tile)
        _start(call, lo, n, v, age)
        first = at(history, n, float32)
        for i in range(n):
            first[i] = v[i]
        for t in range(steps):
            x = at(call.x + X_BYTES * (t * call.x_step + lo), n, X)
            potential = at(history + 4 * width * (t + 1), n, float32)
            for i in range(n):
                u = decay * v[i] + gain * load_x(x[i])
                potential[i] = u
                v[i] = keep * u + shift if _fires(u, v_th) else u
            if TIMED:
                since = at(ages + 4 * width * t, n, float32)
                for i in range(n):
                    age[i] = float32(0) if _fires(potential[i], v_th) else age[i] + float32(1)
                    since[i] = age[i]
        if call.gv:
            given = at(call.gv + 4 * lo, n, float32)
            for i in range(n):
                gv[i] = given[i]
        else:
            for i in range(n):
                gv[i] = float32(0)
        gu = at(row, n, float32)
        collected = at(mine, n, float32)  # the current's gradient where that is constant; v is not needed any more
        for i in range(n):
            collected[i] = float32(0)
        sum_decay, sum_gain = at(total, n, float32), at(total + 4 * width, n, float32)
        sum_v_th, sum_shift = at(total + 8 * width, n, float32), at(total + 12 * width, n, float32)
        if SUMS:
            for i in range(n):
                sum_decay[i] = float32(0)
                sum_gain[i] = float32(0)
                sum_v_th[i] = float32(0)
                sum_shift[i] = float32(0)
        for back in range(steps):
            t = steps - 1 - back
            potential = at(history + 4 * width * (t + 1), n, float32)
            since = at(ages + 4 * width * t, n, float32) if TIMED else potential
            g_address = call.g + S_BYTES * (t * call.s_step + out_lo)
            g = at(g_address, out_n, S)
            if POOL:
                _spread(call, g_address, row, n)
            for i in range(n):
                u = potential[i]
                gs = (gu[i] if POOL else load_s(g[i])) + attached * (gv[i] * ((keep - float32(1)) * u + shift))
                held = gv[i] * (keep if _fires(u, v_th) else float32(1))
                gu[i] = gs * slope(u - v_th, wide_v_th, since[i], a, b, c, d) + held
            if SUMS:
                x = at(call.x + X_BYTES * (t * call.x_step + lo), n, X)
                before = at(history + 4 * width * t, n, float32)
                for i in range(n):
                    reset = t > 0 and _fires(before[i], v_th)
                    sum_decay[i] += gu[i] * (keep * before[i] + shift if reset else before[i])
                    sum_gain[i] += gu[i] * load_x(x[i])
                for i in range(n):
                    fired = _fires(potential[i], v_th)
                    sum_v_th[i] -= gu[i] - gv[i] * (keep if fired else float32(1))
                    sum_shift[i] += gv[i] if fired else float32(0)
            if constant:
                for i in range(n):
                    collected[i] += gain * gu[i]
                    gv[i] = decay * gu[i]
            else:
                dx = at(call.dx + X_BYTES * (t * call.x_step + lo), n, X)
                for i in range(n):
                    dx[i] = store_x(gain * gu[i])
                    gv[i] = decay * gu[i]
        if constant and call.dx:
            dx = at(call.dx + X_BYTES * lo, n, X)
            for i in range(n):
                dx[i] = store_x(collected[i])
        if call.dv0:
            dv0 = at(call.dv0 + 4 * lo, n, float32)
            for i in range(n):
                dv0[i] = gv[i]
        if SUMS:
            for i in range(n):
                of_decay += sum_decay[i]
                of_gain += sum_gain[i]
                of_v_th += sum_v_th[i]
                of_shift += sum_shift[i]
    if SUMS:
        sums = at(call.sums + 32 * slot, 4, float64)
        sums[0], sums[1], sums[2], sums[3] = of_decay, of_gain, of_v_th, of_shift
