"""Spike counts and times under a constant current, where they are known exactly; and the identities between models."""

import math

import cases
import numpy as np
import pytest
import torch
from cases import F64, assert_active

from spikewright.neurons import IF, LIF, Euler, Exact, ExactJump, Factor, HardReset, Subtract

STEPS = 200


def groups(seed, thresholds=20, each=10):
    """Thresholds with a start and `each` currents, 0 < a < v_th, no (start + a t) / v_th near a whole number."""
    rng = np.random.default_rng(seed)
    for _ in range(thresholds):
        v_th, start, found = rng.uniform(0.3, 3), rng.choice([0.0, 0.5, 0.25]), []
        while len(found) < each:
            a = v_th * rng.uniform(0.02, 0.98)
            levels = start + a / v_th * np.arange(1, STEPS + 1)
            free = a / v_th * np.arange(1, STEPS + 1)
            if min(np.abs(x - np.round(x)).min() for x in (levels, free)) > 1e-7:
                found.append(a)
        yield float(v_th), float(start * v_th), torch.tensor(found, dtype=F64)


def spikes_of(module, currents):
    """Spikes [T, N] under constant currents [N]."""
    with torch.no_grad():
        spikes, _ = module.run(currents.expand(STEPS, 1, -1))
    assert_active(spikes)
    return spikes[:, 0]


@pytest.mark.parametrize("reset", [Subtract(), Subtract(detach=False), Subtract(delayed=True)], ids=repr)
def test_if_with_subtraction_has_fired_floor_of_the_drive_at_every_step(reset):
    t = torch.arange(1, STEPS + 1, dtype=F64)[:, None]
    for v_th, v_init, a in groups(0):
        spikes = spikes_of(IF(v_th=v_th, v_init=v_init, reset=reset), a)
        assert torch.equal(spikes.cumsum(0), torch.floor((v_init + a * t) / v_th))


def test_start_at_half_the_threshold_rounds_to_the_nearest_count():
    for v_th, _, a in groups(1):
        spikes = spikes_of(IF(v_th=v_th, v_init=v_th / 2), a)
        assert ((spikes.sum(0) - a * STEPS / v_th).abs() <= 0.5 + 1e-9).all()


def test_if_with_reset_to_zero_fires_every_ceil_of_threshold_over_current_steps():
    t = torch.arange(1, STEPS + 1)[:, None]
    for v_th, _, a in groups(2):
        period = torch.ceil(v_th / a).long()
        assert torch.equal(spikes_of(IF(v_th=v_th, reset=HardReset()), a) != 0, t % period == 0)


@pytest.mark.parametrize("strict", [False, True])
def test_at_exactly_the_threshold_it_fires_unless_strict(strict):
    spikes, (v,) = IF(v_th=1.0, strict=strict).run(torch.full((8, 1, 1), 0.25))
    wanted = [0, 0, 0, 0, 1, 0, 0, 0] if strict else [0, 0, 0, 1, 0, 0, 0, 1]
    assert spikes.flatten().tolist() == wanted
    assert v.item() == (1.0 if strict else 0.0)


F_I = [(1.0, math.inf), (1.01, 92.302410), (1.1, 47.957905), (1.5, 21.972246), (2.0, 13.862944), (5.0, 4.462871)]


@pytest.mark.parametrize("h", [0.1, 0.04])
def test_the_f_i_curve_of_an_exact_leak(h):
    """tau = 20 ms, threshold 1: intervals of 20 ln(RI / (RI - 1)) ms, rounded up to the grid of h ms."""
    x = torch.tensor([ri for ri, _ in F_I], dtype=F64)
    steps = int(200 / h)
    with torch.no_grad():
        spikes, _ = LIF(leak=Exact(20 / h)).run(x.expand(steps, 1, 6))
    assert (spikes[:, 0, 1:].sum(0) >= 2).all() and not spikes[:, :, 0].any()
    for k, (_, interval) in enumerate(F_I):
        times = (spikes[:, 0, k].nonzero()[:, 0] + 1).double() * h
        if interval == math.inf:
            assert len(times) == 0
            continue
        on_grid = math.ceil(interval / h) * h
        assert 0 <= on_grid - interval < h
        wanted = torch.arange(1, int(200 / on_grid) + 1, dtype=F64) * on_grid
        torch.testing.assert_close(times, wanted, rtol=1e-9, atol=1e-9)


