"""Estimators of thresholds against brute force and closed forms."""

import numpy as np
import pytest
import torch
from networks import Dense, Mlp, UserNet, images, made
from torch import nn

from spikewright.convert import (
    MMSE,
    Calibration,
    Clip,
    Largest,
    Method,
    ModelBased,
    Percentile,
    RateNorm,
    SpikeFed,
    Spiking,
    Trained,
    converted,
)
from spikewright.convert.calibration import blocks
from spikewright.convert.estimate import scaled
from spikewright.encode import Bernoulli
from spikewright.errors import ConfigError
from spikewright.measure import firing_rates


def thresholds(net, x, estimate, batch=7, **how):
    return converted(net, Calibration.of(x, net, len(x), batch), Method(estimate, **how), 4).thresholds


@pytest.mark.parametrize("p, nonzero", [(50, True), (90, True), (90, False), (99, True), (99.9, False), (100, True)])
def test_a_percentile_is_that_of_all_values(p, nonzero):
    net, x = made(UserNet), images(40)
    found = thresholds(net, x, Percentile(p, nonzero))
    ann = converted(net, Calibration.of(x, net), Method(), 1).ann
    values = ann.values(x, found)
    for name, theta in found.items():
        a = values[name].detach().flatten().numpy()
        wanted = np.percentile(a[a > 0] if nonzero else a, p, method="inverted_cdf")
        assert theta == pytest.approx(float(wanted), rel=1e-6), name


def test_zeros_make_a_percentile_smaller_and_batches_change_nothing():
    net, x = made(UserNet), images(40)
    dense, sparse = thresholds(net, x, Percentile(90)), thresholds(net, x, Percentile(90, nonzero=False))
    assert all(sparse[n] < dense[n] for n in dense)
    again = thresholds(net, x, Percentile(90), batch=40)
    assert all(again[n] == pytest.approx(dense[n], rel=1e-6) for n in dense)


def test_the_largest_activation_or_weight():
    net, x = made(Mlp, bias=False), images(30, (1, 4, 4))
    plain, heavy = thresholds(net, x, Largest()), thresholds(net, 1e-3 * x, Largest(weights=True))
    a = net.layers[0](x.flatten(1)).relu().max().item()
    assert plain["relu"] == pytest.approx(a, rel=1e-6)
    for i, name in enumerate(heavy):  # where the largest weight dominates small activations
        assert heavy[name] == pytest.approx(net.layers[i].weight.max().item())


def test_diehls_factors_multiply_up_to_the_layers_scale():
    net, x = made(Mlp, widths=(16, 20, 20, 20, 10), bias=False), images(30, (1, 4, 4))
    found = converted(net, Calibration.of(x, net), Method(Largest(weights=True), form="weights"), 4)
    total = 1.0
    for i, (name, theta) in enumerate(found.thresholds.items()):
        before = net.layers[i].weight
        total *= float((before / found.snn.body.get_submodule(f"layers_{i}").weight).median().detach())
        assert total == pytest.approx(theta, rel=1e-4), name


def test_after_model_based_balancing_no_input_can_ask_for_two_spikes():
    for seed in range(4):
        net = made(Mlp, seed, bias=seed % 2 == 0)
        found = converted(net, Calibration.of(images(4, (1, 4, 4)), net), Method(ModelBased(), form="weights"), 4)
        largest = 0.0
        for layer in [m for m in found.snn.body.modules() if isinstance(m, nn.Linear)][:-1]:
            ones = (layer.weight > 0).float()  # the worst binary input of each neuron
            drive = (ones * layer.weight).sum(1) + (0 if layer.bias is None else layer.bias)
            assert drive.max() <= 1 + 1e-5
            largest = max(largest, drive.max().item())
        assert largest > 0.5  # and the bound is met


def test_a_spike_fed_threshold_is_the_largest_current_of_the_spiking_network():
    net, x = made(Mlp, bias=False), images(25, (1, 4, 4))
    method = Method(SpikeFed(30), form="thresholds", encode=Bernoulli(), bias="none")
    found = converted(net, Calibration.of(x, net), method, 30)
    body, seen = found.snn.body, {}
    neurons = dict(zip(found.thresholds, ("layers_0", "layers_1"), strict=True))
    for name, layer in neurons.items():
        body.get_submodule(layer).register_forward_hook(
            lambda m, a, out, n=name: seen.update({n: max(seen.get(n, 0.0), out.max().item())})
        )
    for _ in blocks(body, Bernoulli(), x, 30):
        pass
    for name in neurons:
        assert body.get_submodule(name).v_th == pytest.approx(seen[name], rel=1e-5)
    spikes = Bernoulli().run(x, 0, 30, 30)
    direct = (spikes.flatten(2) @ net.layers[0].weight.T).max().item()
    assert found.thresholds["relu"] == pytest.approx(direct, rel=1e-5)


