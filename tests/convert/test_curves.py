"""Activations trained as what neurons will do: QCFS, sharpening, soft LIF, against their neurons and formulas."""

import math

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn import functional as F

from spikewright.convert import QCFS, Curve, Scheduled, Sharpening, SoftLIF
from spikewright.errors import ConfigError
from spikewright.neurons import IF, HardReset, NoisyLIF, Subtract

F64 = torch.float64


def rate(z, steps, theta):
    """Mean output of the integrate-and-fire neuron that QCFS stands for, at constant currents z [N]."""
    neuron = IF(theta, Subtract(), v_init=theta / 2, size=theta)
    return neuron.run(z.expand(steps, 1, -1))[0].mean((0, 1))


@pytest.mark.parametrize("levels", [1, 2, 4, 8])
def test_qcfs_is_its_neuron_after_as_many_steps_as_levels(levels):
    theta = 2.0  # with powers of two, sums are exact, on the grid as well
    z = torch.arange(-64, 4 * 64, dtype=F64) / 64 * theta
    found = QCFS(levels, theta).double()(z)
    assert torch.equal(found, rate(z, levels, theta))
    assert len(found.unique()) == levels + 1


@pytest.mark.parametrize("levels, steps", [(4, 8), (4, 6), (8, 3)])
def test_at_other_steps_it_is_right_on_average(levels, steps):
    theta = 1.5
    z = (torch.arange(48_000, dtype=F64) + 0.5) / 48_000 * theta
    wrong = QCFS(levels, theta).double()(z) - rate(z, steps, theta)
    assert abs(wrong.mean().item()) < 1e-3 * theta
    assert wrong.abs().max() > 0.05 * theta


def test_with_many_levels_it_is_a_clipped_relu():
    z = torch.linspace(-2, 4, 500, dtype=F64)
    assert (QCFS(1024, 2.0).double()(z) - z.clamp(0, 2)).abs().max() <= 2.0 / 2048 + 1e-9


def test_its_gradients_are_those_of_the_clip_on_average():
    """Of z: 1 between 0 and theta. Of theta: the derivative of the mean output over many z, by differences."""
    unit, z = QCFS(4, 2.0).double(), torch.linspace(-3, 5, 8000, dtype=F64, requires_grad=True)
    unit(z).sum().backward()
    assert torch.equal(z.grad, ((z.detach() > 0) & (z.detach() < 2)).double())
    found = unit.theta.grad.item()

    def total(theta):
        return QCFS(4, theta).double()(z.detach()).sum().item()

    assert found == pytest.approx((total(2.5) - total(1.5)) / 1.0, rel=0.02)


def test_its_threshold_stays_above_zero_and_half_precision_keeps_the_levels():
    unit = QCFS(4, 2.0)
    with torch.no_grad():
        unit.theta.fill_(-1.0)
    unit.constrain()
    assert unit.threshold == pytest.approx(1e-3)
    z = torch.linspace(0, 9, 100).bfloat16()
    assert torch.equal(QCFS()(z), QCFS()(z.float()).bfloat16())


@pytest.mark.parametrize("shape", ["relu", "sigmoid"])
def test_sharpening_goes_from_smooth_to_a_step(shape):
    unit, z = Sharpening(shape).train(), torch.linspace(-1, 2, 301, dtype=F64)
    k = 4 * math.log(2 + math.sqrt(3)) / 1.001
    wanted = ((z - 0.5) / 1.001 + 0.5).clamp(0, 1) if shape == "relu" else 1 / (1 + torch.exp(-k * (z - 0.5)))
    torch.testing.assert_close(unit(z), wanted)
    steeper = []
    for sharpness in (0.0, 0.5, 0.9, 1.0):
        unit.sharpness.fill_(sharpness)
        steeper.append(float((unit(z) * (1 - unit(z))).sum()))
    assert sorted(steeper, reverse=True) == steeper and steeper[0] > 1 and steeper[-1] == 0
    step = unit(z)
    assert torch.equal(step, (z >= 0.5).double())
    unit.sharpness.fill_(0.3)
    assert torch.equal(unit.eval()(z), step)
    neuron = IF(unit.threshold, HardReset(), size=unit.top)
    assert torch.equal(neuron.run(z[None, None])[0][0, 0], step)


