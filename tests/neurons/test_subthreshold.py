"""Below threshold an integrate-and-fire neuron is a linear filter, and so are the synapses: both have closed forms."""

import cmath
import math
from functools import cache

import cases
import pytest
import torch
from cases import F32, F64

from spikewright.neurons import (
    IF,
    LIF,
    PLIF,
    DoubleExponential,
    Euler,
    EulerJump,
    Exact,
    ExactJump,
    Factor,
    Synapse,
    UnitPeak,
)

STEPS = 1000
FREQUENCY = 0.7
BOUNDS = [(F64, 1e-12), (F32, 2e-6)]


def unit_peak(tau, rise=2.5):
    """Highest response of two exponentials in a row to one spike, by trying every step."""
    a, b = math.exp(-1 / tau), math.exp(-1 / rise)
    return max((a ** (n + 1) - b ** (n + 1)) / (a - b) for n in range(200))


CONVENTIONS = {
    Factor: lambda k: (k, 1.0),
    Euler: lambda tau: (1 - 1 / tau, 1 / tau),
    EulerJump: lambda tau: (1 - 1 / tau, 1.0),
    Exact: lambda tau: (math.exp(-1 / tau), 1 - math.exp(-1 / tau)),
    ExactJump: lambda tau: (math.exp(-1 / tau), 1.0),
    UnitPeak: lambda tau: (math.exp(-1 / tau), 1 / unit_peak(tau)),
}
TAUS = (1.2, 2.0, 5.0, 10.0, 20.0)
FACTORS = (0.0, 0.2, 0.5, 0.95, 1.0)
LEAKS = [kind(v) for kind in CONVENTIONS for v in (FACTORS if kind is Factor else TAUS)]


def currents(dtype):
    """A constant, an oscillation and a single pulse: [1000, 1, 3]."""
    t = torch.arange(STEPS, dtype=F64)
    pulse = (t == 0).double()
    return torch.stack([torch.full_like(t, 0.7), torch.cos(FREQUENCY * t), pulse], -1)[:, None].to(dtype)


@cache
def closed_form(decay, gain):
    """The three responses v[n] = gain sum_j decay^(n-j) I_j, each a geometric series; constants as float32 has them."""
    rows = []
    constant = currents(F64)[0, 0, 0].item()
    for n in range(1, STEPS + 1):
        level = constant * (n if decay == 1 else (1 - decay**n) / (1 - decay))
        turn = cmath.exp(1j * FREQUENCY)
        wave = (turn ** (n - 1) * (1 - (decay / turn) ** n) / (1 - decay / turn)).real
        rows.append([level, wave, decay ** (n - 1)])
    return gain * torch.tensor(rows, dtype=F64)


def membranes(module, x):
    """The membrane after each of the first 20 steps and after every 20th from there on, [N, 1, F], and those steps."""
    found, state, ends = [], None, []
    with torch.no_grad():
        for i in [*x[:20].split(1), *x[20:].split(20)]:
            spikes, state = module.run(i, state)
            assert not spikes.any()
            found.append(state[0])
            ends.append((ends[-1] if ends else -1) + len(i))
    return torch.stack(found), ends


def allowed(dtype, bound, decay):
    """In float32 a sum that never forgets gathers half a unit in the last place of every step."""
    return 2e-5 if dtype == F32 and decay == 1 else bound


def error(found, wanted):
    """Largest difference relative to the largest value of each trace."""
    return ((found.double().squeeze(1) - wanted).abs().amax(0) / wanted.abs().amax(0)).max().item()


def test_every_leak_is_among_the_conventions():
    assert set(CONVENTIONS) == set(cases.listed(cases.Leak))


@pytest.mark.parametrize("dtype, bound", BOUNDS, ids=str)
@pytest.mark.parametrize("leak", LEAKS, ids=repr)
def test_lif_below_threshold_is_the_closed_form(leak, dtype, bound):
    number, *_ = vars(leak).values()
    decay, gain = CONVENTIONS[type(leak)](number)
    found, steps = membranes(LIF(leak=leak, v_th=1e9), currents(dtype))
    assert found.dtype == dtype and steps[-1] == STEPS - 1
    assert error(found, closed_form(decay, gain)[steps]) <= allowed(dtype, bound, decay)


