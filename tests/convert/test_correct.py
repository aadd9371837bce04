"""Calibration: what the corrections promise on the samples they see."""

from itertools import pairwise

import pytest
import torch
from networks import UserNet, images, made
from torch import nn

from spikewright.convert import (
    MMSE,
    BiasCalibration,
    Calibration,
    ChargeCalibration,
    Graph,
    Largest,
    Method,
    WeightCalibration,
    converted,
)
from spikewright.convert.correct import _lacking
from spikewright.encode import Direct
from spikewright.errors import ConfigError
from spikewright.neurons import Charge

T = 8


def run(net, x, *correct, estimate=None, shift=0.0):
    method = Method(estimate or MMSE(T), form="spikes", shift=shift, correct=correct)
    return converted(net, Calibration.of(x, net), method, T)


def lack(net, x, found, name, dims):
    body = found.snn.body
    graph = body if isinstance(body, Graph) else Graph(dict(body.named_children()), wiring(body))
    with torch.no_grad():
        return _lacking(found.ann, graph, name, Direct(), Calibration.of(x, net), T, 0).mean(dims)


def wiring(chain):
    return [(n, before) for before, n in pairwise(["input", *(n for n, _ in chain.named_children())])]


def test_light_calibration_makes_the_channels_means_right():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 5, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(320, 10)).eval()
    x = images(60)
    plain, light = run(net, x, estimate=Largest()), run(net, x, BiasCalibration(), estimate=Largest())
    before, after = (lack(net, x, found, "_1", (0, 2, 3)).abs().max() for found in (plain, light))
    assert before > 0.02 * plain.thresholds["_1"]
    assert after < 0.4 * before  # silent neurons do not answer to a bias, so one pass is not all


def test_advanced_calibration_starts_neurons_with_what_their_means_lack():
    net, x = made(UserNet), images(60)
    plain, charged = run(net, x), run(net, x, ChargeCalibration())
    charges = [m for m in charged.snn.body.modules() if isinstance(m, Charge)]
    assert len(charges) == len(plain.thresholds) and all(c.charge.abs().max() > 0 for c in charges)
    name = next(iter(plain.thresholds))
    assert lack(net, x, charged, name, 0).abs().mean() < 0.5 * lack(net, x, plain, name, 0).abs().mean()


@pytest.mark.parametrize("correct", [(BiasCalibration(),), (ChargeCalibration(),)], ids=["light", "advanced"])
def test_a_corrected_network_is_closer_to_its_ann(correct):
    net, x = made(UserNet), images(60)
    with torch.no_grad():
        errors = [(found.snn(x) - net(x)).abs().mean() for found in (run(net, x), run(net, x, *correct))]
    assert errors[1] < 0.8 * errors[0]


def test_weight_calibration_lowers_the_error_it_trains_on():
    net, x = made(UserNet), images(60)
    with torch.no_grad():
        plain = run(net, x)
        trained = run(net, x, WeightCalibration(60, lr=1e-3))
        again = run(net, x, WeightCalibration(60, lr=1e-3))
        errors = [(found.snn(x) - net(x)).square().mean() for found in (plain, trained)]
    assert errors[1] < 0.8 * errors[0]
    assert torch.equal(trained.snn(x), again.snn(x))
    assert not torch.equal(plain.snn.body.get_submodule("stem").weight, trained.snn.body.get_submodule("stem").weight)


def test_corrections_need_the_form_they_work_on():
    with pytest.raises(ConfigError, match="'spikes'"):
        Method(correct=(BiasCalibration(),), form="weights")
    with pytest.raises(ConfigError, match="iterations is 0"):
        WeightCalibration(0)
