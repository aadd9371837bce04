"""What arguments are held to, and how the message says it."""

import numpy as np
import pytest

from spikewright.errors import ConfigError, whole


@pytest.mark.parametrize("value", [1, 7, np.int64(7)])
def test_a_whole_number_comes_back_as_an_int(value):
    assert whole("Owner", "steps", value) == value and type(whole("Owner", "steps", value)) is int


@pytest.mark.parametrize("value", [0, -1, True, 1.0, "1", None, np.float32(2), 11])
def test_anything_else_is_refused_by_its_name(value):
    with pytest.raises(
        ConfigError, match=r"^Owner: steps is .*, expected a whole number of at least 1 and at most 10$"
    ):
        whole("Owner", "steps", value, most=10)
    with pytest.raises(ConfigError, match=r"^steps is .*, expected a whole number of at least 12$"):
        whole("", "steps", value, 12)
