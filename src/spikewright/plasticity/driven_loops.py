"""The event-driven simulation of one competitive layer in training, compiled by Numba.

Time is cut into steps of h ms. In step t, in this order:

1. conductances (or, of current-based cells, the membranes) and traces decay;
2. the inhibition that spikes of step t - 1 called forth arrives;
3. input spikes of step t arrive with the weight they find; then their synapses learn (pre event: the post trace is
   that of before this step's output spikes) and their trace is set to 1;
4. membranes move, cells over threshold fire; their synapses learn (post event: a pre spike of the same step counts);
   their traces are set to 1, theta rises, and the cell is held at its reset for the refractory time.

Work is in proportion to spikes but for step 4, which is one vectorised pass over the cells; inhibitory cells are
touched only while they are away from rest. A synapse that reaches cell j of location l from place p of its receptive
field is weights[l * P + p, j]; a dense layer is one location. Traces that only events read are kept as times.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from spikewright.events import draw, place_mark, sample_row, step_row
from spikewright.plasticity.rules import RuleNumbers
from spikewright.plasticity.weights import factor

__all__ = ["NEVER", "Constants", "State", "present"]

NEVER = -(1 << 40)  # the step of a spike that has not been


class Constants(NamedTuple):
    """Numbers of the layer and its rule; potentials in mV, times in steps."""

    conductance: bool  # input raises a conductance (Diehl & Cook) or moves the membrane (current-based cells)
    gain: float  # h / tau of the membrane (conductance), or its decay in a step (current)
    decay_e: float
    decay_i: float
    mean_e: float  # mean of a conductance over a step, in parts of that at its beginning
    mean_i: float
    v_rest: float
    v_reset: float
    v_th: float
    e_exc: float
    e_inh: float
    refractory: int
    to_inhibitory: float  # what an output spike adds to its inhibitory cell
    inhibition: float  # what an inhibitory spike (or, current-based, an output spike) does to the location's others
    inh_gain: float
    inh_rest: float
    inh_reset: float
    inh_th: float
    inh_e_exc: float
    inh_refractory: int
    theta_plus: float
    theta_decay: float  # in one step
    rule: RuleNumbers
    target_down: bool
    norm: float  # sum of each cell's weights, 0: none
    decay_post: float  # of the post trace in a step
    steps: int
    rest: int  # without input after each presentation; below 0: everything starts from rest instead
    least: int  # output spikes below which an image is shown again
    attempts: int  # how often at most
    stronger: float  # how much of the first intensity every further attempt adds


class State(NamedTuple):
    """What goes on from image to image."""

    now: np.ndarray  # int64 [1]: the step that comes next
    weights: np.ndarray  # [locations * places, cells of a location]
    theta: np.ndarray  # [cells]
    v: np.ndarray
    g_e: np.ndarray
    g_i: np.ndarray
    y: np.ndarray  # post trace
    last_post: np.ndarray  # int64 [cells]: step of the last output spike
    last_pre: np.ndarray  # int64 [inputs]
    inh_v: np.ndarray
    inh_g: np.ndarray
    inh_seen: np.ndarray  # int64 [cells]: step the inhibitory cell was last touched
    inh_last: np.ndarray  # int64 [cells]: step of its last spike
    pending: np.ndarray  # int64 [cells]: whether its inhibition arrives in the next step


@njit(cache=True)
def _normalise(w, places, norm, total):  # type: ignore[no-untyped-def]
    """Every cell's weights to the sum `norm`."""
    rows, cells = w.shape
    for first in range(0, rows, places):
        total[:cells] = 0
        for r in range(first, first + places):
            for j in range(cells):
                total[j] += w[r, j]
        for j in range(cells):
            total[j] = norm / total[j] if total[j] > 0 else 1.0
        for r in range(first, first + places):
            for j in range(cells):
                w[r, j] *= total[j]


