"""The noisy neuron against its method's algebra, closed forms of its firing probability, and its rule written out."""

import math

import pytest
import torch
from cases import F32, F64, assert_active
from scipy import stats

from spikewright import noise
from spikewright.arch import arch
from spikewright.clock import Clock
from spikewright.neurons import HardReset, NoisyLIF, Subtract
from spikewright.snn import SNN
from spikewright.surrogate import Rectangle

KEYS = noise.sample_keys(torch.linspace(0, 1, 32)[:, None])


def potential(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64).exp() - 1.5  # a heavy tail


def dims_of(over, v):
    every = tuple(range(v.dim()))
    return {"sample": every[1:], "channel": every[2:] or (1,), "batch": every}[over]


@pytest.mark.parametrize("over", ["sample", "channel", "batch"])
def test_the_normalised_membrane_has_the_range_and_the_mean_asked_for(over):
    for alpha, beta in ((4.0, 0.5), (2.0, 0.3), (9.0, 0.0)):
        v = potential(6, 5, 7, 7)
        m = NoisyLIF(alpha, beta, over=over).normalised(v)
        dims = dims_of(over, v)
        torch.testing.assert_close(m.mean(dims), torch.full_like(m.mean(dims), beta))
        reach = (m - beta).abs().amax(dims)
        torch.testing.assert_close(reach, torch.full_like(reach, 1 / alpha))


def test_scale_and_offset_of_the_membrane_cancel():
    v, neuron = potential(4, 50), NoisyLIF()
    torch.testing.assert_close(neuron.normalised(3.7 * v + 11), neuron.normalised(v))
    torch.testing.assert_close(neuron.normalised(-v), 2 * 0.5 - neuron.normalised(v))


def test_a_flat_membrane_is_beta():
    neuron = NoisyLIF(4.0, 0.3, first="rest", noise="none")
    assert torch.equal(neuron.normalised(torch.zeros(3, 5)), torch.full((3, 5), 0.3))
    _, (v, *_) = neuron.run(torch.zeros(4, 3, 5))
    assert v.isfinite().all()
    torch.testing.assert_close(neuron.membrane(None, v, KEYS[:3], 0), torch.full((3, 5), 0.5))  # M and N' of mean 1/2


@pytest.mark.parametrize("match", ["range", "variance"])
def test_the_noise_that_is_left(match):
    width = {alpha: NoisyLIF(alpha, match=match).rest_width for alpha in (2.0, 4.0, 1e9, None)}
    assert width[2.0] == 0 and width[None] == 0.5 and width[1e9] == pytest.approx(0.5)
    assert width[4.0] == pytest.approx(0.25 if match == "range" else math.sqrt(3) / 4)


def test_at_alpha_2_there_is_none():
    neuron, v = NoisyLIF(2.0), potential(4, 30)
    torch.testing.assert_close(neuron.membrane(v, v, KEYS[:4], 3), neuron.normalised(v), rtol=0, atol=0)
    other = NoisyLIF(4.0)
    assert not torch.allclose(other.membrane(v, v, KEYS[:4], 3), other.normalised(v), atol=0.05)


@pytest.mark.parametrize("over", ["sample", "channel", "batch"])
def test_gaussian_noise_fills_0_to_1_about_its_mean(over):
    like = torch.zeros(8, 3, 16, 16)
    drawn = NoisyLIF(over=over).membrane(None, like, KEYS[:8], 0)
    reach = (drawn - 0.5).abs().amax(dims_of(over, like))
    torch.testing.assert_close(reach, torch.full_like(reach, 0.5))
    assert drawn.min() >= 0 and drawn.max() <= 1
    z = (drawn.double() - 0.5) / (drawn.double() - 0.5).std(dims_of(over, like), keepdim=True)
    assert stats.kstest(z.flatten().numpy(), "norm").pvalue > 1e-3


def rates(neuron, current):
    """Share of spikes at every value of the current."""
    block = current[None, None].expand(1, len(KEYS), -1)[..., None].expand(-1, -1, -1, 400)
    return neuron.run(block, keys=KEYS)[0].mean((0, 1, 3))


def test_with_uniform_noise_a_step_is_a_bernoulli_draw_of_a_clipped_relu():
    current = torch.linspace(-0.5, 1.5, 21)
    found = rates(NoisyLIF(noise="uniform"), current)
    assert_active(found)
    assert (found - current.clamp(0, 1)).abs().max() < 5 * 0.5 / math.sqrt(len(KEYS) * 400)


def test_with_gaussian_noise_it_is_a_steep_sigmoid_about_a_half():
    current = torch.linspace(0.2, 0.8, 13)
    found = rates(NoisyLIF(), current)
    peak = noise.normal(KEYS, 0, 13 * 400).abs().amax(1)
    z = (current[None] - 0.5) / (0.5 / peak[:, None])
    wanted = torch.special.ndtr(z).mean(0)
    assert found[0] < 0.05 and found[-1] > 0.95
    assert (found - wanted).abs().max() < 5 * 0.5 / math.sqrt(len(KEYS) * 400)


def test_without_noise_it_fires_above_a_half():
    out, _ = NoisyLIF(noise="none").run(torch.tensor([[[0.4999, 0.5, 0.5001]]]))
    assert out.flatten().tolist() == [0, 0, 1]  # strictly above the threshold


