"""What arguments are held to, and how the message says it."""

import numpy as np
import pytest
import torch

from spikewright.encode import WeightedPhase
from spikewright.errors import ConfigError, positive, whole
from spikewright.readout import Recent


@pytest.mark.parametrize("value", [1, 7])
def test_a_whole_number_comes_back(value):
    assert whole("Owner", "steps", value) is value


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1", None, np.float32(2), np.int64(7), 11])
def test_anything_else_is_refused_by_its_name(value):
    with pytest.raises(
        ConfigError, match=r"^Owner: steps is .*, expected a whole number of at least 1 and at most 10$"
    ):
        whole("Owner", "steps", value, most=10)
    with pytest.raises(ConfigError, match=r"^steps is .*, expected a whole number of at least 12$"):
        whole("", "steps", value, 12)


@pytest.mark.parametrize("part", [WeightedPhase, Recent])
def test_a_part_that_could_not_be_saved_is_not_built(part):
    with pytest.raises(ConfigError, match=r"expected a whole number"):
        part(np.int64(8))


@pytest.mark.parametrize(
    ("value", "zero"),
    [(1e-300, False), (3, False), (np.float32(2), True), (torch.tensor(1.5), False), (0, True), (0.0, True)],
)
def test_a_positive_number_comes_back_as_it_is(value, zero):
    assert positive("Owner", "tau", value, zero=zero) is value


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), True, "1", None])
def test_what_is_not_positive_is_refused_by_its_name(value):
    with pytest.raises(ConfigError, match=r"^Owner: tau is .*, expected a finite time constant above 0 steps$"):
        positive("Owner", "tau", value, "time constant", unit="steps")
    with pytest.raises(ConfigError, match=r"^Owner: tau is .*, expected a finite number of at least 0$"):
        positive("Owner", "tau", value, zero=True)


def test_zero_is_not_positive():
    with pytest.raises(ConfigError, match=r"^Owner: tau is 0.0, expected a finite number above 0$"):
        positive("Owner", "tau", 0.0)
