"""Gradients: right for smooth spikes to second order, and for hard ones the same however the steps are unrolled."""

from functools import partial

import cases
import pytest
import torch
from cases import F64, assert_active, network
from torch.autograd import grad, gradcheck, gradgradcheck

from spikewright.clock import Clock
from spikewright.losses import TimeLoss
from spikewright.neurons import (
    IF,
    LIF,
    PLIF,
    Charge,
    Competition,
    Delay,
    DoubleExponential,
    ExactRateLIF,
    Factor,
    FewSpikes,
    HeldDropout,
    IntegrateAndFire,
    LatencyCode,
    MaxPoolGate,
    NoisyLIF,
    Once,
    Synapse,
    SynapticDelay,
    TSSLNeuron,
)
from spikewright.neurons.stepwise import Stepwise
from spikewright.noise import sample_keys, seeded
from spikewright.readout import Timing
from spikewright.snn import Run
from spikewright.surrogate import ATan, Learnable, Sigmoid, Smooth

_LINEAR = {"SynapticDelay", "Synapse", "DoubleExponential", "HeldDropout", "Delay", "Charge", "Once"}
NOISY = [
    cases.Case(f"NoisyLIF-{over}", partial(NoisyLIF, over=over, reset=reset, surrogate=Smooth(Sigmoid(2.0))))
    for over, reset in (("sample", cases.HardReset(detach=False)), ("batch", cases.Subtract(detach=False)))
]
SMOOTH = cases.integrate_and_fire(cases.ATTACHED, Smooth(Sigmoid(2.0)))
LINEAR = [c for c in cases.temporal_cases() if c.name.split("-")[0] in _LINEAR]
UNROLLED = [c for c in cases.temporal_cases() if not c.name.startswith("TSSL")]


def checked_twice(function, *inputs):
    assert gradcheck(function, inputs)
    assert gradgradcheck(function, inputs, fast_mode=True)


@pytest.mark.parametrize("case", [c for c in SMOOTH if "strict" not in c.name] + LINEAR + NOISY, ids=repr)
def test_gradcheck_of_every_temporal_module(case):
    module = case.make().double()
    x = cases.drive(module, (4, 1, 2), F64).requires_grad_()

    def function(x, *_):
        out, state = cases.run(module, x)
        return out, *[s for s in cases.tensors(state) if s.requires_grad]

    checked_twice(function, x, *module.parameters())


@pytest.mark.parametrize("case", SMOOTH[::3], ids=repr)
def test_gradcheck_with_respect_to_the_state_handed_in(case):
    module = case.make().double()
    x = cases.drive(module, (3, 1, 2), F64)
    v = torch.tensor([[0.3, 0.8]], dtype=F64, requires_grad=True)
    checked_twice(lambda v: module.run(x, (v,))[0], v)


@pytest.mark.parametrize("case", [c for c in cases.readout_cases() if c.name != "SpikingSoftmax"], ids=repr)
def test_gradcheck_of_every_readout(case):
    read = case.make()
    g = torch.Generator().manual_seed(0)
    out = torch.rand(4, 2, 4, generator=g, dtype=F64, requires_grad=True)
    if isinstance(read, Timing):
        checked_twice(lambda times: read.at(4 * times[0], 0, 4), out)
    else:
        checked_twice(lambda out: read.run(out)[0], out)


@pytest.mark.parametrize("case", [c for c in cases.loss_cases() if c.name != "RelativeTarget"], ids=repr)  # moves
def test_gradcheck_of_every_loss(case):
    loss = case.make()
    run, target = cases.run_of(6, 3, 4)
    span = 6 if isinstance(loss, TimeLoss) else 10
    out, scores = (span * run.out).requires_grad_(), run.scores.requires_grad_()
    found = grad(loss(Run(out, scores), target), (out, scores), allow_unused=True)
    used = [t for t, g in zip((out, scores), found, strict=True) if g is not None]
    assert used

    def function(*_):
        return loss(Run(out, scores), target)

    checked_twice(function, *used)


@pytest.mark.parametrize("case", UNROLLED, ids=repr)
def test_the_gradient_of_a_hard_run_is_that_of_its_steps(case):
    module = case.make().double()
    x = cases.drive(module, (12, 2, 5), F64)
    weight = torch.randn(12, 2, 5, generator=torch.Generator().manual_seed(1), dtype=F64)

    def gradients(blocks):
        leaf, out, state = x.clone().requires_grad_(), [], None
        for block in leaf.split(blocks):
            part, state = cases.run(module, block, state)
            out.append(part)
        out = torch.cat(out)
        assert_active(cases.fired(case, module, leaf, out))
        return grad((out * weight).sum(), [leaf, *module.parameters()])

    whole = gradients([12])
    assert all(g.isfinite().all() and (g != 0).any() for g in whole)
    for blocks in ([1] * 12, [5, 7]):
        for a, b in zip(whole, gradients(blocks), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in cases.NETWORKS if n != "tssl"])
