"""TSSL-BP's neuron against the values of its fixtures and against its rule written out in plain Python."""

import math
import random

import cases
import pytest
import torch
from cases import F64, assert_active, risen

from spikewright.neurons import TSSLNeuron
from spikewright.neurons.tssl import _TSSL

FIRING = ([0.6, 0.7, 0.1, 1.3, 0.4], [0.014042, -0.022680, -0.013889, -0.017361, 0.0])
SILENT = ([0.2, 0.3, 0.1, 0.05, 0.1], [0.002362, -0.002914, 0.026025, -0.005602, 0.044936])
UPPER = [0.1, -0.2, 0.3, -0.4, 0.5]


def clip(x, low, high):
    return max(low, min(high, x))


def reference(current, upper, tau_m, tau_s, v_th, v=0.0, a=0.0):
    """(outputs, spikes, dL/dcurrent) of one neuron: the rule term by term, sums over all later steps and all."""
    steps = len(current)
    u, du, o, psc = [], [], [], []
    for i in current:
        du.append(i - v / tau_m)
        u.append(v + du[-1])
        o.append(1.0 if u[-1] > v_th else 0.0)
        v = u[-1] * (1 - o[-1])
        a = a + (o[-1] - a) / tau_s
        psc.append(a)

    def k(n):
        return (1 - 1 / tau_s) ** n / tau_s

    def f(potential):
        e = math.exp(clip((v_th - potential) / 0.2, -8, 8))
        return e / ((1 + e) ** 2 * 0.2)

    found, carry = [0.0] * steps, 0.0
    for t in range(steps - 1, -1, -1):
        q = 0.0
        if o[t]:
            q = clip(-1 / du[t], -8, 0) if du[t] != 0 else -8.0
        grad = tau_s * q * sum(-k(m - t) / tau_s * upper[m] for m in range(t, steps))
        if t < steps - 1:
            grad += carry * (-1 / tau_m) * u[t] * q + carry * (1 - 1 / tau_m) * (1 - o[t])
        carry = grad if o[t] else carry * (1 - 1 / tau_m)
        if psc[t] < 1 / (4 * tau_s):
            grad = f(u[t]) * sum(k(m - t) * upper[m] for m in range(t, steps))
        found[t] = grad
    return psc, o, found


def gradient(current, upper, tau_m=5.0, tau_s=3.0, v_th=1.0, state=None):
    """(outputs, dL/dcurrent, du at the spikes) of the module; current [T, N]."""
    x = torch.as_tensor(current, dtype=F64)[:, None].requires_grad_()
    out, _ = TSSLNeuron(tau_m, tau_s, v_th).run(x, state)
    (found,) = torch.autograd.grad(out, x, torch.as_tensor(upper, dtype=F64)[:, None])
    return out[:, 0].detach(), found[:, 0]


def test_the_firing_fixture():
    current, wanted = FIRING
    out, found = gradient([[c] for c in current], [[g] for g in UPPER])
    assert out[:, 0].tolist() == pytest.approx([0, 0.333333, 0.222222, 0.481481, 0.320988], abs=1e-6)
    assert risen(out)[:, 0].tolist() == [False, True, False, True, False]
    assert found[:, 0].tolist() == pytest.approx(wanted, abs=1e-6)


def test_the_silent_fixture():
    """Nothing fires here on purpose: the smooth branch keeps the gradient alive."""
    current, wanted = SILENT
    out, found = gradient([[c] for c in current], [[g] for g in UPPER])
    assert not out.any()
    assert found[:, 0].tolist() == pytest.approx(wanted, abs=1e-6)


@pytest.mark.parametrize("case", range(50))
def test_the_rule_written_out(case):
    rng = random.Random(case)
    steps, neurons = rng.randint(1, 25), 12
    tau_m, tau_s, v_th = rng.uniform(1.1, 12), rng.uniform(1.1, 8), rng.choice([1.0, 0.4, 2.0])
    scale, shift = rng.choice([(0.05, 0.0), (1.0, 0.4), (1.0, -0.5), (20.0, 5.0), (3.0, 1.0)])
    current = [[rng.gauss(shift, scale) for _ in range(neurons)] for _ in range(steps)]
    upper = [[rng.gauss(0, 1) for _ in range(neurons)] for _ in range(steps)]
    out, found = gradient(current, upper, tau_m, tau_s, v_th)
    for n in range(neurons):
        psc, _, wanted = reference([c[n] for c in current], [g[n] for g in upper], tau_m, tau_s, v_th)
        assert out[:, n].tolist() == pytest.approx(psc, rel=1e-12, abs=1e-14)
        assert found[:, n].tolist() == pytest.approx(wanted, rel=1e-10, abs=1e-12)


