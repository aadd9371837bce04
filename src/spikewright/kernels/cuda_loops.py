"""The fused time loops of integrate-and-fire neurons, in the Python that Triton compiles: the template of `cuda`.

`cuda` copies this file with the part between the marks written for one kind of neuron, and makes a Triton function of
every function in the copy. As it stands it is that of an identity surrogate, and needs no Triton to be imported.

Neurons are one row a step, [T, N]; a program owns WIDTH of them and runs all steps, so membranes live in registers and
a current that is constant in time (CONSTANT) is read once. Arrays that are None are not there. The backward pass runs
the forward again, from the current and the first state, and leaves its potentials (and ages) in [T, N] of scratch.
"""

# mypy: ignore-errors
# (Triton's Python: functions are generic, arrays are pointers)

from __future__ import annotations

from typing import TYPE_CHECKING

# --- one kind of neuron
if TYPE_CHECKING:
    import triton.language as tl


def slope(x, v_th, age, a, b, c, d):
    """The surrogate's derivative at x."""
    return 1.0


# --- end


def sqrt(x):
    """What formulas call it."""
    return tl.sqrt(x)


def _dynamics(numbers):
    """decay, gain, v_th, keep, shift: from `plan.Numbers`, in its order, as all numbers below."""
    return tl.load(numbers), tl.load(numbers + 1), tl.load(numbers + 2), tl.load(numbers + 4), tl.load(numbers + 5)


def _start(given, rest, lane, here, WIDTH: tl.constexpr):
    """A state before the first step: the one given, or the neuron's at rest."""
    if given is None:
        return tl.zeros((WIDTH,), tl.float32) + rest
    else:
        return tl.load(given + lane, mask=here, other=0.0)


def _fires(u, v_th, STRICT: tl.constexpr):
    if STRICT:
        return u - v_th > 0.0
    else:
        return u - v_th >= 0.0


def forward(
    numbers,
    x,
    v0,
    age0,
    s,
    v_last,
    age_last,
    steps,
    neurons,
    CONSTANT: tl.constexpr,
    STRICT: tl.constexpr,
    TIMED: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Spikes and last states."""
    decay, gain, v_th, keep, shift = _dynamics(numbers)
    lane = tl.program_id(0).to(tl.int64) * WIDTH + tl.arange(0, WIDTH)
    here = lane < neurons
    v = _start(v0, tl.load(numbers + 3), lane, here, WIDTH)
    if TIMED:
        age = _start(age0, tl.load(numbers + 7), lane, here, WIDTH)
    if CONSTANT:
        now = tl.load(x + lane, mask=here, other=0.0).to(tl.float32)
    for _ in range(steps):
        if not CONSTANT:
            now = tl.load(x + lane, mask=here, other=0.0).to(tl.float32)
            x += neurons
        u = decay * v + gain * now
        fired = _fires(u, v_th, STRICT)
        v = tl.where(fired, keep * u + shift, u) + 0.0 * now
        if TIMED:
            age = tl.where(fired, 0.0, age + 1.0)
        tl.store(s + lane, tl.where(fired, 1.0, 0.0).to(s.dtype.element_ty), mask=here)
        s += neurons
    tl.store(v_last + lane, v, mask=here)
    if TIMED:
        tl.store(age_last + lane, age, mask=here)


def backward(
    numbers,
    x,
    v0,
    age0,
    g,
    gv_last,
    dx,
    dv0,
    sums,
    potentials,
    ages,
    steps,
    neurons,
    CONSTANT: tl.constexpr,
    STRICT: tl.constexpr,
    TIMED: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """Gradients of the current and the first membrane; a row of `sums` is this program's share of the gradients of
    decay, gain, threshold and shift."""
    decay, gain, v_th, keep, shift = _dynamics(numbers)
    attached = tl.load(numbers + 6)
    a, b, c, d = tl.load(numbers + 8), tl.load(numbers + 9), tl.load(numbers + 10), tl.load(numbers + 11)
    lane = tl.program_id(0).to(tl.int64) * WIDTH + tl.arange(0, WIDTH)
    here = lane < neurons
    first = _start(v0, tl.load(numbers + 3), lane, here, WIDTH)
    v = first
    if TIMED:
        age = _start(age0, tl.load(numbers + 7), lane, here, WIDTH)
    if CONSTANT:
        now = tl.load(x + lane, mask=here, other=0.0).to(tl.float32)
    for _ in range(steps):
        if not CONSTANT:
            now = tl.load(x + lane, mask=here, other=0.0).to(tl.float32)
            x += neurons
        u = decay * v + gain * now
        fired = _fires(u, v_th, STRICT)
        v = tl.where(fired, keep * u + shift, u) + 0.0 * now
        tl.store(potentials + lane, u, mask=here)
        potentials += neurons
        if TIMED:
            age = tl.where(fired, 0.0, age + 1.0)
            tl.store(ages + lane, age, mask=here)
            ages += neurons
        g += neurons
        if not CONSTANT:
            dx += neurons
    tl.debug_barrier()  # another thread of the program may read what one has written above
    gu = tl.zeros((WIDTH,), tl.float32)
    gv = _start(gv_last, 0.0, lane, here, WIDTH)
    of_x = tl.zeros((WIDTH,), tl.float32)
    of_decay = tl.zeros((WIDTH,), tl.float32)
    of_gain = tl.zeros((WIDTH,), tl.float32)
    of_v_th = tl.zeros((WIDTH,), tl.float32)
    of_shift = tl.zeros((WIDTH,), tl.float32)
    for _ in range(steps):
        g -= neurons
        potentials -= neurons
        u = tl.load(potentials + lane, mask=here, other=0.0)
        fired = _fires(u, v_th, STRICT)
        since = u
        if TIMED:
            ages -= neurons
            since = tl.load(ages + lane, mask=here, other=0.0)
        gs = tl.load(g + lane, mask=here, other=0.0).to(tl.float32) + attached * (gv * ((keep - 1.0) * u + shift))
        through = gs * slope(u - v_th, v_th, since, a, b, c, d)
        if sums is not None:
            if not CONSTANT:
                x -= neurons
                now = tl.load(x + lane, mask=here, other=0.0).to(tl.float32)
            of_decay += gu * tl.where(fired, keep * u + shift, u)  # gu: still that of the next step
            of_v_th -= through
            of_shift += tl.where(fired, gv, 0.0)
        gu = through + gv * tl.where(fired, keep, 1.0)
        gv = decay * gu
        if sums is not None:
            of_gain += gu * now
        if CONSTANT:
            of_x += gain * gu
        else:
            dx -= neurons
            tl.store(dx + lane, (gain * gu).to(dx.dtype.element_ty), mask=here)
    if CONSTANT:
        tl.store(dx + lane, of_x.to(dx.dtype.element_ty), mask=here)
    if dv0 is not None:
        tl.store(dv0 + lane, gv, mask=here)
    if sums is not None:
        of_decay += gu * first
        share = sums + tl.program_id(0) * 4
        tl.store(share, tl.sum(tl.where(here, of_decay, 0.0).to(tl.float64)))
        tl.store(share + 1, tl.sum(tl.where(here, of_gain, 0.0).to(tl.float64)))
        tl.store(share + 2, tl.sum(tl.where(here, of_v_th, 0.0).to(tl.float64)))
        tl.store(share + 3, tl.sum(tl.where(here, of_shift, 0.0).to(tl.float64)))
