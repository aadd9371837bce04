"""Evaluation: the same figures for any batches and chunks, ties wrong, everything counted."""

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from spikewright.clock import Temporal
from spikewright.encode import Bernoulli, Direct
from spikewright.errors import ConfigError, DataError
from spikewright.measure import evaluate, firing_rates, silent_layers, watching
from spikewright.neurons import IF, LIF, Euler, Synapse, TSSLNeuron
from spikewright.snn import SNN


class Samples:
    """A split in memory."""

    def __init__(self, x: Tensor, labels: Tensor) -> None:
        self.x, self.labels, self.shape = x, labels, tuple(x.shape[1:])

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, indices: Tensor) -> Tensor:
        return self.x[indices]


def samples(n: int = 23, shape: tuple[int, ...] = (1, 6, 6), classes: int = 3) -> Samples:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 17, (n, *shape), generator=generator) / 16
    return Samples(x, torch.randint(0, classes, (n,), generator=generator))


def network(neuron: type[nn.Module] = LIF, steps: int = 6, **kwargs: object) -> SNN:
    """Small, with weights on a grid of 1/8, so that float32 sums are exact in any order of addition."""
    torch.manual_seed(1)
    body = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), neuron(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(36, 12), neuron(),
        nn.Linear(12, 3, bias=False),
    )  # fmt: skip
    with torch.no_grad():
        for p in body.parameters():
            p.copy_((p * 32).round() / 8 + 1 / 8)
    return SNN(body, steps, **kwargs)


def figures(snn: SNN, split: Samples, **kwargs: object) -> dict[str, object]:
    """All of an evaluation but what a clock or the machine decides."""
    plain = evaluate(snn, split, **kwargs).to_json()
    return {k: v for k, v in plain.items() if k not in ("infer_images_per_second", "peak_memory_mb")}


@pytest.mark.parametrize("encode", [Direct(), Bernoulli(0.7)])
def test_the_same_for_any_batch_size(encode: object) -> None:
    snn = network(encode=encode)
    split = samples()
    whole = figures(snn, split, batch=23)
    for batch in (1, 5, 22, 100):
        assert figures(snn, split, batch=batch) == whole
    assert 0 < whole["rates"]["1"] < 1 and 0 < whole["rates"]["5"] < 1
    assert whole["synops_per_image"] > 100
    assert (whole["macs_per_image"] > 0) == isinstance(encode, Direct)


@pytest.mark.parametrize("neuron", [LIF, TSSLNeuron])
def test_130_steps_in_chunks_equal_one_block(neuron: type[nn.Module]) -> None:
    snn = network(neuron, steps=130, encode=Bernoulli(0.5)).double()
    split = samples(7)
    by_default = figures(snn, split)
    assert by_default == figures(snn, split, chunk=130) == figures(snn, split, chunk=7)
    assert by_default["spikes_per_image"] > 10
    assert len(by_default["accuracy_by_step"]) == 130
    assert by_default["accuracy_by_step"][-1] == by_default["accuracy"]


def test_another_seed_is_another_noise() -> None:
    snn = network(encode=Bernoulli(0.5))
    assert figures(snn, samples(), seed=1) != figures(snn, samples(), seed=2)


def test_fewer_steps_are_the_beginning_of_more() -> None:
    snn, split = network(), samples()
    assert evaluate(snn, split, steps=3).accuracy_by_step == evaluate(snn, split).accuracy_by_step[:3]


def test_ties_are_wrong() -> None:
    body = nn.Linear(3, 3, bias=False)
    nn.init.eye_(body.weight)
    x = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 1, 1], [0, 0, 0], [0, 0, 1]])
    result = evaluate(SNN(body, 2), Samples(x, torch.tensor([0, 0, 0, 1, 1])))
    assert result.accuracy == 0.2  # the first; then a tie with the truth, one without, silence, plainly wrong
    assert result.ties == 3
    assert result.accuracy_ties_right == 0.4  # the first two: silence is no answer
    assert "3 ties counted as wrong, 40.00 % were they right" in str(result)
    assert evaluate(SNN(body, 2), Samples(x, torch.tensor([0, 0, 0, 1, 1])), counted=2).accuracy_ties_right == 0.4


def test_hand_count_of_a_small_network() -> None:
    """One neuron that fires at steps 2, 4 (input 0.5 into a threshold of 1), two outputs, T = 5."""
    body = nn.Sequential(nn.Linear(1, 1), IF(), nn.Linear(1, 2, bias=False))
    with torch.no_grad():
        body[0].weight.fill_(1.0)
        body[0].bias.fill_(0.0)
    split = Samples(torch.tensor([[0.5], [0.25], [0.1]]), torch.zeros(3, dtype=torch.long))
    result = evaluate(SNN(body, 5), split, batch=2)
    assert result.spikes_per_image == 1  # 2, 1 and 0
    assert result.rates == {"1": 3 / 15}
    assert result.synops_by_layer["2"] == 2
    assert result.neuron_updates_per_image == 5
    assert (result.ann_macs_per_image, result.dense_synops_per_image, result.bias_acs_per_image) == (3, 15, 5)
    assert result.params == 4


