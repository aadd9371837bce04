"""Few-spikes networks: neurons as binary numbers, layers one after the other, fits to other activations."""

import pytest
import torch
from cases import F64, assert_active
from torch import nn
from torch.nn import functional as F

import spikewright as sw
from spikewright.convert import Curve, Largest, Method, OneAfterAnother, converted, few_spikes, fitted
from spikewright.convert.calibration import Calibration
from spikewright.errors import ConfigError
from spikewright.measure import evaluate
from spikewright.neurons import Delay, FewSpikes, Once

BITS = 6


def off_grid(n, limit, bits=BITS):
    """Values between the grid points of a code, from below zero to above the limit."""
    step = limit / 2**bits
    return (torch.arange(n, dtype=F64) + 0.37) * step * (2.4 * 2**bits / n) - 0.7 * limit


def binary(x, limit, bits=BITS):
    """Rounded down on the grid of the code, clipped to it."""
    step = limit / 2**bits
    return (x / step).floor().clamp(0, 2**bits - 1) * step


@pytest.mark.parametrize("limit", [1.0, 3.0])
def test_a_neuron_says_the_binary_digits_of_what_it_heard(limit):
    neuron, x = FewSpikes.binary(BITS, limit), off_grid(300, limit)
    heard = torch.stack([x * w for w in (0.5, -0.25, 0.0, 0.75, 0.0, 0.0)])  # in any portions
    current = torch.cat([heard, torch.full((2 * BITS, 300), 0.7, dtype=F64)])[:, None]  # and deaf afterwards
    out, _ = neuron.run(current)
    assert not out[:BITS].any() and not out[2 * BITS :].any()
    assert_active(out[BITS : 2 * BITS])
    said = out.sum((0, 1))
    torch.testing.assert_close(said, binary(x, limit))
    torch.testing.assert_close(neuron.say(x), binary(x, limit))
    spikes = (out != 0).sum((0, 1))
    ones = torch.tensor([bin(int(v)).count("1") for v in (binary(x, limit) / limit * 2**BITS).round().tolist()])
    assert torch.equal(spikes, ones)  # the energy of a number is its ones


def test_on_the_grid_a_digit_is_lost():
    neuron = FewSpikes.binary(BITS, 1.0)
    x = torch.arange(1, 2**BITS, dtype=F64) / 2**BITS
    assert torch.equal(neuron.say(x), x - 2.0**-BITS)


def test_a_later_window_hears_and_speaks_later():
    x = torch.rand(5 * BITS, 1, 40, generator=torch.Generator().manual_seed(0), dtype=F64) / BITS
    out, _ = FewSpikes.binary(BITS, 1.0, window=3).run(x)
    assert not out[: 3 * BITS].any() and not out[4 * BITS :].any()
    torch.testing.assert_close(out.sum((0, 1)), binary(x[2 * BITS : 3 * BITS].sum((0, 1)), 1.0))


def test_an_input_is_read_once_and_a_signal_waits_as_long_as_told():
    x = torch.rand(7, 2, 3)
    assert torch.equal(Once().run(x)[0], torch.cat([x[:1], torch.zeros(6, 2, 3)]))
    assert torch.equal(Delay(3).run(x)[0], torch.cat([torch.zeros(3, 2, 3), x[:4]]))


class Residual(nn.Module):
    """Ways of one, two and three activations that meet, with biases everywhere."""

    def __init__(self):
        super().__init__()
        self.one, self.two, self.three = (nn.Conv2d(a, 3, 3, padding=1) for a in (1, 3, 3))
        self.out = nn.Linear(3 * 64, 10)

    def forward(self, x):
        a = F.relu(self.one(x))
        b = F.relu(self.two(a))
        c = F.relu(self.three(b) + a)
        return self.out((c + a).flatten(1))


def ann(kind):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "residual":
            return Residual().double().eval()
        return sw.arch("4C3-P2-20-15-10", (1, 8, 8), spiking_output=False, normalize=((0.4,), (0.5,))).double().eval()


def few(model, bits, steps, x):
    method = Method(Largest(), form="spikes", neuron=few_spikes.spiking(bits), correct=(OneAfterAnother(),))
    return converted(model, Calibration.of(x, model), method, steps)


@pytest.mark.parametrize("kind", ["chain", "residual"])
def test_a_network_says_what_its_ann_says_as_exactly_as_its_bits(kind):
    model, x = ann(kind), torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(1), dtype=F64)
    wanted, errors = model(x), []
    for bits in (4, 8, 16):
        steps = bits * 4
        found = few(model, bits, steps, x)
        scores = found.snn.scores(x)[-1] * steps
        errors.append((scores - wanted).abs().max().item())
        chunked = found.snn.scores(x, chunk=3)[-1] * steps
        torch.testing.assert_close(chunked, scores, rtol=1e-9, atol=1e-9)
    assert errors[0] > 4 * errors[1] > 64 * errors[2] > 0
    assert errors[2] < 1e-3 * wanted.abs().max()
    longer = few(model, 16, 80, x).snn.scores(x)[-1] * 80  # more steps than needed change nothing
    torch.testing.assert_close(longer, scores, rtol=1e-6, atol=1e-6)


def test_too_few_steps_are_refused_with_the_number_needed():
    x = torch.rand(4, 1, 8, 8, dtype=F64)
    with pytest.raises(ConfigError, match="40") as caught:
        few(ann("chain"), 10, 39, x)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind, bits, low, high", [("silu", 16, -8, 12), ("sigmoid", 12, -10, 10)])
def test_a_fit_is_close_to_its_activation(kind, bits, low, high):
    neuron = fitted(kind, bits, iterations=60)
    x = torch.linspace(low, high, 4001)
    wrong = neuron.say(x) - Curve(kind)(x)
    assert wrong.square().mean() < 0.02 and wrong.abs().max() < 0.15
    assert fitted(kind, bits, iterations=60) is neuron
    out, _ = neuron.run(torch.cat([x[None], torch.zeros(2 * bits - 1, len(x))])[:, None])
    torch.testing.assert_close(out.sum((0, 1)), neuron.say(x))


def test_a_fit_gets_better_as_it_goes_on():
    x = torch.linspace(-8, 12, 4001)
    errors = [(fitted("silu", 12, iterations=n).say(x) - F.silu(x)).square().mean().item() for n in (1, 80)]
    assert errors[1] < 0.8 * errors[0]


def test_neurons_that_make_no_code_are_refused():
    for make in (lambda: FewSpikes((1.0,), (1.0, 0.5), (1.0,)), lambda: FewSpikes((), (), ()), lambda: Delay(0)):
        with pytest.raises(ConfigError, match="expected"):
            make()
    with pytest.raises(ConfigError, match="window"):
        FewSpikes(window=0)


def test_a_spike_that_is_a_number_costs_a_multiplication():
    data = sw.load("digits").limited(40, 0)
    model = ann("chain").float()
    snn = few(model, 8, 32, data.train.batch(torch.arange(40))).snn
    found = evaluate(snn, data.test.subset(torch.arange(20)))
    assert found.macs_per_image > 0 and found.spikes_per_image > 0
    assert found.macs_by_layer["conv1"] <= 64 * 9 * 4  # the image is read once, not at every step