@pytest.mark.parametrize("kind", ["gaussian", "uniform"])
def test_as_alpha_grows_the_membrane_gives_way_to_noise(kind):
    """Step 3 of the method with alpha = 1e9 has the distribution of step 2, which is alpha = None."""
    v = potential(16, 500)
    left = [NoisyLIF(alpha, noise=kind).membrane(v, v, KEYS[:16], 5).flatten() for alpha in (1e9, None)]
    torch.testing.assert_close(*left, rtol=0, atol=1e-6)
    other = NoisyLIF(4.0, noise=kind).membrane(v, v, KEYS[:16], 5).flatten()
    assert stats.ks_2samp(left[0].numpy(), left[1].numpy()).pvalue > 0.5
    assert stats.ks_2samp(left[0].numpy(), other.numpy()).pvalue < 1e-6


RESETS = [HardReset(), HardReset(-0.3, detach=False), Subtract()]


@pytest.mark.parametrize("reset", RESETS, ids=repr)
@pytest.mark.parametrize("first", ["noise", "rest"])
@pytest.mark.parametrize("over", ["sample", "channel", "batch"])
def test_the_rule_written_out(over, first, reset):
    alpha, beta, width = 5.0, 0.4, 0.5 - 1 / 5
    neuron = NoisyLIF(alpha, beta, over=over, first=first, reset=reset)
    current = torch.randn(6, 4, 3, 5, 5, generator=torch.Generator().manual_seed(1), dtype=F64) * 0.4 + 0.4
    keys, spikes, v = KEYS[:4], [], None
    for t in range(6):
        g = noise.normal(keys, t, 75).view(4, 5, 5, 3).permute(0, 3, 1, 2)
        whole = t == 0 and first == "noise"
        w, centre = (0.5, 0.5) if whole else (width, 0.5 - beta)
        h = current[t] + centre + w * g.double() / g.abs().amax(dims_of(over, g), keepdim=True)
        if not whole:
            c = torch.zeros_like(current[0]) if v is None else 0.5 * v  # the paper's leak, which cancels
            c = (c - c.mean(dims_of(over, c), keepdim=True)) / 7.0  # and its sigma
            h = h + beta + c / (alpha * c.abs().amax(dims_of(over, c), keepdim=True).clamp(min=1e-12))
        s = (h > 1).double()
        v = reset(h, s, 1.0, 1.0)
        spikes.append(s)
    spikes = torch.stack(spikes)
    out, (left, _, at) = neuron.run(current, keys=keys)
    assert_active(spikes)
    assert torch.equal(out, spikes) and int(at) == 6
    torch.testing.assert_close(left, v, rtol=1e-6, atol=1e-6)
    pooled, _ = neuron.run(current, keys=keys, pool=2)
    torch.testing.assert_close(pooled, torch.nn.functional.avg_pool2d(spikes.flatten(0, 1), 2).unflatten(0, (6, 4)))


def test_the_gradient_of_a_step_is_the_rectangle_around_the_threshold():
    neuron = NoisyLIF(surrogate=Rectangle(0.5, 1.0))
    x = torch.linspace(-0.6, 1.6, 400, requires_grad=True)
    h = neuron.membrane(None, x[None].detach(), KEYS[:1], 0)[0] + x.detach()
    out, _ = neuron.run(x[None, None], keys=KEYS[:1])
    out.sum().backward()
    assert_active(out)
    assert torch.equal(x.grad, ((h - 1).abs() < 0.5).float())


def noisy_net(**how):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return SNN(arch("6C3-P2-20-10", (1, 8, 8), NoisyLIF(**how), spiking_output=False), 10).eval()


def test_the_first_step_of_the_converted_net_is_the_trained_net():
    x = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    nets = [noisy_net(alpha=alpha) for alpha in (2.0, 4.0, None)]
    trained = nets[0].run(x, steps=1).scores[0]
    for net in nets:
        assert torch.equal(net.run(x).scores[0], trained)
    scores = [net.run(x).scores[-1] for net in nets]
    assert not torch.equal(scores[0], scores[1]) and not torch.equal(scores[1], scores[2])


def test_the_noise_differs_between_layers_steps_samples_and_seeds_and_is_the_same_again():
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = NoisyLIF(), NoisyLIF()

        def forward(self, x):
            return torch.cat([self.one(x), self.two(x), self.one(x)], 1)

    snn = SNN(Twice(), 4)
    x = 0.5 + 0.01 * torch.rand(3, 200, generator=torch.Generator().manual_seed(0))
    out = snn.run(x).out
    assert_active(out)
    parts = [*out.split(200, -1), snn.run(x, generator=torch.Generator().manual_seed(1)).out[..., :200]]
    for i, a in enumerate(parts):
        assert not torch.equal(a[:, 0], a[:, 1]) and not torch.equal(a[0], a[1])
        for b in parts[:i]:
            assert not torch.equal(a, b)
    assert torch.equal(snn.run(x).out, out)


def test_without_a_network_every_row_has_noise_of_its_own():
    out, _ = NoisyLIF().run(torch.full((1, 4, 300), 0.5))
    assert_active(out)
    assert len({tuple(row.tolist()) for row in out[0]}) == 4


def test_the_draws_of_a_network_do_not_depend_on_a_clock_without_keys():
    with Clock(2):
        out = NoisyLIF()(torch.full((2, 300), 0.5, dtype=F32))
    assert_active(out)
