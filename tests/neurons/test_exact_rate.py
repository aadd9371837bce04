"""The refractory LIF neuron against its rate formula and against a fine simulation."""

import math

import pytest
import torch
from cases import F64, assert_active

from spikewright.convert import SoftLIF
from spikewright.errors import ConfigError
from spikewright.neurons import ExactRateLIF

CURRENTS = torch.tensor([1.05, 1.2, 2.0, 5.0, 30.0], dtype=F64)


def formula(j, tau_ref=2.0, tau_rc=20.0):
    return 1000 / (tau_ref + tau_rc * torch.log1p(1 / (j - 1)))


@pytest.mark.parametrize("dt", [0.5, 1.0, 2.0])
def test_its_rate_is_that_of_the_formula_at_fine_and_coarse_steps(dt):
    seconds = 3
    steps = int(1000 * seconds / dt)
    neuron = ExactRateLIF(dt=dt, bias=0.0)
    out, _ = neuron.run(CURRENTS.expand(steps, 1, -1))
    assert_active(out)
    rate = out.sum((0, 1)) / seconds
    torch.testing.assert_close(rate, formula(CURRENTS), rtol=0.01, atol=0.35)  # a spike more or less


def test_below_its_threshold_it_is_silent():
    out, (v, _) = ExactRateLIF(bias=0.0).run(torch.tensor([0.2, 0.999]).expand(300, 1, -1))
    assert not out.any()
    torch.testing.assert_close(v[0], torch.tensor([0.2, 0.999]))


def test_it_follows_a_changing_current_as_a_ten_times_finer_simulation_does():
    g = torch.Generator().manual_seed(0)
    current = torch.rand(150, 1, 30, generator=g, dtype=F64) * 3
    coarse, _ = ExactRateLIF(bias=0.0).run(current)
    fine, _ = ExactRateLIF(bias=0.0, dt=0.1).run(current.repeat_interleave(10, 0))
    assert_active(coarse)
    difference = (coarse.sum(0) - fine.sum(0)).abs()
    assert difference.max() <= 2 and difference.mean() < 0.5


def test_a_soft_unit_and_the_neuron_in_its_place_hand_on_the_same():
    unit = SoftLIF(sigma=1e-3, gain=0.8, bias=1.1, amplitude=0.02, noise=0.0).eval()
    neuron = ExactRateLIF(gain=0.8, bias=1.1, size=1000 * unit.amplitude)
    z = torch.tensor([-0.5, 0.3, 1.0, 3.0])
    out, _ = neuron.run(z.expand(2000, 1, -1))
    torch.testing.assert_close(out.mean((0, 1)), unit(z), rtol=0.01, atol=0.02)
    assert neuron.run(torch.full((1000, 1, 1), 1e4))[0].mean() == pytest.approx(unit.top, rel=0.01)


def test_a_spike_falls_at_its_moment_within_the_step():
    """At J = 2 from rest V = 1 after tau ln 2 = 13.86 ms, so the next potential begins 2 ms after that."""
    _, (v, wait) = ExactRateLIF(bias=0.0).run(torch.full((14, 1, 1), 2.0, dtype=F64))
    assert v.item() == 0 and wait.item() == pytest.approx(20 * math.log(2) + 2 - 14)


def test_a_refractory_time_below_the_step_is_refused():
    for wrong in ({"tau_ref": 0.5}, {"tau_rc": 0.0}, {"size": -1.0}, {"bias": math.nan}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            ExactRateLIF(**wrong)
