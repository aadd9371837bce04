"""Neurons in ms and mV against closed forms and reference spike times."""

import math

import pytest
import torch

from spikewright.errors import ConfigError
from spikewright.neurons import PATTERNS, ConductanceLIF, HodgkinHuxley, Izhikevich, RefractoryLIF
from spikewright.neurons.single import KINDS, simulate

F64 = torch.float64


def times(neuron, current, duration, begins=False):
    """Spike times in ms under a constant current."""
    steps = round(duration / neuron.h)
    with torch.no_grad():
        out, _ = neuron.run(torch.full((steps, 1, 1), current, dtype=F64))
    return ((out[:, 0, 0].nonzero()[:, 0] + (0 if begins else 1)).double() * neuron.h).tolist()


# ---- Izhikevich (2003), I = 10: the first spikes, forward Euler and the first published half steps

EULER = {
    "RS": [3.4, 27.1, 72.2, 117.3, 162.4],
    "IB": [3.4, 5.9, 10.5, 50.8, 82.3],
    "CH": [3.4, 5.0, 6.7, 8.6, 10.8, 13.4, 16.9, 63.8],
    "FS": [3.4, 8.0, 14.3, 21.8, 29.5],
    "LTS": [2.7, 5.8, 9.5, 14.2, 20.8],
}
FINE = {
    "RS": [3.15, 26.30, 71.16],
    "IB": [3.15, 5.47, 9.75, 49.77],
    "CH": [3.15, 4.56, 6.10, 7.82, 9.78, 12.13, 15.30, 61.90],
    "FS": [3.18, 7.51, 13.43, 20.49],
    "LTS": [2.49, 5.38, 8.87, 13.33],
}
HALF_STEP = {
    "RS": [4, 31, 79, 141, 195, 243, 292],
    "IB": [4, 8, 46, 85, 122],
    "CH": [4, 7, 10, 14, 62, 66, 114],
    "FS": [4, 11, 22, 34, 58, 71],
    "LTS": [4, 10, 21, 49, 81],
}


@pytest.mark.parametrize("name", EULER)
def test_izhikevich_fires_when_forward_euler_does(name):
    found = times(Izhikevich.pattern(name), 10.0, EULER[name][-1] + 0.1)
    assert found == pytest.approx(EULER[name], abs=1e-6)


@pytest.mark.parametrize("name", ["IB", "FS", "LTS"])
def test_izhikevich_in_fine_steps(name):
    found = times(Izhikevich.pattern(name, h=0.01), 10.0, 25.0)
    wanted = [t for t in FINE[name] if t < 25]
    assert found[: len(wanted)] == pytest.approx(wanted, abs=5e-3)


@pytest.mark.parametrize("name", HALF_STEP)
def test_izhikevich_half_steps_as_first_published(name):
    found = times(Izhikevich.pattern(name, h=1.0, half_step=True), 10.0, HALF_STEP[name][-1] + 1, begins=True)
    assert found == HALF_STEP[name]


def test_izhikevich_counts_in_a_second_differ_between_the_integrations():
    assert len(times(Izhikevich.pattern("RS", h=1.0, half_step=True), 10.0, 1000)) == 20


def test_izhikevich_starts_firing_above_the_saddle_node():
    """(5 - b)^2 / 0.16 - 140 = 4 for b = 0.2: below it the potential comes to rest, after a spike at the start."""
    assert max(times(Izhikevich(h=0.5), 3.7, 400)) < 200
    assert max(times(Izhikevich(h=0.5), 5.0, 400)) > 250


def test_patterns_have_names():
    assert set(PATTERNS) == {"RS", "IB", "CH", "FS", "LTS", "TC", "RZ"} and PATTERNS["FS"].d == 2
    with pytest.raises(ConfigError, match=r"'XX'.*RS"):
        Izhikevich.pattern("XX")


# ---- Hodgkin & Huxley


def test_hodgkin_huxley_rests_where_it_should():
    v, m, h, n = (float(s) for s in HodgkinHuxley().rest(torch.zeros((), dtype=F64)))
    assert v == pytest.approx(-64.99638, abs=1e-5)
    assert (m, h, n) == pytest.approx((0.052955, 0.595994, 0.317732), abs=1e-6)


def test_hodgkin_huxley_spike_times_and_rheobase():
    """I = 10: the reference's first spikes; from 6.2 to 6.3 firing goes from three spikes to for ever."""
    neuron = HodgkinHuxley(h=0.05)
    currents = torch.tensor([2.0, 5.0, 6.2, 6.3, 10.0], dtype=F64)
    with torch.no_grad():
        out, _ = neuron.run(currents.expand(2000, 1, 5))
    assert out.sum((0, 1)).tolist() == [0, 1, 3, 6, 7]  # in 100 ms
    first = ((out[:, 0, 4].nonzero()[:, 0] + 1) * 0.05).tolist()
    wanted = [1.9012, 16.8226, 31.4719, 46.1091, 60.7453, 75.3816, 90.0178]
    assert all(0 <= a - b <= 0.05 + 1e-3 for a, b in zip(first, wanted, strict=True))


