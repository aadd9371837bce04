"""Traces, rules and connections against closed forms, per-spike loops in plain Python, and each other."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from spikewright.errors import ConfigError
from spikewright.plasticity import (
    STDP,
    Additive,
    Bounds,
    Double,
    Exponential,
    ExponentialWeight,
    FirstSpike,
    LinearWeight,
    Order,
    PowerLaw,
    Quantise,
    Rewarded,
    SaturatingWeight,
    Stabiliser,
    SumTo,
    anti,
    convolution,
    dense,
    local,
    pair,
    target_trace,
    triplet,
)
from spikewright.plasticity.weights import factor

FREE = Bounds(-1e6, 1e6)
ONE = dense(1, 1)


def change(rule, pre, post, steps, h=1.0, w=0.5, connection=ONE):
    """Weight change of one synapse over trains given as steps of spikes."""
    weights, state = np.array([[w]]), rule.rest(connection, 1)
    for t in range(steps):
        weights, state = rule.step(connection, weights, state, [t in pre], [[t in post]], h=h)
    return weights[0, 0] - w


# ---- traces


def test_a_trace_is_its_closed_form():
    spikes = np.array([1, 0, 0, 1, 1, 0, 0, 0])
    for saturating in (True, False):
        trace, x = Exponential(3.0, saturating), np.zeros(1)
        for t, s in enumerate(spikes):
            x = trace.step(x, np.array([s]))
            past = [math.exp(-(t - k) / 3) for k in range(t + 1) if spikes[k]]
            assert x[0] == pytest.approx(past[-1] if saturating else sum(past), abs=1e-15)


def test_the_double_trace_is_the_difference_of_exponentials():
    trace, x = Double(2.0, 7.0), Double().rest((1,))
    a, b, found = math.exp(-1 / 2), math.exp(-1 / 7), []
    for t in range(20):
        x = trace.step(x, np.array([t == 0]))
        found.append(x[1][0])
    assert found == pytest.approx([(a**t - b**t) / (a - b) for t in range(20)], abs=1e-15)
    assert 0 < found[1] < max(found) and np.argmax(found) > 1


def test_the_first_spike_is_remembered():
    trace, x = FirstSpike(), FirstSpike().rest((2,))
    for t in range(6):
        x = trace.step(x, np.array([t in (2, 4), False]))
    assert x.tolist() == [3, -1]


# ---- the pair rule


@pytest.mark.parametrize("d", [k for k in range(-50, 51) if k])
def test_the_window_is_exact(d):
    rule = pair(0.01, 0.012, 20.0, 30.0, bounds=FREE)
    found = change(rule, {60}, {60 + d}, 130)
    assert found == pytest.approx(0.01 * math.exp(-d / 20) if d > 0 else -0.012 * math.exp(d / 30), abs=1e-15)


def test_a_coincidence_is_nothing_or_potentiation():
    assert change(pair(bounds=FREE), {5}, {5}, 10) == 0
    assert change(pair(bounds=FREE, coincident=True), {5}, {5}, 10) == pytest.approx(0.01)


@pytest.mark.parametrize("all_to_all, expected", [(True, -0.000708238), (False, -0.000553068)])
def test_the_pairs_of_the_reference(all_to_all, expected):
    rule = pair(0.01, 0.012, all_to_all=all_to_all, bounds=FREE)
    assert change(rule, {10, 20, 30}, {12, 25}, 40) == pytest.approx(expected, abs=5e-10)


def per_spike(rule, pre, post, all_to_all):
    """The pair rule without weight dependence, pair by pair."""
    total = 0.0
    for t in sorted(pre | post):
        if t in pre:
            before = [s for s in post if s < t]
            total -= rule.ltd2 * sum(
                math.exp((s - t) / rule.post.tau) for s in (before if all_to_all else before and [max(before)])
            )
        if t in post:
            before = [s for s in pre if s < t]
            total += rule.ltp2 * sum(
                math.exp((s - t) / rule.pre.tau) for s in (before if all_to_all else before and [max(before)])
            )
    return total


HARD = [
    (set(range(50)), set(range(50))),
    (set(), {3, 9}),
    ({3, 9}, set()),
    (set(), set()),
    ({4}, {4}),
    ({0, 4, 8}, {4, 8, 12}),
]


@pytest.mark.parametrize("all_to_all", [True, False])
def test_trains_against_a_loop_over_their_pairs(all_to_all):
    rng = np.random.default_rng(0)
    trains = [
        tuple(set(np.flatnonzero(rng.random(120) < p).tolist()) for p in rng.uniform(0.02, 0.4, 2)) for _ in range(100)
    ]
    rule = pair(0.01, 0.012, 12.0, 17.0, all_to_all=all_to_all, bounds=FREE)
    for pre, post in [*trains, *HARD]:
        assert change(rule, pre, post, 120) == pytest.approx(per_spike(rule, pre, post, all_to_all), abs=1e-12)


def test_a_pre_spike_depresses_and_every_one_counts():
    """The sign of the pre event, and no gate: a spike soon after another changes the weight as well."""
    rule = STDP(0.0, 1e-4, bounds=FREE)
    assert change(rule, {12}, {10}, 20) == pytest.approx(-1e-4 * math.exp(-2 / 20), abs=1e-16)
    several = change(rule, {11, 12, 13, 14}, {10}, 20)
    assert several == pytest.approx(-1e-4 * sum(math.exp(-k / 20) for k in (1, 2, 3, 4)), abs=1e-16)
    rule = STDP(1e-2, 0.0, bounds=FREE)
    assert change(rule, {10}, {11, 12, 13, 60}, 70) == pytest.approx(
        1e-2 * sum(math.exp(-k / 20) for k in (1, 2, 3, 50))
    )


def test_poisson_trains_drift_as_the_brackets_say():
    rng = np.random.default_rng(1)
    steps, p = 40_000, 0.02
    pre, post = (set(np.flatnonzero(rng.random(steps) < p).tolist()) for _ in range(2))
    for ltd, sign in ((0.02, -1), (0.005, 1)):
        found = change(pair(0.01, ltd, bounds=FREE), pre, post, steps)
        expected = p * p * 20 * (0.01 - ltd) * steps
        assert np.sign(found) == sign and found == pytest.approx(expected, rel=0.25)


def test_anti_stdp_is_minus_stdp():
    rule = pair(bounds=FREE)
    pre, post = {1, 5, 9, 20}, {3, 9, 12, 22}
    assert change(anti(rule), pre, post, 30) == pytest.approx(-change(rule, pre, post, 30), abs=1e-15)
    shifted = change(rule, {t + 7 for t in pre}, {t + 7 for t in post}, 40)
    assert shifted == pytest.approx(change(rule, pre, post, 40), abs=1e-15)


# ---- triplets

TABLE = {0.1: (0.0, -0.3166), 10: (0.1186, -0.3322), 20: (0.2278, -0.3417), 40: (0.5321, 0.1737), 50: (0.7627, 0.7492)}


@pytest.mark.parametrize("rate", TABLE)
@pytest.mark.parametrize("d", [10, -10])
def test_the_frequency_table_of_triplets(rate, d):
    """60 pairings at `rate` Hz; the traces jump from spike to spike, since they only decay between."""
    rule, w, state = triplet(bounds=FREE), np.zeros((1, 1)), triplet().rest(ONE, 1)
    period = 1000 / rate
    events = sorted(
        [(k * period + max(0, -d), 0) for k in range(60)] + [(k * period + max(0, d), 1) for k in range(60)]
    )
    now = events[0][0]
    for t, side in events:
        w, state = rule.step(ONE, w, state, [side == 0], [[side == 1]], h=t - now)
        now = t
    assert w[0, 0] == pytest.approx(TABLE[rate][0 if d > 0 else 1], abs=6e-5)


def test_a_triplet_against_its_sum():
    rule = triplet(1e-3, 2e-3, 3e-3, 4e-3, bounds=FREE)
    pre, post = [2, 9, 15], [5, 11, 18]
    total = 0.0
    for t in range(25):
        r1, r2, o1, o2 = (
            sum(math.exp((s - t) / tau) for s in side if s < t)
            for side, tau in ((pre, 16.8), (pre, 101.0), (post, 33.7), (post, 114.0))
        )
        total += (t in post) * r1 * (1e-3 + 2e-3 * o2) - (t in pre) * o1 * (3e-3 + 4e-3 * r2)
    assert change(rule, set(pre), set(post), 25) == pytest.approx(total, abs=1e-15)


# ---- weights

DEPENDENCES = [
    Additive(),
    PowerLaw(1.0),
    PowerLaw(0.2),
    Stabiliser(),
    ExponentialWeight(1.3),
    SaturatingWeight(),
    LinearWeight(0.1),
]
FORMULAS = [
    (lambda w: 1, lambda w: 1),
    (lambda w: 1 - w, lambda w: w),
    (lambda w: (1 - w) ** 0.2, lambda w: w**0.2),
    (lambda w: w * (1 - w), lambda w: w * (1 - w)),
    (lambda w: math.exp(-1.3 * w), lambda w: math.exp(-1.3 * (1 - w))),
    (lambda w: math.exp(-w) - math.exp(-1), lambda w: 0.75 * (math.exp(w) - 1)),
    (lambda w: 1 - 1.1 * w, lambda w: 0.75 * 1.1 * w),
]


@pytest.mark.parametrize("part, formulas", list(zip(DEPENDENCES, FORMULAS, strict=True)), ids=map(repr, DEPENDENCES))
def test_a_dependence_is_its_formula_compiled_too(part, formulas):
    w = np.linspace(0, 1, 101)
    for up, found, formula in ((True, part.up, formulas[0]), (False, part.down, formulas[1])):
        assert found(w, Bounds()) == pytest.approx([formula(v) for v in w], abs=1e-15)
        compiled = [factor(part.code, v, 0.0, 1.0, part.p, up) for v in w]
        assert compiled == pytest.approx([formula(v) for v in w], abs=1e-15)


@pytest.mark.parametrize("weight", DEPENDENCES, ids=repr)
def test_bounds_are_never_crossed(weight):
    rng = np.random.default_rng(2)
    connection, w = dense(20, 10), rng.random((10, 20))
    rule = replace(pair(0.3, 0.3, weight=weight), bounds=Bounds(0.1, 0.9))
    w, state = rule.bounds.clip(w), rule.rest(connection, 20)
    seen = []
    for _ in range(500):
        w, state = rule.step(connection, w, state, rng.random(20) < 0.3, rng.random((1, 10)) < 0.3)
        seen += [w.min(), w.max()]
    assert min(seen) >= 0.1 and max(seen) <= 0.9 and np.ptp(w) > 0


def test_the_linear_rule_settles_at_its_fixed_point():
    rng, w, means = np.random.default_rng(3), np.array([[0.5]]), []
    rule = STDP(0.002, 0.0, pre=Exponential(0.01), weight=LinearWeight(), target=0.0)
    order = Order(0.002, 0.002, LinearWeight())
    for t in range(40_000):
        before = rng.random((1, 1)) < 0.6
        w = order.update(w, before)
        if t > 10_000:
            means.append(w[0, 0])
    assert np.mean(means) == pytest.approx(0.6 / (0.6 + 0.75 * 0.4), abs=0.03)
    assert rule.weight.up(np.array(0.0), Bounds()) == 1


def test_the_stabiliser_is_stable_only_at_the_bounds():
    order = Order(0.05, 0.05)
    for p, end in ((0.7, 1.0), (0.3, 0.0)):
        rng, w = np.random.default_rng(4), np.full((1, 1), 0.5)
        for _ in range(8000):
            w = order.update(w, rng.random((1, 1)) < p)
        assert w[0, 0] == pytest.approx(end, abs=1e-3)
    assert order.update(np.array([0.0, 1.0]), np.array([True, False])).tolist() == [0.0, 1.0]


def test_the_target_trace_is_the_fixed_point():
    rule, connection = target_trace(0.4, 0.4, 1.0, bounds=Bounds()), dense(2, 1)
    w, state = np.full((1, 2), 0.5), rule.rest(connection, 2)
    for t in range(4000):
        w, state = rule.step(connection, w, state, [t % 40 == 20, t % 40 == 1], [[t % 40 == 22]])
    assert w[0, 0] > 0.9 and w[0, 1] < 0.1  # traces exp(-2/20) > 0.4 and exp(-21/20) < 0.4
    silent, _ = rule.step(connection, w, state, [True, True], [[False]])
    assert np.array_equal(silent, w)  # no update at pre spikes


def test_normalising_and_quantising():
    w = np.array([[0.1, 0.2, 0.1], [0.0, 0.0, 0.0]])
    assert SumTo(78.0)(w).sum(1) == pytest.approx([78, 0])
    assert SumTo(4.0)(w)[0] == pytest.approx([1, 2, 1])
    assert Quantise()(np.array([0.49, 0.5, 0.9])).tolist() == [0, 1, 1]


# ---- rule and connection


def spikes(seed, steps, size, p=0.25):
    return np.random.default_rng(seed).random((steps, *size)) < p


def test_a_connection_drives_like_a_convolution():
    import torch

    connection = convolution((2, 6, 5), 3, 3, padding=1)
    w, x = np.random.default_rng(0).random((3, 18)), spikes(0, 1, (2, 6, 5))[0].astype(float)
    expected = torch.conv2d(torch.tensor(x)[None], torch.tensor(w).view(3, 2, 3, 3), padding=1)[0]
    assert connection.drive(w, x).T.reshape(3, 6, 5) == pytest.approx(expected.numpy(), abs=1e-12)


@pytest.mark.parametrize(
    "rule", [pair(0.02, 0.03), triplet(1e-2, 2e-2, 1e-2, 1e-2), target_trace()], ids=["pair", "triplet", "target"]
)
@pytest.mark.parametrize("padding", [0, 1])
def test_a_convolution_learns_as_a_dense_layer_over_its_unfolded_input(rule, padding):
    """Each place is a dense neuron that sees its window; the shared weights change by the sum over places."""
    shape, steps = (2, 5, 5), 30
    rule = replace(rule, weight=Additive(), bounds=FREE)
    connection = convolution(shape, 3, 3, padding)
    places = len(connection.index)
    pre, post = spikes(1, steps, (50,)), spikes(2, steps, (places, 3))
    w, state = np.random.default_rng(5).random((3, 18)), rule.rest(connection, 50)
    start, total = w.copy(), np.zeros_like(w)
    for t in range(steps):
        w, state = rule.step(connection, w, state, pre[t], post[t])
    for p in range(places):
        inside = connection.index[p] >= 0
        one, alone = dense(18, 3), start.copy()
        seen = rule.rest(one, 18)
        for t in range(steps):
            window = np.where(inside, pre[t][connection.index[p]], False)
            alone, seen = rule.step(one, alone, seen, window, post[t][p : p + 1])
        total += np.where(inside, alone - start, 0)
    assert post.any() and np.abs(total).max() > 0.01
    assert w - start == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("weight", [Additive(), Stabiliser(), PowerLaw(0.5)], ids=repr)
def test_a_local_layer_learns_as_a_dense_one_with_a_mask(weight):
    shape, steps = (1, 6, 6), 40
    rule = pair(0.05, 0.04, weight=weight)
    here, everywhere = local(shape, 2, 4, stride=2), dense(36, 8)
    places = len(here.index)
    w = np.random.default_rng(6).random(here.weight_shape)
    wide, mask = np.zeros((places * 2, 36)), np.zeros((places * 2, 36), bool)
    for p in range(places):
        wide[2 * p : 2 * p + 2, here.index[p]] = w[p]
        mask[2 * p : 2 * p + 2, here.index[p]] = True
    a, b = rule.rest(here, 36), rule.rest(everywhere, 36)
    pre, post = spikes(3, steps, (36,)), spikes(4, steps, (places, 2))
    start = w.copy()
    for t in range(steps):
        w, a = rule.step(here, w, a, pre[t], post[t])
        wide, b = rule.step(everywhere, wide, b, pre[t], post[t].reshape(1, -1))
        wide = np.where(mask, wide, 0)
    assert np.abs(w - start).max() > 0.01
    for p in range(places):
        assert w[p] == pytest.approx(wide[2 * p : 2 * p + 2, here.index[p]], abs=1e-12)


def test_the_order_rule_against_loops():
    rng = np.random.default_rng(7)
    w, before = rng.random((4, 30)), rng.random((4, 30)) < 0.4
    for rule in (Order(), Order(-0.004, -0.0005, Additive(), Bounds(0.2, 0.8)), Order(0.3, 0.2, PowerLaw())):
        expected = w.copy()
        for i in range(4):
            for j in range(30):
                v = w[i, j]
                up = {Stabiliser: v * (1 - v), Additive: 1, PowerLaw: 1 - v}[type(rule.weight)]
                down = {Stabiliser: v * (1 - v), Additive: 1, PowerLaw: v}[type(rule.weight)]
                v += 2.0 * (rule.ltp * up if before[i, j] else -rule.ltd * down)
                expected[i, j] = min(max(v, rule.bounds.low), rule.bounds.high)
        assert rule.update(w, before, rate=2.0) == pytest.approx(expected, abs=1e-15)


def test_reward_arrives_a_step_later_or_through_the_eligibility():
    pre, post = {3}, {5}
    zeta = math.exp(-2 / 20)
    for tau, expected in ((None, zeta), (25.0, zeta / 25 * math.exp(-1 / 25))):
        rule, w = Rewarded(tau_e=tau, bounds=FREE), np.zeros((1, 1))
        state = rule.rest(ONE, 1)
        for t in range(10):
            w, state = rule.step(ONE, w, state, [t in pre], [[t in post]], reward=2.0 * (t == 6))
        assert w[0, 0] == pytest.approx(2 * expected, abs=1e-15)


# ---- what is refused


def test_parts_out_of_range_are_refused_in_one_line():
    for act in (
        lambda: Exponential(0.0),
        lambda: Double(math.nan, 1.0),
        lambda: Bounds(1.0, 0.0),
        lambda: SumTo(-1.0),
        lambda: PowerLaw(-1.0),
        lambda: STDP(math.inf),
        lambda: Order(math.nan),
        lambda: Rewarded(tau_e=0.0),
        lambda: convolution((1, 4, 4), 2, 5),
        lambda: Bounds().check("conv1", np.array([0.5, 1.5])),
    ):
        with pytest.raises(ConfigError) as caught:
            act()
        assert "\n" not in str(caught.value)
