"""`sw.convert` and the command `convert`: a stranger's model in, an SNN, its report and clean errors out."""

from __future__ import annotations

import copy
import json
import warnings
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import spikewright as sw
from spikewright import cli, recipes
from spikewright.conversion import ConversionWarning, methods
from spikewright.convert import Method, Percentile
from spikewright.errors import ConfigError, DataError
from spikewright.measure import evaluation

MODEL = """
import torch
from torch import nn
from torch.nn import functional as F
from helper import WIDTH

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, WIDTH, 3, padding=1)
        self.bn = nn.BatchNorm2d(WIDTH)
        self.fc = nn.Linear(WIDTH * 16, 10)

    def forward(self, x):
        return self.fc(F.max_pool2d(F.relu(self.bn(self.conv(x))), 2).flatten(1))

def make():
    torch.manual_seed(3)
    return Net()

def odd():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.GELU(), nn.Linear(10, 10))

def number():
    return 3

def broken():
    raise ValueError("no luck")
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluation, "TIMED_SECONDS", 0.0)
    Path("net.py").write_text(MODEL)
    Path("helper.py").write_text("WIDTH = 8\n")


def trained() -> nn.Sequential:
    """A small network trained on digits for a moment, a copy for each test."""
    return copy.deepcopy(_trained())


@cache
def _trained() -> nn.Sequential:
    data = sw.load("digits")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 60), nn.ReLU(), nn.Linear(60, 30), nn.ReLU(), nn.Linear(30, 10))
        ann = sw.SNN(net, 1)
        sw.fit(ann, data, epochs=6, batch=32, optimizer=sw.optim.AdamW(5e-3), progress=False)
    return net.eval()


@pytest.mark.parametrize("name", ["rueckauer", "rmp", "sengupta", "scaled-threshold", "calibration", "deng-gu"])
def test_every_way_of_converting_keeps_the_accuracy(name: str) -> None:
    data, net = sw.load("digits"), trained()
    if name in ("rmp", "sengupta", "scaled-threshold"):
        for layer in net:
            if isinstance(layer, nn.Linear):
                layer.bias = None
    x, y = data.test.batch(torch.arange(len(data.test))), data.test.labels
    ann = (net(x).argmax(1) == y).double().mean()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConversionWarning)
        snn = sw.convert(net, calibrate_on=data, method=name, steps=100, samples=200)
    found = sw.evaluate(snn, data.test)
    assert isinstance(snn, sw.SNN) and snn.steps == 100 and not snn.training
    assert found.accuracy > ann - 0.05 and found.accuracy_by_step[0] < found.accuracy
    assert all(0 < rate < 1 for rate in found.rates.values())
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


def test_a_long_run_is_judged_at_every_step_in_blocks_and_its_costs_on_part_of_it() -> None:
    data = sw.load("digits")
    snn = sw.convert(trained(), calibrate_on=data, steps=300)
    split = data.test.subset(torch.arange(60))
    told: list[tuple[int, int]] = []
    found = sw.evaluate(snn, split, batch=20, counted=20, progress=lambda *at: told.append(at))
    whole = sw.evaluate(snn, split, batch=60, chunk=300)
    assert len(found.accuracy_by_step) == 300 and found.accuracy_by_step == whole.accuracy_by_step
    assert told == [(20, 60), (40, 60), (60, 60)] and (found.counted, whole.counted) == (20, 60)
    first = sw.evaluate(snn, data.test.subset(torch.arange(20)))
    assert found.synops_per_image == pytest.approx(first.synops_per_image) and found.synops_per_image > 0


def test_calibration_data_in_every_form() -> None:
    data, net = sw.load("digits"), trained()
    x = data.train.batch(torch.arange(100))
    y = data.train.labels[:100]
    for given in (data.train.subset(torch.arange(100)), x, (x, y), (255 * x).round().to(torch.uint8)):
        snn = sw.convert(net, calibrate_on=given, steps=40, samples=100)
        assert snn(x).shape == (100, 10)
    for bad, said in [(3, "int"), ("digits", "str"), (y, "Tensor"), (x[:0], "empty"), ((x, y[:5]), "tuple")]:
        with pytest.raises(DataError, match=said):
            sw.convert(net, calibrate_on=bad, steps=4)
    with pytest.raises(ConfigError, match="samples is 0"):
        sw.convert(net, calibrate_on=x, steps=4, samples=0)


@pytest.mark.parametrize("steps", [0, -1, 2.5, True, "3"])
def test_steps_are_a_whole_number_of_at_least_1(steps: Any) -> None:
    x = torch.rand(4, 1, 8, 8)
    for method in ("rueckauer", Method()):
        with pytest.raises(ConfigError, match="steps is"):
            sw.convert(trained(), calibrate_on=x, steps=steps, method=method)


def test_methods_by_name_by_parts_and_wrong_ones() -> None:
    net, x = trained(), sw.load("digits").train.batch(torch.arange(50))
    named = sw.convert(net, calibrate_on=x, steps=60, percentile=99.0)
    parts = sw.convert(net, calibrate_on=x, steps=60, method=Method(Percentile(99.0)))
    assert torch.equal(named(x), parts(x))
    assert {"rueckauer", "diehl", "sengupta", "rmp", "calibration"} <= set(methods())
    for how, said in [
        ({"method": "ruekauer"}, "did you mean 'rueckauer'"),
        ({"method": "surrogate"}, "does not convert"),
        ({"method": "rueckauer", "no_such": 1}, "no setting 'no_such'"),
        ({"method": Method(), "percentile": 1.0}, "ready method"),
    ]:
        with pytest.raises(ConfigError, match=said):
            sw.convert(net, calibrate_on=x, **{"steps": 4, **how})
    with pytest.raises(ConfigError, match="steps is missing"):
        sw.convert(net, calibrate_on=x, method=Method())


def test_conversion_draws_nothing_from_the_global_generators() -> None:
    net, x = trained(), sw.load("digits").train.batch(torch.arange(50))
    for layer in net:
        if isinstance(layer, nn.Linear):
            layer.bias = None
    torch.manual_seed(1)
    wanted = torch.rand(3)
    torch.manual_seed(1)
    first = sw.convert(net, calibrate_on=x, steps=20, method="rmp", estimate_steps=10)
    assert torch.equal(torch.rand(3), wanted)
    assert torch.equal(first(x), sw.convert(net, calibrate_on=x, steps=20, method="rmp", estimate_steps=10)(x))


# ---- the command


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = cli.main(["convert", *words])
    return code, *capsys.readouterr()


def test_the_command_converts_reports_tests_and_can_be_evaluated(capsys: pytest.CaptureFixture[str]) -> None:
    weights = {"conv.weight": torch.randn(8, 1, 3, 3), "conv.bias": torch.zeros(8)}
    weights |= {f"bn.{k}": v for k, v in nn.BatchNorm2d(8).state_dict().items()}
    weights |= {"fc.weight": torch.randn(10, 128), "fc.bias": torch.zeros(10)}
    save_file(weights, "w.safetensors")
    words = ["net.py:make", "--weights", "w.safetensors", "--data", "digits", "--steps", "60", "--percentile", "99"]
    code, out, err = call(capsys, *words, "--out", "run")
    assert code == 0, err
    assert "knee at T" in out and "its ANN" in out and "rate error" in out
    report = json.loads(Path("run/conversion.json").read_text())
    assert [layer["name"] for layer in report["layers"]] == ["relu"] and "folded bn into conv" in report["passes"]
    summary = json.loads(Path("run/summary.json").read_text())
    assert (
        abs(summary["ann_test_accuracy"] - summary["test_accuracy"]) < 0.05 and summary["settings"]["percentile"] == 99
    )
    snn = sw.load_model("run")
    assert snn.steps == 60 and snn(sw.load("digits").test.batch(torch.arange(3))).abs().max() > 0
    capsys.readouterr()
    assert cli.main(["evaluate", "run", "--steps", "5,60", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows[1]["test_accuracy"] == summary["test_accuracy"]
    assert call(capsys, *words, "--out", "run")[0] == 2  # it holds a run already


@pytest.mark.parametrize(
    "words, code, said",
    [
        (["net.py:odd"], 2, "GELU"),
        (["net.py:number"], 2, "makes a int"),
        (["net.py:broken"], 2, "no luck"),
        (["net.py:missing"], 2, "no function 'missing'"),
        (["none.py:make"], 2, "names no file"),
        (["net.py"], 2, "MODEL.py:FUNCTION"),
        (["net.py:make", "--method", "stbp"], 2, "does not convert"),
        (["net.py:make", "--method", "rueckuaer"], 2, "did you mean"),
        (["net.py:make", "--steps", "0"], 2, "steps is 0"),
        (["net.py:make", "--weights", "none.safetensors"], 4, "none.safetensors"),
        (["net.py:make", "--weights", "net.py"], 4, "does not fit"),
        (["net.py:make", "--data", "no-such"], 2, "no-such"),
        ([], 2, "MODEL.py:FUNCTION"),
    ],
    ids=lambda v: "-".join(v) if isinstance(v, list) else None,
)
def test_what_is_wrong_is_one_line(capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str) -> None:
    found, out, err = call(capsys, *words, *(["--out", "run", "--quiet"] if words else []))
    lines = err.strip().splitlines()
    assert (found, out, len(lines)) == (code, "", 1), err
    assert said in lines[0]
    assert not Path("run/model.json").exists() and not Path("run/config.json").exists()


def test_recipes_that_convert_are_the_families_own() -> None:
    assert all(recipes.get(name).family == "conversion" for name in methods())