def test_longer_and_larger_searches_only_raise_a_spike_fed_threshold_of_the_first_layer():
    net, x = made(Mlp, bias=False), images(25, (1, 4, 4))

    def first(steps, count):
        return thresholds(net, x[:count], SpikeFed(steps), encode=Bernoulli(), batch=100)["relu"]

    assert first(20, 10) <= first(60, 10) < first(200, 25) and first(20, 10) <= first(20, 25) <= first(200, 25)
    low = thresholds(net, x, SpikeFed(20, 90.0), encode=Bernoulli())
    assert low["relu"] < first(20, 25)


def test_smaller_factors_raise_every_rate():
    net, x = made(Mlp, bias=False), images(25, (1, 4, 4))
    rates = []
    for k in (1.0, 0.3):
        method = Method(SpikeFed(30), k=k, form="thresholds", encode=Bernoulli())
        rates.append(firing_rates(converted(net, Calibration.of(x, net), method, 50).snn, x))
    assert all(rates[1][n] > rates[0][n] > 0 for n in rates[0])


def test_a_factor_counts_once_a_layer():
    ann = converted(made(UserNet), Calibration.of(images(9), made(UserNet)), Method(), 1).ann
    found = scaled(ann, dict.fromkeys(ann.of(nn.ReLU), 1.0), 0.5)
    assert list(found.values()) == [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625]


def test_mmse_is_the_best_of_its_grid():
    net, x = made(Mlp), images(30, (1, 4, 4))
    found, top = thresholds(net, x, MMSE(8)), thresholds(net, x, Largest())
    a = net.layers[0](x.flatten(1)).relu()

    def error(theta):
        return (a - theta / 8 * (a * 8 / theta).floor().clamp(0, 8)).square().mean().item()

    grid = [top["relu"] * (1 - i / 100) for i in range(95)]
    assert found["relu"] == pytest.approx(min(grid, key=error), rel=1e-5)
    assert all(found[n] <= top[n] for n in top) and found["relu"] < top["relu"]


def test_trained_thresholds_are_taken_as_they_are():
    norm = RateNorm(q=1.0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), Clip(0.7), nn.Linear(8, 8), norm, nn.Linear(8, 3)).eval()
    x = images(200, (1, 4, 4)) * 3
    for form in ("weights", "spikes", "thresholds"):
        found = converted(net, Calibration.of(x, net), Method(Largest(), form=form), 400)
        assert list(found.thresholds.values()) == [pytest.approx(0.7), pytest.approx(norm.threshold)]
        with torch.no_grad():
            torch.testing.assert_close(found.snn(x), net(x), atol=0.03, rtol=0)  # the last spikes are of size 1
    rates = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), norm, nn.Linear(8, 3)).eval()
    assert list(thresholds(rates, x, Trained()).values()) == [pytest.approx(norm.threshold)]
    with pytest.raises(ConfigError, match="no trained threshold"):
        thresholds(made(Dense), images(4), Trained())


def test_a_rate_norm_learns_its_bound_only_while_training_and_unlocked():
    layer = RateNorm(momentum=0.5)
    layer(torch.tensor([[4.0, -1.0]]))
    layer(torch.tensor([[2.0, -1.0]]))
    assert layer.largest == 3.0 and layer.threshold == pytest.approx(3 / (1 + np.exp(-10)), rel=1e-5)
    out = layer.eval()(torch.tensor([[6.0, 1.5, -2.0]]))
    torch.testing.assert_close(out, torch.tensor([[1.0, 1.5 / layer.threshold, 0.0]]))
    assert layer.largest == 3.0
    layer.train().locked = True
    layer(torch.tensor([[40.0]]))
    assert layer.largest == 3.0
    layer(torch.tensor([[1.0]])).sum().backward()
    assert layer.logit.grad.abs() > 0


def test_a_layer_that_is_never_active_is_named():
    net = made(Mlp)
    with torch.no_grad():
        net.layers[1].bias -= 100
    with pytest.raises(ConfigError, match=r"threshold of 'relu_1' is 0.*more samples"):
        thresholds(net, images(5, (1, 4, 4)), Percentile())


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: Percentile(0), "p is 0"),
        (lambda: Percentile(101), "p is 101"),
        (lambda: SpikeFed(0), "steps is 0"),
        (lambda: SpikeFed(5, 0), "percentile is 0"),
        (lambda: Method(k=0), "k is 0"),
        (lambda: Method(shift=float("nan")), "shift is nan"),
        (lambda: Clip(0), "limit is 0"),
        (lambda: RateNorm(0), "momentum is 0"),
        (lambda: Spiking(leak=1.5)(1.0, 1.0, nn.ReLU()), "k is 1.5"),
    ],
)
def test_bad_choices_are_refused(make, said):
    with pytest.raises(ConfigError, match=said):
        make()