@njit(cache=True)
def _fade(x, decay, nothing):  # type: ignore[no-untyped-def]
    """Decay, to 0 from where numbers become denormal and slow."""
    for j in range(x.size):
        new = x[j] * decay
        x[j] = new if new > nothing else x.dtype.type(0)


@njit(cache=True)
def _arrive(g, row):  # type: ignore[no-untyped-def]
    for j in range(g.size):
        g[j] += row[j]


@njit(cache=True)
def _arrive_and_depress(g, row, y, ltd, low, high):  # type: ignore[no-untyped-def]
    """The weights' current, and additive depression."""
    for j in range(g.size):
        old = row[j]
        g[j] += old
        row[j] = min(max(old - ltd * y[j], low), high)


@njit(cache=True)
def _charge(  # type: ignore[no-untyped-def]
    v, g_e, g_i, theta, k, mean_e, mean_i, rest, e_exc, e_inh, v_th, one, half, sixth
):
    """Exponential Euler with the conductances at their mean over the step; whether any cell is over its threshold.

    exp(-x) is taken as 1 / (1 + x + x^2/2 + x^3/6), which keeps v between the reversal potentials for any x.
    """
    over = 0
    for j in range(v.size):
        e, i = mean_e * g_e[j], mean_i * g_i[j]
        x = k * (one + e + i)
        p = one + x * (half + x * sixth)
        new = (v[j] + k * p * (rest + e * e_exc + i * e_inh)) / (one + x * p)
        v[j] = new
        over |= new > v_th + theta[j]
    return over


@njit(cache=True)
def _over(v, theta, v_th):  # type: ignore[no-untyped-def]
    over = 0
    for j in range(v.size):
        over |= v[j] > v_th + theta[j]
    return over


@njit(cache=True)
def _leak(v, rest, decay):  # type: ignore[no-untyped-def]
    for j in range(v.size):
        v[j] = rest + (v[j] - rest) * decay


@njit(cache=True)
def _arrive_and_learn(g, row, y, rule):  # type: ignore[no-untyped-def]
    """The same with depression that depends on the weight."""
    for j in range(g.size):
        old = row[j]
        g[j] += old
        if y[j] != 0:
            down = rule.ltd2 * y[j] * factor(rule.code, old, rule.low, rule.high, rule.p, False)
            row[j] = min(max(old - down, rule.low), rule.high)


@njit(cache=True)
def _potentiate(w, j, first, inputs, last_pre, now, pre_table, o2, rule, target_down):  # type: ignore[no-untyped-def]
    """A post event of a place's cell j, whose rows of weights begin at `first`."""
    amplitude = rule.ltp2 + rule.ltp3 * o2
    if amplitude == 0.0:
        return
    low, high = rule.low, rule.high
    for p in range(inputs.size):
        age = now - last_pre[inputs[p]]
        r1 = pre_table[age] if age < pre_table.size else 0.0
        if r1 == 0.0 and rule.target == 0.0:
            continue
        old = w[first + p, j]
        drive = r1 * factor(rule.code, old, low, high, rule.p, True)
        if rule.target != 0.0:
            drive -= rule.target * factor(rule.code, old, low, high, rule.p, not target_down)
        w[first + p, j] = min(max(old + amplitude * drive, low), high)