def test_the_gradient_of_a_network_is_that_of_its_steps(name):
    snn = network(name)
    x = cases.images(snn.encode, 3, snn.steps)
    weight = torch.randn(snn.steps, 3, 10, generator=torch.Generator().manual_seed(1), dtype=F64)
    parameters = list(snn.parameters())
    run = snn.run(x)
    assert_active(run.out)
    whole = grad((run.out * weight).sum(), parameters)
    out, state = [], None
    for _ in range(snn.steps):
        with Clock(1, state, keys=lambda: seeded(sample_keys(x), 0)) as clock:
            out.append(snn.body(x))
        state = clock.left
    single = grad((torch.stack(out) * weight).sum(), parameters)
    assert any((g != 0).any() for g in whole)
    for a, b in zip(whole, single, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "make",
    [lambda: LIF(), lambda: IF(), lambda: PLIF(), lambda: TSSLNeuron(), lambda: LIF(surrogate=Learnable(ATan()))],
)
def test_a_second_derivative_through_a_hard_spike_raises(make):
    module = make().double()
    x = cases.drive(module, (8, 2, 3), F64).requires_grad_()
    out, _ = module.run(x)
    assert (out != 0).any()
    (first,) = grad(out.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError):
        grad(first.square().sum(), x)


def test_learned_numbers_get_a_gradient_and_move_by_it():
    module = PLIF(3.0, surrogate=Learnable(ATan())).double()
    x = cases.drive(module, (10, 2, 5), F64)
    out, _ = module.run(x)
    assert_active(out)
    found = grad(out.mean(), list(module.parameters()))
    assert len(found) == 2
    assert all(g.isfinite().all() and g.abs() > 0 for g in found)


@pytest.mark.parametrize("name", cases.NETWORKS)
def test_every_parameter_of_every_network_gets_a_finite_gradient(name):
    snn = network(name).train()
    run = snn.run(cases.images(snn.encode, 4, snn.steps))
    assert_active(run.out)
    found = grad(run.scores[-1].square().sum(), list(snn.parameters()))
    for (label, p), g in zip(snn.named_parameters(), found, strict=True):
        assert g.isfinite().all() and (g != 0).any() and g.shape == p.shape, label


def test_the_whole_smooth_network_passes_gradcheck():
    body = torch.nn.Sequential(
        torch.nn.Linear(3, 4),
        Synapse(Factor(0.5)),
        LIF(reset=cases.HardReset(detach=False), surrogate=Smooth(Sigmoid(2.0))),
        torch.nn.Linear(4, 2),
        PLIF(reset=cases.Subtract(detach=False), surrogate=Smooth(ATan())),
    ).double()
    snn = cases.SNN(body, 3)
    x = torch.rand(2, 3, dtype=F64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert gradcheck(lambda *_: snn(x), (x, *snn.parameters()))


def test_detached_resets_cut_exactly_the_way_through_the_spike():
    """With a spike whose slope is 0 nothing flows through it, so attached and detached resets agree."""

    class Flat(Sigmoid):
        def curve(self, x):
            return 0 * x

    for attached, detached in (
        (cases.HardReset(detach=False), cases.HardReset()),
        (cases.Subtract(False), cases.Subtract()),
    ):
        found = []
        for reset in (attached, detached):
            module = LIF(leak=Factor(0.8), reset=reset, surrogate=Flat())
            x = cases.drive(module, (10, 2, 4), F64).requires_grad_()
            out, (v,) = module.run(x)
            assert_active(out)
            found.append(grad(v.sum(), x)[0])
        assert torch.equal(*found) and (found[0] != 0).any()


def test_the_lists_above_cover_every_temporal_module():
    stepwise = {Stepwise, Competition, LatencyCode, Charge}  # unrolled only
    kinds = {
        IntegrateAndFire,
        Synapse,
        DoubleExponential,
        HeldDropout,
        TSSLNeuron,
        Charge,
        Delay,
        MaxPoolGate,
        NoisyLIF,
        *stepwise,
    }
    kinds |= {FewSpikes, Once, ExactRateLIF, SynapticDelay}
    for case in cases.temporal_cases():
        module = case.make()
        assert isinstance(module, tuple(kinds)), f"{case}: say in this file how its gradient is checked"