def test_a_leaky_neuron_keeps_its_analytic_rate_within_one_spike_at_every_step():
    for ri in (1.3, 2.0, 4.0):
        with torch.no_grad():
            spikes, _ = LIF(leak=Exact(500.0)).run(torch.full((4000, 1, 1), ri, dtype=F64))
        interval = 500 * math.log(ri / (ri - 1))
        t = torch.arange(1, 4001, dtype=F64)
        assert spikes.sum() >= 4
        assert ((spikes[:, 0, 0].cumsum(0) - torch.floor(t / interval)).abs() <= 1).all()


@pytest.mark.parametrize("tau", [1.5, 3.0, 10.0, 50.0])
def test_lif_with_subtraction_is_the_spike_response_model(tau):
    """u[t] = sum_j e^(-(t-j)/tau) I[j] - theta sum_f e^(-(t-f)/tau) over its own past spikes f."""
    module = LIF(leak=ExactJump(tau), v_th=1.3, reset=Subtract())
    x = (cases.drive(module, (120, 1, 8), F64, seed=int(tau)) * 0.5).squeeze(1)
    spikes, _ = module.run(x[:, None])
    assert_active(spikes)
    kernel = np.exp(-np.arange(120) / tau)
    past, found = np.zeros((120, 8)), x.numpy()
    for t in range(120):
        u = (kernel[t::-1, None] * found[: t + 1]).sum(0) - 1.3 * (kernel[t:0:-1, None] * past[:t]).sum(0)
        assert np.abs(u - 1.3).min() > 1e-10
        past[t] = u >= 1.3
    assert np.array_equal(past, spikes[:, 0].numpy())


@pytest.mark.parametrize("leak", [Factor(0.9), Euler(4.0), Exact(4.0), ExactJump(2.0)], ids=repr)
@pytest.mark.parametrize("detach", [True, False])
def test_a_delayed_subtraction_is_the_loop_it_says(leak, detach):
    module = LIF(leak=leak, v_th=0.8, reset=Subtract(detach=detach, delayed=True))
    x = cases.drive(module, (60, 2, 6), F64)
    beta, gain = leak.coefficients()
    u, s, wanted = torch.zeros(2, 6, dtype=F64), torch.zeros(2, 6, dtype=F64), []
    for i in x:
        u = beta * u + gain * i - 0.8 * s
        s = (u >= 0.8).double()
        wanted.append(s)
    spikes, _ = module.run(x)
    assert_active(spikes)
    assert torch.equal(spikes, torch.stack(wanted))


@pytest.mark.parametrize("case", cases.integrate_and_fire(cases.RESETS), ids=repr)
def test_every_variant_is_its_written_update_neuron_by_neuron(case):
    """Plain Python numbers, one neuron at a time."""
    module = case.make().double()
    x = cases.drive(module, (25, 1, 6), F64)
    spikes, (left,) = module.run(x)
    assert_active(spikes)
    with torch.no_grad():
        decay, gain = (float(c) for c in module.coefficients())
    for n in range(6):
        v, found = module.v_init, []
        for i in x[:, 0, n].tolist():
            u = decay * v + gain * i
            s = u > module.v_th if module.strict else u >= module.v_th
            reset = module.reset
            if not s or isinstance(reset, cases.NoReset):
                v = u
            elif isinstance(reset, HardReset):
                v = reset.value
            else:
                v = u - module.v_th / (decay if reset.delayed else 1)
            found.append(float(s))
        assert found == spikes[:, 0, n].tolist()
        assert v == pytest.approx(left[0, n].item(), rel=1e-12, abs=1e-12)