def test_without_noise_the_noisy_neuron_is_the_same_step_above_a_half():
    z = torch.linspace(-1, 2, 300)
    assert torch.equal(NoisyLIF(noise="none").run(z[None, None])[0][0, 0], Sharpening().eval()(z))


def test_the_gradient_of_sharpening_is_its_own():
    unit = Sharpening("sigmoid").train()
    unit.sharpness.fill_(0.5)
    assert gradcheck(unit, torch.linspace(0, 1, 7, dtype=F64, requires_grad=True))
    unit.sharpness.fill_(1.0)
    z = torch.linspace(0, 1, 7, requires_grad=True)
    unit(z).sum().backward()
    assert not z.grad.any()


def test_layers_are_sharpened_one_after_the_other():
    net = torch.nn.Sequential(Sharpening(), torch.nn.Identity(), Sharpening(), Sharpening())
    schedule = Scheduled(start=10, each=4, pause=2)
    found = {}
    for epoch in (0, 10, 12, 14, 16, 18, 25, 26):
        schedule(net, epoch)
        found[epoch] = [float(net[i].sharpness) for i in (0, 2, 3)]
    assert found == {
        0: [0, 0, 0],
        10: [0, 0, 0],
        12: [0.5, 0, 0],
        14: [1, 0, 0],
        16: [1, 0, 0],
        18: [1, 0.5, 0],
        25: [1, 1, 0.75],
        26: [1, 1, 1],
    }
    assert schedule.end(3) == 26
    assert Scheduled().end(8) == 76  # the released code's


def test_soft_lif_is_the_rate_formula_and_its_derivative():
    unit = SoftLIF(noise=0.0, sigma=1e-3).double().eval()
    j = torch.tensor([1.2, 1.5, 2.0, 5.0], dtype=F64)
    hard = 1000 / (2 + 20 * torch.log1p(1 / (j - 1)))
    torch.testing.assert_close(unit.rate(j), hard, rtol=1e-3, atol=0)
    assert [round(r, 1) for r in hard.tolist()][:1] == [26.4]
    assert hard.tolist()[2:] == pytest.approx([63.0, 154.7], abs=0.1)  # of the literature
    soft = SoftLIF(noise=0.0, sigma=0.1).double()
    z = torch.tensor([-4.0, -2.2, -0.5, 0.0, 0.1, 0.9, 4.0], dtype=F64, requires_grad=True)
    assert gradcheck(soft, z)
    assert (soft(z).diff() > 0).all()


def test_soft_lif_is_finite_far_below_and_above_its_threshold():
    for dtype in (torch.float32, F64):
        z = torch.tensor([-1e6, -50.0, -1.0, -0.401, -0.399, 0.0, 1e6], dtype=dtype, requires_grad=True)
        out = SoftLIF(noise=0.0)(z)
        out.sum().backward()
        assert out.isfinite().all() and z.grad.isfinite().all()
        assert (out.diff() >= 0).all() and 0 <= out[0] < 1e-3 and out[-1].item() == pytest.approx(5.0, rel=1e-3)


def test_its_noise_is_on_the_rate_in_training_alone():
    unit, z = SoftLIF(noise=10.0, amplitude=0.01), torch.full((20_000,), 1.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        noisy = unit.train()(z)
    quiet = unit.eval()(z)
    assert quiet.unique().numel() == 1
    assert (noisy - quiet).std().item() == pytest.approx(0.1, rel=0.03)
    assert (noisy - quiet).mean().item() == pytest.approx(0, abs=0.004)


def test_curves_are_torchs():
    z = torch.linspace(-3, 3, 20)
    assert torch.equal(Curve("silu")(z), F.silu(z)) and torch.equal(Curve("sigmoid")(z), torch.sigmoid(z))


@pytest.mark.parametrize(
    "make",
    [
        lambda: QCFS(0),
        lambda: QCFS(4, 0.0),
        lambda: Sharpening("tanh"),
        lambda: Scheduled(each=0),
        lambda: SoftLIF(sigma=0),
        lambda: SoftLIF(noise=-1),
        lambda: Curve("relu"),
    ],
)
def test_what_makes_no_activation_is_refused(make):
    with pytest.raises(ConfigError) as caught:
        make()
    assert "\n" not in str(caught.value) and "expected" in str(caught.value)
