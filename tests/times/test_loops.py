"""The order of events against numpy's stable sort."""

import numpy as np
import pytest

from spikewright.times import loops

DRAWN = np.random.default_rng(0)
TIMES = {
    "whole": DRAWN.integers(0, 60, 300).astype(np.float32),
    "fractions": DRAWN.random(300) * 60,
    "two": np.exp(DRAWN.integers(0, 2, 300) * 1.79).astype(np.float32),
    "eight": DRAWN.integers(0, loops.FEW, 300) * 7.3,
    "nine": DRAWN.integers(0, loops.FEW + 1, 300) * 6.1,
    "negative": DRAWN.integers(-3, 3, 300) * 1.0,
    "late": np.where(DRAWN.random(300) < 0.5, np.inf, DRAWN.integers(0, 80, 300)),
    "none": np.full(5, np.inf),
    "empty": np.empty(0),
}


@pytest.mark.parametrize("limit", [60.0, 50.5, 1e9])
@pytest.mark.parametrize("name", TIMES)
def test_events_come_in_a_stable_order(name, limit):
    times = TIMES[name]
    order, wanted = np.full(len(times), -1, np.int32), np.argsort(times, kind="stable")
    count = loops.in_order(times, limit, order)
    assert count == (times < limit).sum()
    np.testing.assert_array_equal(order[:count], wanted[times[wanted] < limit])
