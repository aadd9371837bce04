"""Generated patterns: a function of their options, and what they say they are."""

import numpy as np
import pytest
import torch

from spikewright.data import load
from spikewright.errors import ConfigError


def test_patterns_are_a_function_of_the_seed():
    one, same, other = (load(f"spike-patterns:seed={s},inputs=30") for s in (3, 3, 4))
    assert one.checksum == same.checksum != other.checksum
    assert torch.equal(one.test.batch(torch.arange(1)), same.test.batch(torch.arange(1)))
    assert one.test.trains == same.test.trains != other.test.trains
    assert one.name == "spike-patterns:seed=3,inputs=30"
    assert one.with_steps(50).checksum == one.checksum


def test_the_numbers_are_those_asked_for():
    data = load("spike-patterns:inputs=2000,rate=8,duration=500,spikes=6,gap=20,patterns=4,copies=3").with_steps(1000)
    assert (len(data.train), len(data.test), data.num_classes) == (12, 4, 4)
    assert data.shape == (1, 1, 2000) and data.frames == 1000
    x = data.test.batch(torch.arange(4))
    assert x.sum((1, 2, 3, 4)).tolist() == pytest.approx([8000] * 4, rel=0.05)
    assert data.mean[0] == pytest.approx(x.mean().item()) and data.std[0] == pytest.approx(x.std().item(), rel=1e-3)
    for train in data.train.trains:
        assert len(train) == 6 and train[0] >= 50 and train[-1] <= 493.75 and np.diff(train).min() >= 20
    # the copies are the pattern, and spikes lie in the frames their times say
    assert torch.equal(data.train.batch(torch.tensor([1, 5])), x[[1, 1]])
    assert data.train.labels.tolist() == [0, 1, 2, 3] * 3
    times, channels = data.test.patterns[2]
    assert all(x[2, int(t * 2), 0, 0, c] > 0 for t, c in zip(times[:50], channels[:50], strict=True))


def test_classes_share_their_trains():
    data = load("spike-patterns:patterns=5,classes=2,inputs=10")
    assert data.test.labels.tolist() == [0, 1, 0, 1, 0] and len(data.test.trains) == 2


def test_spike_classes_have_one_spike_an_input_and_random_labels():
    data = load("spike-classes:patterns=300,inputs=40").with_steps(109)
    x = data.test.batch(torch.arange(300))
    assert (x.sum((1, 2, 3)) == 1).all() and not x[:, 101:].any()
    assert 0.4 < data.test.labels.float().mean() < 0.6
    assert not data.test.trains and "memory" in data.note


@pytest.mark.parametrize(
    "name, said",
    [
        ("spike-patterns:seed", "'seed'"), ("spike-patterns:seed=x", "'seed=x'"), ("spike-patterns:sead=1", "'sead'"),
        ("spike-patterns:", "''"), ("spike-patterns:seed=-1", "seed is -1"), ("spike-patterns:inputs=0", "inputs is 0"),
        ("spike-patterns:rate=-2", "rate is -2"), ("spike-patterns:rate=nan", "rate is nan"),
        ("spike-patterns:spikes=40", "40 spikes 15 ms apart"), ("spike-patterns:patterns=1.5", "patterns is 1.5"),
        ("spike-classes:window=0", "window is 0"), ("digits:seed=1", "no option 'seed'"),
    ],
)  # fmt: skip
def test_a_bad_option_is_one_line(name, said):
    with pytest.raises(ConfigError) as caught:
        load(name)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_an_option_in_the_name_serves_any_set_that_has_it():
    with pytest.raises(ConfigError, match="steps is 0"):
        load("spike-classes").with_steps(0)
