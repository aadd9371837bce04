"""Operations against a loop over every synapse, hand counts, and NeuroBench."""

import itertools
import math

import pytest
import torch
from torch import nn

from spikewright.measure import counting


def brute_force(layer: nn.Module, x: torch.Tensor) -> dict[str, float]:
    """Units times synapses, nonzero inputs times synapses, and all synapses: one synapse at a time."""
    found = {"units": 0.0, "nonzero": 0, "dense": 0}

    def synapse(value: float) -> None:
        found["units"] += abs(value)
        found["nonzero"] += value != 0
        found["dense"] += 1

    if isinstance(layer, nn.Linear):
        for value in x.flatten().tolist():
            for _ in range(layer.out_features):
                synapse(value)
        return found
    out = layer(x)
    per_group_in, per_group_out = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    padding = layer.padding if isinstance(layer.padding, tuple) else None
    if padding is None:  # "same": what torch puts in front
        padding = tuple(d * (k - 1) // 2 for d, k in zip(layer.dilation, layer.kernel_size, strict=True))
    size = x.shape[2:]
    for n, o in itertools.product(range(len(x)), range(layer.out_channels)):
        for at in itertools.product(*map(range, out.shape[2:])):
            for c, tap in itertools.product(range(per_group_in), itertools.product(*map(range, layer.kernel_size))):
                here = [
                    a * s - p + t * d
                    for a, s, p, t, d in zip(at, layer.stride, padding, tap, layer.dilation, strict=True)
                ]
                if layer.padding_mode == "circular":
                    here = [h % e for h, e in zip(here, size, strict=True)]
                if all(0 <= h < e for h, e in zip(here, size, strict=True)):
                    synapse(x[(n, o // per_group_out * per_group_in + c, *here)].item())
    return found


LAYERS = {
    "plain": (nn.Conv2d(2, 3, 3), (2, 5, 6)),
    "padding": (nn.Conv2d(2, 3, 3, padding=1), (2, 5, 4)),
    "more padding than kernel": (nn.Conv2d(1, 2, 2, padding=3), (1, 3, 3)),
    "stride": (nn.Conv2d(2, 3, 3, stride=2, padding=(0, 1)), (2, 6, 7)),
    "stride past inputs": (nn.Conv2d(1, 2, 2, stride=3), (1, 7, 7)),
    "dilation": (nn.Conv2d(2, 2, 3, dilation=2, padding=1), (2, 7, 6)),
    "groups": (nn.Conv2d(4, 6, 3, groups=2, padding=1), (4, 4, 4)),
    "depthwise": (nn.Conv2d(3, 6, 3, groups=3, bias=False), (3, 4, 5)),
    "same": (nn.Conv2d(1, 2, 3, dilation=2, padding="same"), (1, 5, 5)),
    "circular": (nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"), (1, 4, 4)),
    "1d": (nn.Conv1d(2, 3, 3, stride=2, padding=1), (2, 9)),
    "linear": (nn.Linear(7, 4), (7,)),
    "linear of sequences": (nn.Linear(5, 3, bias=False), (2, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_spikes_are_accumulates_over_every_synapse(name: str) -> None:
    layer, shape = LAYERS[name]
    x = torch.bernoulli(torch.full((3, *shape), 0.4), generator=torch.Generator().manual_seed(1))
    with counting(nn.Sequential(layer)) as counts:
        out = layer(x)
    expected = brute_force(layer, x)
    assert 0 < expected["units"] < expected["dense"]
    assert (counts.acs, counts.macs, counts.dense) == (expected["units"], 0, expected["dense"])
    assert counts.bias_acs == (0 if layer.bias is None else out.numel())


@pytest.mark.parametrize("name", LAYERS)
def test_analog_values_are_multiply_accumulates_of_the_nonzero_ones(name: str) -> None:
    layer, shape = LAYERS[name]
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(3, *shape, generator=generator).relu()
    with counting(nn.Sequential(layer)) as counts:
        layer(x)
    expected = brute_force(layer, x)
    assert 0 < expected["nonzero"] < expected["dense"]
    assert (counts.acs, counts.macs) == (0, expected["nonzero"])


def test_a_convolution_by_hand() -> None:
    layer = nn.Conv2d(1, 2, 3, padding=1, bias=False)
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 0, 0] = 1  # a corner reaches 2 x 2 of the outputs
    x[0, 0, 1, 2] = 1  # the middle reaches 3 x 3
    with counting(layer) as counts:
        layer(x)
    assert counts.acs == 2 * (4 + 9)


@pytest.mark.parametrize("k", [2, 3])
def test_every_spike_behind_an_average_pool_is_an_event(k: int) -> None:
    spikes = torch.bernoulli(torch.full((5, 2, 6, 6), 0.3), generator=torch.Generator().manual_seed(3))
    pool, layer = nn.AvgPool2d(k), nn.Linear(2 * (6 // k) ** 2, 7)
    with counting(nn.Sequential(pool, nn.Flatten(), layer)) as counts:
        layer(pool(spikes).flatten(1))
    assert spikes.sum() > 10
    assert (counts.acs, counts.macs) == (7 * spikes.sum(), 0)
    assert counts.layers["2"].quantum == pytest.approx(1 / k**2)


@pytest.mark.parametrize(
    ("values", "acs", "macs"),
    [
        ([1, -1, 0, 1], 3, 0),  # signed
        ([3, 1, 0, 9], 13, 0),  # counts
        ([0.7, -0.7, 0, 1.4], 4, 0),  # spikes as high as a threshold
        ([0.5, 0.75, 0, 0], 5, 0),  # a quantum that no input shows
        ([2, 3, 0, 0], 5, 0),
        ([10, 1, 0, 0], 0, 2),  # more than nine units are a number
        ([0.31, 0.77, 0, 0.42], 0, 3),
        ([0, 0, 0, 0], 0, 0),
    ],
)
def test_the_rule(values: list[float], acs: int, macs: int) -> None:
    layer = nn.Linear(4, 1)
    with counting(layer) as counts:
        layer(torch.tensor([values], dtype=torch.float32))
    assert (counts.acs, counts.macs) == (acs, macs)


def test_one_decision_for_a_layer_whatever_the_order_of_the_batches() -> None:
    spikes, analog = torch.tensor([[1.0, 0, 1]]), torch.rand(50, 3) + 0.1
    for batches in ([spikes, analog], [analog, spikes], [torch.cat([spikes, analog])]):
        layer = nn.Linear(3, 2)
        with counting(layer) as counts:
            for x in batches:
                layer(x)
        assert (counts.acs, counts.macs) == (0, 2 * (2 + 150))
    pooled = torch.tensor([[0.5, 0.5, 0], [0.25, 1, 0.75]])
    for batches in (pooled.split(1), pooled.flip(0).split(1), [pooled]):
        with counting(layer) as counts:
            for x in batches:
                layer(x)
        assert counts.acs == 2 * 12


def test_half_precision_thirds_are_still_events() -> None:
    layer = nn.Linear(9, 2).bfloat16()
    x = (torch.arange(1, 10) / 9).bfloat16()[None]
    with counting(layer) as counts:
        layer(x)
    assert counts.acs == 2 * 45


def test_a_layer_used_twice_counts_twice_and_no_hook_stays() -> None:
    layer = nn.Linear(3, 3)
    with counting(layer) as counts:
        layer(torch.ones(1, 3))
        layer(input=torch.ones(1, 3))
    layer(torch.ones(1, 3))
    assert counts.acs == 18
    assert not layer._forward_hooks and not layer._forward_pre_hooks


def test_counting_draws_no_random_numbers_and_names_what_it_cannot_count() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ConvTranspose2d(2, 1, 3)).eval()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    with counting(net) as counts, torch.no_grad():
        net(torch.ones(1, 1, 5, 5))
    assert torch.equal(before, torch.get_rng_state())
    assert counts.uncounted == ["2"]


@pytest.mark.filterwarnings("ignore")
def test_neurobench_counts_the_same() -> None:
    """NeuroBench's conventions: biases apart (not counted at all), padding is no input, zero weights are no synapses.

    The first two are ours; the third is the same here because no weight is zero. It decides between AC and MAC for each
    call by whether all inputs are 0, 1 or -1, so pooled spikes would be MACs there; this network has none.
    """
    metrics = pytest.importorskip("neurobench.metrics.workload")
    models = pytest.importorskip("neurobench.models")

    class Fire(nn.ReLU):  # what it knows as an activation
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x > 0).to(x.dtype)

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, stride=2), Fire(), nn.Conv2d(4, 6, 3, padding=1, groups=2), Fire(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 4, 10), Fire(), nn.Linear(10, 3),
    )  # fmt: skip
    x = torch.rand(6, 1, 8, 8)
    theirs = metrics.SynapticOperations()
    model = models.TorchModel(net)
    model.register_hooks()
    with torch.no_grad():
        predictions = model(x)
        figures = theirs(model, predictions, (x, torch.zeros(6)))
    model.cleanup_hooks()
    with counting(net) as counts, torch.no_grad():
        net(x)
    assert counts.acs > 1000
    assert counts.acs / 6 == pytest.approx(figures["Effective_ACs"])
    assert counts.macs / 6 == pytest.approx(figures["Effective_MACs"])
    assert counts.dense / 6 == pytest.approx(figures["Dense"])


def test_per_image() -> None:
    layer = nn.Linear(4, 5)
    with counting(layer) as counts:
        layer(torch.ones(2 * 3, 4))  # two samples of three steps
    per_image = counts.operations(images=2, steps=3, neuron_updates=60)
    assert per_image.acs == per_image.dense == per_image.event_dense == 3 * 20
    assert (per_image.ann_macs, per_image.ann_bias_acs, per_image.bias_acs) == (20, 5, 15)
    assert per_image.neuron_updates == 30
    assert math.isclose(per_image.macs, 0)
