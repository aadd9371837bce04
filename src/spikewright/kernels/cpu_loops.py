"""The fused time loops of integrate-and-fire neurons, in the Python that Numba compiles: the template of `cpu`.

`cpu` copies this file with the part between the marks written for one kind of neuron, and compiles the copy. As it
stands it is that of an identity surrogate and >=.

Neurons are one row a step, [T, N], taken in tiles that fit the cache: all steps of a tile are run before the next one,
so its membranes never leave the cache, and a current that is constant in time (x_step 0) is read from memory once.
Threads take tiles off a shared counter. The backward pass runs the forward again, tile by tile, from the current and
the first state: exact, and less to keep and to read than potentials.

Where a call pools by k, the neurons are channels-last images, [B, H, W, C]; a tile is a band of k lines, and its spikes
leave it as means over k x k windows.

The next row is asked for while this one is computed, or memory and loops would wait for each other. Results larger
than the caches are written past them: a line need not be read to be written whole.
"""

# mypy: ignore-errors
# (Numba's Python: functions are generic, intrinsics get their first argument from the compiler)

from __future__ import annotations

from math import sqrt  # noqa: F401  (formulas use it)

from numba import carray, float32, float64, njit, uint8, uint16

from spikewright.kernels.cpu_rows import (
    SLOT,
    STRANGE,
    TAKEN,
    all_finite,
    copied,
    extent,
    filled,
    hand_on,
    leave,
    read,
    taken_back,
)
from spikewright.kernels.machine import add_one, at, exp, fetch, streamed, widened  # noqa: F401

# --- one kind of neuron
STRICT = False
TIMED = False
SUMS = False


def slope(x, v_th, age, a, b, c, d):
    """The surrogate's derivative at x."""
    return float32(1)


# --- end


@njit
def _fires(u, v_th):
    return u > v_th if STRICT else u >= v_th


@njit
def _step(x, v, age, counts, decay, gain, v_th, keep, shift):
    """One step of neurons: adds 1 to the count of each that fires."""
    for i in range(len(counts)):
        u = decay * v[i] + gain * widened(x[i])
        fired = _fires(u, v_th)
        v[i] = keep * u + shift if fired else u
        counts[i] += uint8(1) if fired else uint8(0)
        if TIMED:
            age[i] = float32(0) if fired else age[i] + float32(1)


def forward(address):
    """Spikes and, where asked for, last states; counts the tiles that end with a membrane that is not finite."""
    call = carray(address, 1)[0]
    decay, gain, v_th = call.decay, call.gain, float32(call.v_th)
    keep, shift = call.keep, call.shift
    mine = call.scratch + 4 * call.per_thread * add_one(call.here + SLOT)
    ages, counts, spare = mine + 4 * call.width, mine + 8 * call.width, mine + 12 * call.width
    while True:
        tile = add_one(call.here + TAKEN)
        if tile >= call.tiles:
            break
        lo, n, out_lo, outs = extent(call, tile)
        line = call.across * call.channels if call.pool else n
        v, age = at(mine, n, float32), at(ages, n, float32)
        copied(call.v0 + 4 * lo if call.v0 else 0, v, call.v_init)
        if TIMED:
            copied(call.age0 + 4 * lo if call.age0 else 0, age, call.never)
        for t in range(call.steps):
            source = call.x + call.x_bytes * (t * call.x_step + lo)
            target = call.s + call.s_bytes * (t * call.s_step + out_lo)
            if t + 1 < call.steps:
                if call.x_step:
                    fetch(source + call.x_bytes * call.x_step, n * call.x_bytes)
                if not call.past:
                    fetch(target + call.s_bytes * call.s_step, outs * call.s_bytes)
            filled(at(counts, line, uint8), uint8(0))
            for i in range(0, n, line):  # the lines of a window add up; below the last window none are handed on
                spikes = at(counts if i < call.pool * line else counts + i, line, uint8)
                if call.x_bytes == 4:
                    x = at(source + 4 * i, line, float32)
                    _step(x, v[i:], age[i:], spikes, decay, gain, v_th, keep, shift)
                else:
                    bits = at(source + 2 * i, line, uint16)
                    _step(bits, v[i:], age[i:], spikes, decay, gain, v_th, keep, shift)
            hand_on(call, counts, outs, target, spare)
        if not all_finite(v):
            add_one(call.here + STRANGE)
        if call.v:
            copied(mine, at(call.v + 4 * lo, n, float32), float32(0))
        if TIMED and call.age:
            copied(ages, at(call.age + 4 * lo, n, float32), float32(0))
    streamed()


@njit
def _potentials(x, v, potential, decay, gain, v_th, keep, shift):
    """One step of neurons, keeping their potentials before the reset."""
    for i in range(len(v)):
        u = decay * v[i] + gain * widened(x[i])
        potential[i] = u
        v[i] = keep * u + shift if _fires(u, v_th) else u


@njit
def _step_back(potential, since, g, gu, dx, carry, gain, wide_v_th, v_th, keep, shift, attached, a, b, c, d):
    """The gradients of the potentials and of the currents of one step, from those of the spikes and, in `gu`, of the
    potentials one step later."""
    for i in range(len(dx)):
        u = potential[i]
        gv = carry * gu[i]
        gs = g[i] + attached * (gv * ((keep - float32(1)) * u + shift))
        held = gv * (keep if _fires(u, v_th) else float32(1))
        gu[i] = gs * slope(u - v_th, wide_v_th, since[i], a, b, c, d) + held
        dx[i] = gain * gu[i]