@njit(cache=True)
def present(  # type: ignore[no-untyped-def]
    levels, keys, seeds, inputs, reach_start, reach_row, pre_table, post_table, c, state, learn, counts, shown
):
    """Show images one after the other.

    Args:
        levels: [images, inputs] float32: probability of an input spike in a step, at the first attempt.
        keys, seeds: `noise.sample_keys` and the encoder's seed of each image.
        inputs: [locations, places]: the input at each place of each location's receptive field.
        reach_start, reach_row: the rows of weights that input i reaches are reach_row[reach_start[i]:reach_start[i+1]].
        pre_table, post_table: traces so many steps after a spike, of inputs and the slow one of outputs.
        learn: whether weights and theta change; if not, every image starts from rest and is shown once.
        counts: [images, cells], out: output spikes of the last attempt.
        shown: [images], out: attempts.
    """
    w, v, g_e, g_i, theta, y = state.weights, state.v, state.g_e, state.g_i, state.theta, state.y
    real = v.dtype.type
    places = inputs.shape[1]
    cells = w.shape[1]
    one, half, sixth = real(1), real(0.5), real(1 / 6)
    gain, decay_e, decay_i, decay_post = real(c.gain), real(c.decay_e), real(c.decay_i), real(c.decay_post)
    rest, reset, v_th, e_exc, e_inh = real(c.v_rest), real(c.v_reset), real(c.v_th), real(c.e_exc), real(c.e_inh)
    mean_e, mean_i = real(c.mean_e), real(c.mean_i)
    inhibition, nothing = real(c.inhibition), real(1e-30)
    quiet = 1.0 / (1.0 + c.inh_gain * (1.0 + c.inh_gain * (0.5 + c.inh_gain / 6.0)))  # of an inhibitory cell, a step
    ltd2, least, most = real(c.rule.ltd2), real(c.rule.low), real(c.rule.high)
    mark = np.empty(levels.shape[1], np.uint32)
    level = np.empty(levels.shape[1], np.float32)
    place = np.empty(levels.shape[1], np.int64)
    hit = np.empty(levels.shape[1], np.uint8)
    total = np.empty(cells, v.dtype)
    awake = np.empty(v.size, np.int64)
    is_awake = np.zeros(v.size, np.uint8)
    held = np.empty(v.size, np.int64)
    fired = np.empty(v.size, np.int64)
    pending = np.empty(v.size, np.int64)  # whose inhibition arrives in the next step
    n_awake, n_held, n_pending = 0, 0, 0
    for j in range(v.size):  # as the last block left them
        if c.conductance and (state.inh_g[j] != 0 or state.now[0] - state.inh_last[j] <= c.inh_refractory):
            awake[n_awake] = j
            is_awake[j] = 1
            n_awake += 1
        if state.now[0] - state.last_post[j] <= c.refractory:
            held[n_held] = j
            n_held += 1
        if state.pending[j]:
            pending[n_pending] = j
            n_pending += 1
    for b in range(levels.shape[0]):
        attempt = 0
        while True:
            if learn and c.norm > 0:
                _normalise(w, places, real(c.norm), total)
            if not learn or c.rest < 0:
                v[:] = rest
                g_e[:] = 0
                g_i[:] = 0
                state.inh_v[:] = c.inh_rest
                state.inh_g[:] = 0
                y[:] = 0
                state.last_pre[:] = NEVER
                state.last_post[:] = NEVER
                state.inh_last[:] = NEVER
                is_awake[:] = 0
                n_awake, n_held, n_pending = 0, 0, 0
            active = 0
            factor = np.float32(1.0 + attempt * c.stronger)
            for i in range(levels.shape[1]):
                if levels[b, i] > 0:
                    place[active] = i
                    level[active] = levels[b, i] * factor
                    mark[active] = place_mark(i)
                    active += 1
            seed = np.uint64(seeds[b]) + np.uint64(attempt)
            key = sample_row(keys[b], seed)
            counts[b, :] = 0
            spikes = 0
            silence = c.rest if learn and c.rest > 0 else 0
            for t in range(c.steps + silence):
                now = state.now[0]
                state.now[0] = now + 1
                # 1. decay
                if c.conductance:
                    _fade(g_e, decay_e, nothing)
                    _fade(g_i, decay_i, nothing)
                else:
                    _leak(v, rest, gain)
                if learn:
                    _fade(y, decay_post, nothing)
                # 2. inhibition
                if n_pending:
                    for a in range(n_pending):
                        j = pending[a]
                        first = j // cells * cells
                        target = g_i if c.conductance else v
                        for other in range(first, first + cells):
                            target[other] += inhibition
                        target[j] -= inhibition
                    n_pending = 0
                # 3. input
                if t < c.steps and active:
                    draw(step_row(key, t), mark[:active], level[:active], hit)
                    for k in range(active):
                        if hit[k]:
                            i = place[k]
                            for r in reach_row[reach_start[i] : reach_start[i + 1]]:
                                first = r // places * cells
                                into = g_e[first : first + cells] if c.conductance else v[first : first + cells]
                                if not learn or ltd2 == 0:
                                    _arrive(into, w[r])
                                elif c.rule.code == 0:
                                    _arrive_and_depress(into, w[r], y[first : first + cells], ltd2, least, most)
                                else:
                                    _arrive_and_learn(into, w[r], y[first : first + cells], c.rule)
                            state.last_pre[i] = now
                # 4. membranes and spikes
                if c.conductance:
                    over = _charge(v, g_e, g_i, theta, gain, mean_e, mean_i, rest, e_exc, e_inh, v_th, one, half, sixth)
                else:
                    over = _over(v, theta, v_th)
                kept = 0
                for a in range(n_held):
                    j = held[a]
                    if now - state.last_post[j] <= c.refractory:
                        v[j] = reset
                        held[kept] = j
                        kept += 1
                n_held = kept
                n_fired = 0
                if over:
                    for j in range(v.size):
                        if v[j] > v_th + theta[j]:
                            fired[n_fired] = j
                            n_fired += 1
                for a in range(n_fired):
                    j = fired[a]
                    v[j] = reset
                    if learn:
                        location = j // cells
                        since = now - state.last_post[j]
                        o2 = post_table[since] if since < post_table.size else 0.0
                        cell, first = j - location * cells, location * places
                        _potentiate(
                            w, cell, first, inputs[location], state.last_pre, now, pre_table, o2, c.rule, c.target_down
                        )
                        y[j] = one
                        theta[j] += real(c.theta_plus)
                    state.last_post[j] = now
                    held[n_held] = j
                    n_held += 1
                    if t < c.steps:
                        counts[b, j] += 1
                        spikes += 1
                    if not c.conductance:
                        pending[n_pending] = j
                        n_pending += 1
                    elif not is_awake[j]:
                        state.inh_v[j] = c.inh_rest + (state.inh_v[j] - c.inh_rest) * quiet ** (
                            now - 1 - state.inh_seen[j]
                        )
                        is_awake[j] = 1
                        awake[n_awake] = j
                        n_awake += 1
                # inhibitory cells
                kept = 0
                for a in range(n_awake):
                    j = awake[a]
                    g = state.inh_g[j] * c.decay_e
                    if state.last_post[j] == now:
                        g += c.to_inhibitory
                    if g < 1e-12:  # below what a potential could show: from here it only leaks
                        g = 0.0
                    if now - state.inh_last[j] <= c.inh_refractory:
                        state.inh_v[j] = c.inh_reset
                    else:
                        e = c.mean_e * g
                        x = c.inh_gain * (1.0 + e)
                        p = 1.0 + x * (0.5 + x / 6.0)
                        new = (state.inh_v[j] + c.inh_gain * p * (c.inh_rest + e * c.inh_e_exc)) / (1.0 + x * p)
                        if new > c.inh_th:
                            new = c.inh_reset
                            state.inh_last[j] = now
                            pending[n_pending] = j
                            n_pending += 1
                        state.inh_v[j] = new
                    state.inh_g[j] = g
                    if g == 0.0 and now - state.inh_last[j] > c.inh_refractory:
                        state.inh_seen[j] = now
                        is_awake[j] = 0
                    else:
                        awake[kept] = j
                        kept += 1
                n_awake = kept
            if learn:
                factor_theta = real(c.theta_decay ** (c.steps + silence))
                for j in range(v.size):
                    theta[j] *= factor_theta
            attempt += 1
            if not learn or spikes >= c.least or attempt >= c.attempts:
                break
        shown[b] = attempt
    state.pending[:] = 0
    for a in range(n_pending):
        state.pending[pending[a]] = 1