def test_the_cases_above_fire_and_are_silent():
    """Over all 50 the spikes are neither none nor all, and both branches of the rule are taken."""
    spikes, weak, total = 0, 0, 0
    for case in range(50):
        rng = random.Random(case)
        steps, neurons = rng.randint(1, 25), 12
        tau_m, tau_s, v_th = rng.uniform(1.1, 12), rng.uniform(1.1, 8), rng.choice([1.0, 0.4, 2.0])
        scale, shift = rng.choice([(0.05, 0.0), (1.0, 0.4), (1.0, -0.5), (20.0, 5.0), (3.0, 1.0)])
        current = [[rng.gauss(shift, scale) for _ in range(neurons)] for _ in range(steps)]
        for n in range(neurons):
            psc, o, _ = reference([c[n] for c in current], [0.0] * steps, tau_m, tau_s, v_th)
            spikes, total = spikes + sum(o), total + steps
            weak += sum(a < 1 / (4 * tau_s) for a in psc)
    assert 0.05 < spikes / total < 0.9 and 0.05 < weak / total < 0.9


def test_a_spike_without_a_move_of_the_membrane_has_the_limit_slope():
    """du = 0 at a spike: a state above threshold is handed in. 1/0 is clipped to 8, and NaN never arises."""
    current, upper = [0.5, 0.2, 1.4, 0.0], [0.3, -0.1, 0.2, 0.4]
    v = torch.tensor([[2.0]], dtype=F64)
    out, found = gradient([[c] for c in current], [[g] for g in upper], tau_m=4.0, state=(v, torch.zeros_like(v)))
    assert risen(out)[0, 0] and current[0] == v.item() / 4
    psc, o, wanted = reference(current, upper, 4.0, 3.0, 1.0, v=2.0)
    assert o[0] == 1
    assert out[:, 0].tolist() == pytest.approx(psc)
    assert found[:, 0].tolist() == pytest.approx(wanted, rel=1e-12)
    assert found.isfinite().all()


def test_a_falling_membrane_that_spikes_has_slope_0():
    current, upper = [0.2, 0.1, 0.9], [0.3, -0.1, 0.2]
    v = torch.tensor([[2.5]], dtype=F64)
    _, found = gradient([[c] for c in current], [[g] for g in upper], state=(v, torch.zeros_like(v)))
    _, o, wanted = reference(current, upper, 5.0, 3.0, 1.0, v=2.5)
    assert o[0] == 1 and wanted[0] == 0
    assert found[:, 0].tolist() == pytest.approx(wanted, rel=1e-12)


def test_exactly_at_the_threshold_it_stays_silent():
    out, _ = gradient([[1.0], [0.5]], [[1.0], [1.0]])
    assert out[0, 0] == 0 and out[1, 0] > 0


def test_the_threshold_shifts_the_smooth_branch_too():
    current, upper = [[0.2], [0.1], [0.1]], [[1.0], [0.5], [-0.5]]
    _, found = gradient(current, upper, v_th=0.6)
    _, o, wanted = reference([c[0] for c in current], [g[0] for g in upper], 5.0, 3.0, 0.6)
    assert not any(o)  # silence is the case looked at
    assert found[:, 0].tolist() == pytest.approx(wanted, rel=1e-12)


def test_a_second_derivative_raises():
    x = torch.tensor(FIRING[0], dtype=F64)[:, None, None].requires_grad_()
    out, _ = TSSLNeuron().run(x)
    assert_active(risen(out))
    (first,) = torch.autograd.grad(out.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.square().sum().backward()


def test_float32_follows_float64():
    x = cases.drive(TSSLNeuron(), (20, 3, 8), F64)
    upper = torch.randn(20, 3, 8, generator=torch.Generator().manual_seed(0), dtype=F64)
    found = []
    for dtype in (F64, torch.float32):
        leaf = x.to(dtype).requires_grad_()
        out, _ = TSSLNeuron().run(leaf)
        assert_active(risen(out))
        found.append(torch.autograd.grad(out, leaf, upper.to(dtype))[0].double())
    assert ((found[0] - found[1]).abs() / found[0].abs().max()).max() < 1e-5


def test_the_state_handed_in_takes_no_gradient():
    v = torch.zeros(2, 3, requires_grad=True)
    x = cases.drive(TSSLNeuron(), (8, 2, 3)).requires_grad_()
    out, _, _ = _TSSL.apply(x, v, torch.zeros(2, 3), 5.0, 3.0, 1.0)
    assert_active(risen(out))
    assert torch.autograd.grad(out.sum(), [x, v], allow_unused=True)[1] is None


def test_the_spikes_are_read_back_from_the_currents():
    for dtype in (F64, torch.float32, torch.bfloat16):
        module = TSSLNeuron()
        x = cases.drive(module, (30, 3, 8), F64).to(dtype)
        out, _ = module.run(x)
        exact, _ = module.run(x.to(F64))
        spikes = module.spikes_in(out)
        assert_active(spikes)
        assert torch.equal(spikes != 0, risen(exact))
        first, state = module.run(x[:11])
        second, _ = module.run(x[11:], state)
        again = torch.cat([module.spikes_in(first), module.spikes_in(second, state)])
        assert torch.equal(again, spikes)