def test_hodgkin_huxley_answers_a_pulse_once():
    neuron = HodgkinHuxley(h=0.05)
    x = torch.zeros(300, 1, 3, dtype=F64)
    x[:20, 0] = torch.tensor([10.0, 20.0, 40.0])  # 1 ms
    with torch.no_grad():
        out, _ = neuron.run(x)
    assert out.sum((0, 1)).tolist() == [1, 1, 1]
    found = ((out[:, 0].argmax(0) + 1) * 0.05).tolist()
    assert all(0 <= a - b <= 0.051 for a, b in zip(found, [2.2746, 1.2962, 0.8615], strict=True))


def test_hodgkin_huxley_is_of_fourth_order():
    """Potential after 1.5 ms from rest under I = 10, before the spike: halving h divides the error by 16."""

    def potential(h):
        x = torch.full((round(1.5 / h), 1, 1), 10.0, dtype=F64)
        with torch.no_grad():
            return float(HodgkinHuxley(h=h).run(x)[1][0])

    exact = potential(0.005)
    ratio = (potential(0.05) - exact) / (potential(0.025) - exact)
    assert 11 < ratio < 22


def test_hodgkin_huxley_refuses_a_step_it_cannot_take():
    with pytest.raises(ConfigError, match=r"h is 0\.1"):
        HodgkinHuxley(h=0.1)


# ---- LIF with a refractory time


@pytest.mark.parametrize("drive, interval", [(1.01, 92.302410), (1.1, 47.957905), (1.5, 21.972246), (2, 13.862944)])
def test_the_interval_is_the_closed_forms_on_the_grid(drive, interval):
    found = times(RefractoryLIF(h=0.1), drive, 4 * interval + 1)
    gaps = torch.tensor(found).diff()
    assert len(found) >= 3 and all(interval <= g <= interval + 0.11 for g in gaps.tolist())


def test_refractory_time_as_in_another_simulator():
    """RI = 1.5, 2 ms of refractory time, 0.1 ms a step: 21.9, 45.8, 69.7, 93.6 at the starts of the steps; the closed
    form's interval is 23.972. That simulator holds the cell one step less."""
    found = times(RefractoryLIF(refractory=2.0, h=0.1), 1.5, 95, begins=True)
    assert found == pytest.approx([21.9, 45.9, 69.9, 93.9], abs=1e-6)
    assert all(abs(gap - 23.972) < 0.1 for gap in torch.tensor(found).diff().tolist())


def test_a_current_that_only_reaches_the_threshold_is_silent():
    assert not times(RefractoryLIF(h=0.1), 1.0, 400)


def test_no_interval_is_below_the_refractory_time():
    neuron = RefractoryLIF(tau=5.0, refractory=5.0, jump=True)
    out, _ = neuron.run(torch.full((60, 1, 1), 10.0, dtype=F64))
    gaps = out[:, 0, 0].nonzero()[:, 0].diff()
    assert len(gaps) > 5 and (gaps == 6).all()  # 5 steps held, then the next one


# ---- conductances


def test_the_membrane_stays_between_the_reversal_potentials_whatever_comes():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(300, 4, 20, generator=g, dtype=F64) * torch.logspace(-2, 4, 20)
    neuron, state = ConductanceLIF(v_th=1e6), None
    for i in x.split(1):
        _, state = neuron.run(i, state)
        assert state[0].min() >= -100 and state[0].max() <= 0
    assert state[0].max() > -40 and state[0].min() < -80


def test_a_small_input_gives_the_potential_of_the_closed_form():
    """One spike of weight w: dv = w (e_exc - v_rest) (tau_e / (tau - tau_e)) (e^-t/tau - e^-t/tau_e) for small w."""
    w, h, steps = 1e-4, 0.05, 200
    neuron = ConductanceLIF(h=h)
    x = torch.zeros(steps, 1, 1, dtype=F64)
    x[0] = w
    _, (v, *_) = neuron.run(x)
    t = steps * h
    wanted = w * 65 * (1 / 99) * (math.exp(-t / 100) - math.exp(-t))
    assert float(v) + 65 == pytest.approx(wanted, rel=2e-3)


def test_inhibition_pulls_down_and_excitation_up():
    for sign in (1, -1):
        x = torch.zeros(20, 1, 1, dtype=F64)
        x[0] = sign * 0.5
        _, (v, *_) = ConductanceLIF().run(x)
        assert (float(v) + 65) * sign > 0.05


# ---- one neuron alone


@pytest.mark.parametrize("name", KINDS)
def test_every_neuron_fires_under_its_usual_current(name):
    kind = KINDS[name]
    trace = simulate(kind.make(kind.h), kind.current, 60.0, kind.h)
    assert len(trace.v) == round(60 / kind.h) and trace.v.isfinite().all()
    assert 1 <= len(trace.steps) < 0.5 * len(trace.v)
    assert (trace.times > 0).all() and trace.times.max() <= 60


def test_a_trace_says_what_is_wrong():
    kind = KINDS["izhikevich"]
    for duration, h in ((0.0, 0.1), (1e9, 0.1), (math.nan, 0.1), (10.0, 0.0)):
        with pytest.raises(ConfigError, match="steps"):
            simulate(kind.make(0.1), 10.0, duration, h)
