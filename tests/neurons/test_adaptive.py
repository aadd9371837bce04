"""Adaptive LIF, SRM0 and the delta modulator against identities and direct sums."""

import pytest
import torch

from spikewright.neurons import IF, LIF, SRM0, AdaptiveLIF, Delta, ExactJump, Subtract

F64 = torch.float64


def drive(steps=200, seed=0, size=1.0):
    return torch.rand(steps, 3, 8, generator=torch.Generator().manual_seed(seed), dtype=F64) * size


def test_adaptive_lif_without_adaptation_is_lif():
    x = drive(size=0.5)
    lif = LIF(leak=ExactJump(20.0), reset=Subtract(delayed=True))
    found, wanted = AdaptiveLIF(20.0, 100.0, beta=0.0).run(x)[0], lif.run(x)[0]
    assert 0.05 < wanted.mean() < 0.5 and torch.equal(found, wanted)


def test_adaptive_lifs_intervals_grow_to_a_fixed_point():
    out, _ = AdaptiveLIF(20.0, 200.0, beta=0.2).run(torch.full((3000, 1, 1), 0.3, dtype=F64))
    gaps = out[:, 0, 0].nonzero()[:, 0].diff()
    smooth = gaps[: len(gaps) // 8 * 8].view(-1, 8).double().mean(1)
    assert len(gaps) > 60 and gaps[0] < 0.5 * gaps[-1]
    assert (smooth.diff() > -0.3).all() and abs(smooth[-1] - smooth[-2]) < 0.3


def test_adaptive_lif_holds_its_refractory_time():
    out, _ = AdaptiveLIF(20.0, 20.0, beta=0.01, refractory=5).run(torch.full((100, 1, 1), 2.0, dtype=F64))
    gaps = out[:, 0, 0].nonzero()[:, 0].diff()
    assert len(gaps) > 8 and gaps.min() == 6


def test_srm0_with_one_exponential_is_lif_with_reset_by_subtraction():
    x = drive(size=0.6)
    found = SRM0(10.0, 0.0).run(x)[0]
    wanted = LIF(leak=ExactJump(10.0), reset=Subtract()).run(x)[0]
    assert 0.05 < wanted.mean() < 0.6 and torch.equal(found, wanted)


@pytest.mark.parametrize("tau_s", [2.5, 10.0, 0.0])
def test_srm0_by_traces_is_the_convolution_with_its_kernels(tau_s):
    neuron = SRM0(10.0, tau_s, tau_r=6.0, scale=0.8)
    x = drive(120, size=0.2 if tau_s == 2.5 else 0.35 if tau_s == 0 else 0.15)
    out, state = [], None
    potentials = []
    for i in x.split(1):
        s, state = neuron.run(i, state)
        out.append(s)
        potentials.append(state[0])
    out, u = torch.cat(out), torch.stack(potentials)
    assert 0.01 < out.mean() < 0.6
    for t in (0, 1, 17, 60, 119):
        s = torch.arange(t, -1, -1, dtype=F64)
        driven = (neuron.kernel(s)[:, None, None] * x[: t + 1]).sum(0)
        eta = -0.8 * torch.exp(-s[:-1] / 6.0)
        wanted = driven + (eta[:, None, None] * out[:t]).sum(0)
        torch.testing.assert_close(u[t], wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("tau, tau_s, peak", [(15.0, 3.75, 6.93147), (10.0, 2.5, 4.62098), (8.0, 8.0, 8.0)])
def test_srm0s_kernel_peaks_at_one_where_the_closed_form_says(tau, tau_s, peak):
    s = torch.linspace(0, 60, 600_001, dtype=F64)
    k = SRM0(tau, tau_s).kernel(s)
    assert float(k.max()) == pytest.approx(1, abs=1e-9) and float(s[k.argmax()]) == pytest.approx(peak, abs=2e-4)
    if tau_s != tau:
        assert SRM0(tau, tau_s)._norm() == pytest.approx(2.116535, abs=1e-6)


def test_delta_events_follow_the_signal_within_theta():
    t = torch.arange(400, dtype=F64)
    x = torch.sin(t / 40)[:, None, None]  # at most 0.025 a step
    for neuron in (Delta(0.05), Delta(0.05, many=True)):
        events, _ = neuron.run(x)
        assert set(events.unique().tolist()) == {-1.0, 0.0, 1.0}
        assert 0.2 < events.abs().mean() < 0.8
        assert (x - neuron.decode(events)).abs().max() < 0.05 + 1e-9


def test_delta_sends_a_jump_at_once_only_with_many_events():
    x = torch.full((10, 1, 1), 0.95, dtype=F64)
    one, many = (Delta(0.1, many=flag).run(x)[0][:, 0, 0].tolist() for flag in (False, True))
    assert one == [1.0] * 9 + [0.0] and many == [9.0] + [0.0] * 9


def test_delta_is_quiet_once_a_constant_is_sent():
    assert Delta(0.3).run(torch.full((50, 1, 1), 1.0, dtype=F64))[0][4:].abs().sum() == 0


def test_if_counts_are_those_of_the_closed_form():
    a = torch.tensor([0.1, 0.25, 0.6], dtype=F64)
    counts = IF(v_init=0.5).run(a.expand(100, 1, 3))[0].sum(0)[0]
    assert counts.tolist() == torch.floor(0.5 + 100 * a + 1e-9).tolist()