def test_costs_are_priced_by_the_table() -> None:
    snn, split = network(), samples()
    result = evaluate(snn, split, table="45nm-int8")
    expected = result.macs_per_image * 0.23 + (result.synops_per_image + result.bias_acs_per_image) * 0.03
    assert result.energy_nj_per_image == pytest.approx(expected / 1000)
    assert result.energy_table == "45nm-int8"
    assert result.macs_per_image > 0 and result.synops_per_image > 0


def test_currents_are_counted_by_the_spikes_behind_them() -> None:
    """TSSL hands on currents: the spikes recovered, over chunks, are those of the same neuron with plain spikes."""
    tssl = TSSLNeuron(tau_m=4.0, tau_s=3.0)
    current = torch.rand(9, 2, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    v, spikes = torch.zeros(2, 5, dtype=torch.float64), []
    for i in current:
        u = v + (i - v / 4.0)
        spikes.append((u > 1).double())
        v = u * (1 - spikes[-1])
    first, state = tssl.run(current[:4])
    second, _ = tssl.run(current[4:], state)
    found = torch.cat([tssl.spikes_in(first), tssl.spikes_in(second, state)])
    assert 0 < found.mean() < 1
    assert torch.equal(found, torch.stack(spikes))
    snn = SNN(nn.Sequential(tssl, nn.Linear(5, 2).double()), 9, Direct())
    with watching(snn) as counts:
        snn.scores(current[0], chunk=4)
    with watching(snn) as whole:
        snn.scores(current[0])
    assert counts == whole and counts["0"].spikes > 0


def test_a_filter_is_no_neuron() -> None:
    snn = SNN(nn.Sequential(LIF(), Synapse(Euler(3.0)), nn.Linear(4, 2)), 20)
    result = evaluate(snn, Samples(torch.full((3, 4), 5.0), torch.zeros(3, dtype=torch.long)))
    assert result.rates == {"0": 1.0}
    assert result.synops_per_image == 0 and result.macs_per_image == 20 * 8


def test_silent_layers_are_named() -> None:
    snn = SNN(nn.Sequential(LIF(), nn.Linear(4, 3), LIF(v_th=1e6)), 4)
    rates = firing_rates(snn, torch.full((2, 4), 3.0))
    assert rates == {"0": 1.0, "2": 0.0}
    assert silent_layers(rates) == ["2"]
    result = evaluate(snn, Samples(torch.full((2, 4), 3.0), torch.zeros(2, dtype=torch.long)))
    assert result.silent == ["2"]
    assert any(line.split() == ["silent", "2"] for line in str(result).splitlines())


def test_the_network_is_left_as_it_was() -> None:
    snn = network()
    snn.train()
    snn.body[1].eval()
    was = {name: module.training for name, module in snn.named_modules()}
    seen: list[int] = []
    evaluate(snn, samples(), batch=10, progress=lambda done, total: seen.append(done) or None)
    assert {name: module.training for name, module in snn.named_modules()} == was
    assert seen == [10, 20, 23]
    for module in snn.modules():
        assert not module._forward_hooks and not module._forward_pre_hooks


def test_everything_is_json() -> None:
    result = evaluate(network(), samples())
    again = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert again == result.to_json()
    assert result.infer_images_per_second > 0 and result.peak_memory_mb > 10
    assert "By 45nm the SNN costs" in str(result)
    assert str(replace(result, peak_memory_mb=None)).count("peak memory  -") == 1


def test_an_ann_is_an_snn_of_one_step() -> None:
    body = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))
    x = torch.rand(9, 4)
    result = evaluate(SNN(body, 1), Samples(x, torch.zeros(9, dtype=torch.long)))
    active = (body[0](x) > 0).sum().item() / 9
    assert result.rates == {} and result.spikes_per_image == 0
    assert result.macs_per_image == pytest.approx(24 + active * 3)
    assert result.ann_macs_per_image == 24 + 18


def test_lazy_layers_get_their_sizes() -> None:
    snn = SNN(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)), 2)
    assert evaluate(snn, samples()).params == 36 * 3 + 3


def test_temporal_modules_say_what_their_spikes_are() -> None:
    class Filter(Temporal):
        pass

    out = torch.ones(2, 1, 3)
    assert Filter().spikes_in(out) is None
    assert LIF().spikes_in(out) is out


def test_errors_are_one_line() -> None:
    snn = network()
    for call, error, text in (
        (lambda: evaluate(snn, samples(0)), DataError, "empty"),
        (lambda: evaluate(snn, samples(classes=9)), DataError, "3 classes"),
        (lambda: evaluate(snn, samples(), batch=0), ConfigError, "batch is 0"),
        (lambda: evaluate(snn, samples(), table="1nm"), ConfigError, "45nm"),
        (lambda: evaluate(snn, samples(), steps=0), ConfigError, "steps is 0"),
    ):
        with pytest.raises(error, match=text) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_memory_does_not_grow_with_steps() -> None:
    blocks: list[int] = []
    snn = SNN(nn.Sequential(nn.Linear(2, 2), LIF()), 150)
    snn.body[1].register_forward_hook(lambda module, args, out: blocks.append(len(out)))
    split = Samples(torch.ones(1, 2), torch.zeros(1, dtype=torch.long))
    evaluate(snn, split)
    assert blocks[:3] == [64, 64, 22]
    blocks.clear()
    evaluate(snn, split, chunk=100)
    assert max(blocks) == 100
