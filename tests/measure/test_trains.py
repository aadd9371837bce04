"""Distances of spike trains: closed forms against integrals, the matching against every possible one."""

import itertools
import math

import numpy as np
import pytest
import torch

from spikewright.measure.trains import compared, correlation, hits, matched, van_rossum, victor_purpura

SOURCE = np.random.RandomState(0)
PAIRS = [
    (np.sort(SOURCE.uniform(0, 60, n)), np.sort(SOURCE.uniform(0, 60, m))) for n, m in [(0, 2), (1, 1), (3, 4), (5, 2)]
]
each_pair = pytest.mark.parametrize("a, b", PAIRS, ids=lambda train: str(len(train)))


def test_van_rossum_of_one_spike_and_of_one_shifted_spike():
    assert van_rossum([7.0], [], 10.0) == van_rossum([], [7.0], 10.0) == 0.5
    for shift in (0.0, 0.3, 5.0, 40.0):
        assert van_rossum([7.0], [7.0 + shift], 10.0) == pytest.approx(1 - math.exp(-shift / 10), rel=1e-12, abs=1e-15)


@each_pair
def test_van_rossum_is_its_integral(a, b):
    h = 1e-3
    t = np.arange(0, 300, h) + h / 2
    f, g = (sum((np.where(t >= s, np.exp(-(t - s) / 10), 0) for s in train), np.zeros_like(t)) for train in (a, b))
    assert van_rossum(a, b, 10.0) == pytest.approx(((f - g) ** 2).sum() * h / 10, rel=2e-3)


@each_pair
def test_correlation_is_its_integral(a, b):
    t = np.arange(-60, 120, 0.01)
    f, g = (sum((np.exp(-((t - s) ** 2) / (2 * 3.0**2)) for s in train), np.zeros_like(t)) for train in (a, b))
    wanted = (f * g).sum() / math.sqrt((f**2).sum() * (g**2).sum()) if len(a) else 0.0
    assert correlation(a, b, 3.0) == pytest.approx(wanted, rel=1e-6)
    assert correlation(b, b, 3.0) == pytest.approx(1.0)
    assert correlation([], [], 3.0) == 1.0


def brute(a, b, move):
    """The cheapest edit over all choices of pairs that keep the order."""
    best = math.inf
    for k in range(min(len(a), len(b)) + 1):
        for i in itertools.combinations(range(len(a)), k):
            for j in itertools.combinations(range(len(b)), k):
                cost = len(a) + len(b) - 2 * k + sum(move(abs(a[x] - b[y])) for x, y in zip(i, j, strict=True))
                best = min(best, cost)
    return best


@each_pair
@pytest.mark.parametrize("q", [0.01, 0.1, 1.0])
def test_victor_purpura_is_the_cheapest_of_all_edits(a, b, q):
    assert victor_purpura(a, b, q) == pytest.approx(brute(a, b, lambda dt: q * dt), rel=1e-12)
    assert victor_purpura(b, a, q) == pytest.approx(victor_purpura(a, b, q))


@each_pair
def test_a_match_accounts_for_every_spike_and_for_its_cost(a, b):
    match = matched(a, b, lambda dt: (dt / 10) ** 2 / 2)
    assert sorted([i for i, _ in match.pairs] + match.removed) == list(range(len(a)))
    assert sorted([j for _, j in match.pairs] + match.added) == list(range(len(b)))
    moved = sum(((a[i] - b[j]) / 10) ** 2 / 2 for i, j in match.pairs)
    assert match.cost == pytest.approx(moved + len(match.removed) + len(match.added))
    assert match.cost == pytest.approx(brute(a, b, lambda dt: (dt / 10) ** 2 / 2))


def test_a_spike_hits_one_target_at_most():
    assert hits([10, 30], [9, 11, 50], 2) == 1
    assert hits([9, 10], [8, 11], 2) == 2
    assert hits([], [3], 2) == hits([3], [], 2) == 0


def test_compared_sums_over_neurons_and_means_over_samples():
    out, desired = torch.zeros(60, 2, 2), torch.zeros(60, 2, 2)
    desired[[10, 40], 0, 0] = 1
    out[[11, 50], 0, 0] = 1  # one hit, one far off
    out[20, 1, 1] = 1  # one nobody asked for
    found = compared(out, desired, 10.0)
    assert found["van_rossum"] == pytest.approx((van_rossum([11, 50], [10, 40], 10) + 0.5) / 2)
    assert found["victor_purpura"] == pytest.approx((0.1 + 1.0 + 1) / 2)
    assert found["correlation"] == pytest.approx(correlation([11, 50], [10, 40], 2.0))
    assert found["target_spikes_hit"] == 0.5 and found["extra_spikes"] == 1.0
