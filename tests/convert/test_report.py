"""The report: figures against brute force, the knee, the layer that loses, the warning."""

import json
import warnings

import pytest
import torch
from networks import Mlp, UserNet, images, made
from rich.console import Console

import spikewright as sw
from spikewright.conversion import ConversionWarning
from spikewright.convert import Calibration, Given, Largest, Method, converted, examined
from spikewright.convert.report import knee
from spikewright.report import conversion_table

T = 50


def test_its_figures_are_those_of_a_run_by_hand():
    net, x = made(Mlp), images(40, (1, 4, 4))
    labels = net(x).argmax(1)
    labels[:4] = (labels[:4] + 1) % 10
    found = converted(net, Calibration.of((x, labels), net), Method(Largest()), T)
    report = examined(found, Calibration.of((x, labels), net, batch=13), T)
    assert report.samples == 40 and report.ann_accuracy == pytest.approx(0.9) and len(report.accuracy_by_step) == T
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    scores = found.snn.scores(x[order])
    right = (scores[-1].argmax(1) == labels[order]).double().mean().item()
    assert report.accuracy == pytest.approx(right) and right > 0
    first = report.layers[0]
    a = net.layers[0](x.flatten(1)).relu()
    neuron = found.snn.body.get_submodule("relu")
    current = found.snn.body.get_submodule("layers_0")(x.flatten(1))
    out, (v,) = neuron.run(current.expand(T, *current.shape))
    assert first.rate == pytest.approx(out.mean().item(), rel=1e-5)
    wanted = (out.mean(0) * found.scale["relu"] - a).norm() / a.norm()
    assert first.error == pytest.approx(wanted.item(), rel=1e-4)
    assert first.residual == pytest.approx(v.abs()[a > 0].mean().item(), rel=1e-4)
    assert first.clipped == 0


def test_the_layer_with_a_threshold_too_low_is_the_one_that_loses():
    net, x = made(Mlp, 3), images(200, (1, 4, 4))
    labels = net(x).argmax(1)
    data = Calibration.of((x, labels), net)
    thetas = converted(net, data, Method(Largest()), 4).thresholds
    thetas["relu_1"] *= 0.02
    found = converted(net, data, Method(Given(thetas)), 200)
    report = examined(found, data, 200)
    assert report.ann_accuracy == 1 and report.lost > 0.05
    assert report.culprit.name == "relu_1" and report.layers[1].clipped > 0.1 > report.layers[0].clipped
    assert "'relu_1'" in report.warning and "raise the threshold" in report.warning and "\n" not in report.warning
    assert report.layers[1].lost > report.layers[0].lost


def test_a_conversion_that_loses_much_warns_and_one_that_does_not_is_quiet():
    net, x = made(UserNet), images(60)
    with pytest.warns(ConversionWarning, match="points"):
        sw.convert(net, calibrate_on=x, steps=2)
    labels = net(x).argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        snn, report = sw.conversion(net, calibrate_on=(x, labels), steps=400, v_init=0.5)
    assert report.lost <= 0.05 and snn.steps == 400


def test_silent_neurons_are_those_that_should_have_fired():
    net, x = made(Mlp), images(40, (1, 4, 4))
    data = Calibration.of(x, net)
    thetas = {n: 1000 * t for n, t in converted(net, data, Method(Largest()), 4).thresholds.items()}
    report = examined(converted(net, data, Method(Given(thetas)), 20), data, 20)
    assert [layer.silent for layer in report.layers] == [1.0, 1.0] and report.layers[0].rate == 0


def test_the_knee_is_where_a_curve_bends():
    assert knee([0.1, 0.1, 0.1, 0.9, 0.9, 0.9, 0.9, 0.9]) == 4
    assert knee([0.5]) == 1 and knee([0.5, 0.6]) == 2
    rising = [min(0.1 * t, 0.9) for t in range(1, 101)]
    assert knee(rising) == 9


def test_it_goes_to_json_and_to_a_table():
    net, x = made(UserNet), images(30)
    for given in (x, (x, net(x).argmax(1))):
        data = Calibration.of(given, net)
        report = examined(converted(net, data, Method(), T), data, T)
        plain = json.loads(json.dumps(report.to_json(), allow_nan=False))
        assert plain["loses_most"] in {layer["name"] for layer in plain["layers"]}
        assert any("folded bn into stem" in line for line in plain["passes"])
        console = Console(width=150, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
        console.print(conversion_table(plain))
        text = console.export_text()
        assert "knee at T" in text and all(name[:6] in text for name in (layer.name for layer in report.layers))