def backward(address):
    """Gradients of the current, the first membrane and, where asked for, of decay, gain, threshold and shift."""
    call = carray(address, 1)[0]
    decay, gain, wide_v_th, v_th = call.decay, call.gain, call.v_th, float32(call.v_th)
    keep, shift, attached = call.keep, call.shift, call.attached
    a, b, c, d = call.a, call.b, call.c, call.d
    steps, constant = call.steps, call.x_step == 0
    width = 4 * call.width
    slot = add_one(call.here + SLOT)
    mine = call.scratch + 4 * call.per_thread * slot
    history = mine + 11 * width  # the first membrane, then the potential at every step
    ages = history + width * (steps + 1)
    of_decay, of_gain, of_v_th, of_shift = 0.0, 0.0, 0.0, 0.0
    while True:
        tile = add_one(call.here + TAKEN)
        if tile >= call.tiles:
            break
        lo, n, out_lo, outs = extent(call, tile)
        line = call.across * call.channels if call.pool else n
        v, gu, gv = at(mine, n, float32), at(mine + width, n, float32), at(mine + 2 * width, n, float32)
        copied(call.v0 + 4 * lo if call.v0 else 0, at(history, n, float32), call.v_init)
        copied(history, v, float32(0))
        if TIMED:
            age = at(mine + 3 * width, n, float32)
            copied(call.age0 + 4 * lo if call.age0 else 0, age, call.never)
        for t in range(steps):
            source = call.x + call.x_bytes * (t * call.x_step + lo)
            if call.x_step and t + 1 < steps:
                fetch(source + call.x_bytes * call.x_step, n * call.x_bytes)
            potential = at(history + width * (t + 1), n, float32)
            if call.x_bytes == 4:
                _potentials(at(source, n, float32), v, potential, decay, gain, v_th, keep, shift)
            else:
                _potentials(at(source, n, uint16), v, potential, decay, gain, v_th, keep, shift)
            if TIMED:
                since = at(ages + width * t, n, float32)
                for i in range(n):
                    age[i] = float32(0) if _fires(potential[i], v_th) else age[i] + float32(1)
                    since[i] = age[i]
        copied(call.gv + 4 * lo if call.gv else 0, gu, float32(0))
        carry = float32(
            1
        )  # what a potential hands on of the gradient of the next: nothing is lost behind the last step
        dx_in_place = call.x_bytes == 4 and not constant and not call.past
        total = at(mine + 6 * width, n, float32)
        if constant:
            filled(total, float32(0))
        if SUMS:
            sum_decay, sum_gain = at(mine + 7 * width, n, float32), at(mine + 8 * width, n, float32)
            sum_v_th, sum_shift = at(mine + 9 * width, n, float32), at(mine + 10 * width, n, float32)
            filled(at(mine + 7 * width, 4 * call.width, float32), float32(0))
        for back in range(steps):
            t = steps - 1 - back
            potential = at(history + width * (t + 1), n, float32)
            since = at(ages + width * t, n, float32) if TIMED else potential
            source = call.g + call.s_bytes * (t * call.s_step + out_lo)
            place = call.x + call.x_bytes * (t * call.x_step + lo)
            target = call.dx + call.x_bytes * (t * call.x_step + lo)
            if t > 0:
                fetch(source - call.s_bytes * call.s_step, outs * call.s_bytes)
                if not (call.past or constant):
                    fetch(target - call.x_bytes * call.x_step, n * call.x_bytes)
            if SUMS:
                for i in range(n):
                    gv[i] = carry * gu[i]
            spikes = taken_back(call, source, mine + 5 * width, line, mine + 4 * width)
            dx = at(target if dx_in_place else mine + 4 * width, n, float32)
            for i in range(0, n, line):
                g = at(spikes if i < call.pool * line or i == 0 else spikes + 4 * line, line, float32)
                _step_back(
                    potential[i:],
                    since[i:],
                    g,
                    gu[i:],
                    dx[i : i + line],
                    carry,
                    gain,
                    wide_v_th,
                    v_th,
                    keep,
                    shift,
                    attached,
                    a,
                    b,
                    c,
                    d,
                )
            carry = decay
            if constant:
                for i in range(n):
                    total[i] += dx[i]
            elif not dx_in_place:
                leave(mine + 4 * width, n, call.x_bytes, target, mine + 3 * width, call.past)
            if SUMS:
                x = at(read(place, n, call.x_bytes, mine + 4 * width), n, float32)
                before = at(history + width * t, n, float32)
                for i in range(n):
                    reset = t > 0 and _fires(before[i], v_th)
                    sum_decay[i] += gu[i] * (keep * before[i] + shift if reset else before[i])
                    sum_gain[i] += gu[i] * x[i]
                for i in range(n):
                    fired = _fires(potential[i], v_th)
                    sum_v_th[i] -= gu[i] - gv[i] * (keep if fired else float32(1))
                    sum_shift[i] += gv[i] if fired else float32(0)
        if constant:
            leave(mine + 6 * width, n, call.x_bytes, call.dx + call.x_bytes * lo, mine + 4 * width, 0)
        if call.dv0:
            of_first = at(call.dv0 + 4 * lo, n, float32)
            for i in range(n):
                of_first[i] = carry * gu[i]
        if SUMS:
            for i in range(n):
                of_decay += sum_decay[i]
                of_gain += sum_gain[i]
                of_v_th += sum_v_th[i]
                of_shift += sum_shift[i]
    streamed()
    if SUMS:
        sums = at(call.sums + 32 * slot, 4, float64)
        sums[0], sums[1], sums[2], sums[3] = of_decay, of_gain, of_v_th, of_shift
