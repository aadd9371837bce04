"""Competition, thresholds and rates against brute force and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from spikewright.errors import ConfigError
from spikewright.plasticity import (
    AdaptiveThreshold,
    ClassCorrect,
    Constant,
    ErrorShare,
    Growth,
    KWinners,
    OneToAll,
    Reward,
    TargetRate,
    Winner,
    earliest,
    pointwise,
)

T = 8


def made_up(seed, shape=(5, 6, 7)):
    """First spikes and the potentials at them; the potentials are coarse, so that there are ties."""
    rng = np.random.default_rng(seed)
    return rng.integers(3, T + 1, shape), rng.integers(1, 4, shape).astype(float)


@pytest.mark.parametrize("seed", range(20))
def test_point_wise_inhibition_leaves_the_first_of_each_place(seed):
    times, potentials = made_up(seed)
    found = pointwise(times, potentials, T)
    assert ((found < T).sum(0) <= 1).all() and (found < T).any()
    for y in range(6):
        for x in range(7):
            rank = sorted((times[f, y, x], -potentials[f, y, x], f) for f in range(5) if times[f, y, x] < T)
            assert [f for f in range(5) if found[f, y, x] < T] == [f for _, _, f in rank[:1]]
    assert ((earliest(times, T) < T).sum(0) == (found < T).sum(0)).all()


@pytest.mark.parametrize("k, radius", [(1, 0), (3, 1), (5, 2), (9, 0)])
@pytest.mark.parametrize("seed", range(10))
def test_winners_against_brute_force(seed, k, radius):
    times, potentials = made_up(seed)
    ranked = sorted((times[f, y, x], -potentials[f, y, x], f, y, x) for f, y, x in np.ndindex(times.shape))
    found: list[Winner] = []
    for t, _, f, y, x in ranked:
        free = all(f != w.feature and max(abs(y - w.row), abs(x - w.column)) > radius for w in found)
        if t < T and free and len(found) < k:
            found.append(Winner(f, y, x, t))
    assert KWinners(k, radius).pick(times, potentials, T) == found
    assert 0 < len(found) <= min(k, 5)


def test_silence_has_no_winners():
    assert KWinners().pick(np.full((2, 3, 3), T), np.zeros((2, 3, 3)), T) == []


def test_a_spike_inhibits_all_others_of_its_place():
    spikes = np.array([[1, 0, 1], [0, 0, 0], [0, 1, 0]])
    assert OneToAll(2.0).current(spikes).tolist() == [[2, 4, 2], [0, 0, 0], [2, 0, 2]]


def test_an_adaptive_threshold_rises_and_decays():
    part, theta = AdaptiveThreshold(0.05, 1e7), np.full(2, 20.0)
    for _ in range(160):
        theta = part.step(theta, np.array([True, False]), h=500.0)
    assert theta[1] == pytest.approx(20 * math.exp(-80_000 / 1e7), abs=1e-9) and round(theta[1], 2) == 19.84
    assert theta[0] - theta[1] == pytest.approx(160 * 0.05, rel=0.01)


def test_a_target_rate_equalises():
    part, drive, threshold = TargetRate(2.0, 0.05), np.array([1.0, 5.0]), np.ones(2)
    for _ in range(4000):
        threshold = part.step(threshold, np.floor(20 * drive / threshold.clip(0.1) / 10))
    assert np.floor(2 * drive / threshold) == pytest.approx([2, 2], abs=1)


def test_modulation():
    assert Constant()(3, 4) == 1 and Reward(2.0)(reward=-0.5) == -1
    assert [ClassCorrect()(*c) for c in ((3, 3), (3, 4), (-1, 4))] == [1, -1, 0]
    assert ErrorShare(1000).rates(900, 60, 1000) == (0.06, 0.9)


def test_a_rate_doubles_until_its_top():
    growth = Growth(2.0, 500, 0.15)
    found = [0.004 * growth.rate(0.004, n) for n in (0, 499, 500, 1000, 2500, 3000, 60_000)]
    assert found == pytest.approx([0.004, 0.004, 0.008, 0.016, 0.128, 0.15, 0.15])
    growth = Growth(1.5, 2000, 1.5)
    assert 0.0004 * growth.rate(0.0004, 40_000) == pytest.approx(0.0004 * 1.5**20)
    assert 0.0004 * growth.rate(0.0004, 42_000) == pytest.approx(1.5)
    assert Growth().rate(0.004, 10**9) == 1


def test_parts_out_of_range_are_refused():
    for act in (
        lambda: KWinners(0),
        lambda: KWinners(1, -1),
        lambda: OneToAll(math.nan),
        lambda: Growth(0.5),
        lambda: ErrorShare(0),
        lambda: AdaptiveThreshold(math.nan),
        lambda: TargetRate(math.inf),
    ):
        with pytest.raises(ConfigError):
            act()