@pytest.mark.parametrize("dtype, bound", BOUNDS, ids=str)
def test_if_below_threshold_is_the_sum(dtype, bound):
    found, steps = membranes(IF(v_th=1e9), currents(dtype))
    assert error(found, closed_form(1.0, 1.0)[steps]) <= allowed(dtype, bound, 1)


def test_the_threshold_is_crossed_where_the_closed_form_says():
    """The first spike of a constant current, for each leak that lets it fire."""
    fired = 0
    for leak in LEAKS:
        level = closed_form(*leak.coefficients())[:, 0]
        v_th = 0.6 * level.max().item() + 1e-9
        first = int((level >= v_th).nonzero()[0])
        with torch.no_grad():
            spikes, _ = LIF(leak=leak, v_th=v_th).run(currents(F64)[: first + 3, :, :1])
        assert spikes[:, 0, 0].nonzero()[0].item() == first
        fired += 1
    assert fired == len(LEAKS)


@pytest.mark.parametrize("tau", [1.5, 2.0, 3.0, 10.0, 100.0])
def test_plif_starts_as_lif_of_the_same_tau(tau):
    """w is a float32 parameter, so the two agree to float32."""
    x = currents(F64)[:300]
    wanted, _ = membranes(LIF(tau, v_th=1e9), x)
    for module in (PLIF(tau, v_th=1e9), PLIF(tau, v_th=1e9).double()):
        decay, gain = module.coefficients()
        assert decay.item() == pytest.approx(1 - 1 / tau, rel=1e-6)
        assert gain.item() == pytest.approx(1 / tau, rel=1e-6)
        assert error(membranes(module, x)[0], wanted.squeeze(1)) < 2e-4
    current = cases.drive(LIF(tau), (50, 3, 20), F32)
    one, two = LIF(tau, v_th=0.4).run(current)[0], PLIF(tau, v_th=0.4).run(current)[0]
    if tau < 20:
        cases.assert_active(one)
    assert (one != two).double().mean() < 1e-3


def test_plif_moves_when_w_does():
    module = PLIF(2.0)
    with torch.no_grad():
        module.w.fill_(math.log(1 / 3))  # sigmoid: 1/4
    decay, gain = module.coefficients()
    assert decay.item() == pytest.approx(0.75) and gain.item() == pytest.approx(0.25)
    assert "tau=4" in repr(module)


@pytest.mark.parametrize("dtype, bound", BOUNDS, ids=str)
@pytest.mark.parametrize("leak", LEAKS, ids=repr)
def test_a_synapse_is_the_closed_form(leak, dtype, bound):
    with torch.no_grad():
        found, _ = Synapse(leak).run(currents(dtype))
    decay, gain = leak.coefficients()
    assert error(found, closed_form(decay, gain)) <= allowed(dtype, bound, decay)


@pytest.mark.parametrize("dtype, bound", [(F64, 1e-11), (F32, 2e-5)], ids=str)
def test_a_double_exponential_has_the_kernel_it_says(dtype, bound):
    pulse = currents(dtype)[..., 2:]
    n = torch.arange(STEPS, dtype=F64)[:, None]
    for rise in LEAKS:
        for fall in (Factor(0.9), Euler(5.0), ExactJump(7.0)):
            (a, g), (b, h) = rise.coefficients(), fall.coefficients()
            kernel = (n + 1) * a**n if a == b else (a ** (n + 1) - b ** (n + 1)) / (a - b)
            found, _ = DoubleExponential(rise, fall).run(pulse[:200])
            assert error(found, g * h * kernel[:200]) <= bound, (rise, fall)


def test_two_equal_decays_make_the_alpha_kernel():
    found, _ = DoubleExponential(ExactJump(4.0), ExactJump(4.0)).run(currents(F64)[:50, :, 2:])
    n = torch.arange(50, dtype=F64)
    torch.testing.assert_close(found[:, 0, 0], (n + 1) * torch.exp(-n / 4), rtol=1e-12, atol=0)


def test_the_unit_area_synapse_has_unit_area():
    found, _ = Synapse(Euler(3.0)).run(currents(F64)[..., 2:])
    assert found.sum().item() == pytest.approx(1, abs=1e-12)
