"""Recipes that teach spike trains, on their own task in small; what they write and refuse."""

import json

import pytest
import torch

import spikewright as sw
from spikewright import recipes
from spikewright.errors import ConfigError
from spikewright.measure import evaluation
from spikewright.recipes.taught import Taught

TASK = "spike-patterns:inputs=150,rate=10,duration=200,spikes=2,copies=20"
SMALL = {"steps": 400, "dt": 0.5, "epochs": 6, "lr": 0.03, "progress": False, "precision": "float32"}
TAUGHT = [n for n in recipes.names() if issubclass(recipes.get(n), Taught)]


@pytest.fixture(autouse=True)
def quick(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "TIMED_SECONDS", 0.0)


@pytest.mark.parametrize("name", [n for n in TAUGHT if n != "multi-resume"])
def test_it_learns_its_trains(name, tmp_path):
    before = next(iter(recipes.get(name)(steps=400, dt=0.5).plan(sw.load(TASK).with_steps(400)))).snn
    untaught = sw.evaluate(before, sw.load(TASK).with_steps(400).test)
    snn = sw.train(name, TASK, out=tmp_path / "run", **SMALL)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert untaught.trains["van_rossum"] > 0.5 and not untaught.accuracy
    assert summary["trains"]["van_rossum"] < 0.3 and summary["test_accuracy"] == 1
    assert summary["trains"]["target_spikes_hit"] >= 0.5 and summary["spikes_per_image"] == 2
    assert summary["synops_per_image"] > 200 and not summary["uncounted"]
    loaded, x = sw.load_model(tmp_path / "run"), sw.load(TASK).with_steps(400).test.batch(torch.arange(1))
    assert torch.equal(loaded.run(x).out, snn.run(x).out) and loaded.run(x).out.sum() == 2


def test_delays_move_and_are_kept(tmp_path):
    for name in ("dl-resume", "ccds"):
        snn = sw.train(name, TASK, out=tmp_path / name, **SMALL | {"epochs": 2})
        delays = snn.body[1].steps
        assert delays.any() and delays.min() >= 0 and delays.max() <= 80
        assert torch.equal(sw.load_model(tmp_path / name).body[1].steps, delays)


def test_i_learning_keeps_the_signs_it_starts_with():
    settings = {"learning": "i", "inhibitory": 0.3}
    kind = recipes.get("chronotron")
    with torch.random.fork_rng():
        snn = sw.train("chronotron", TASK, **SMALL | settings | {"epochs": 1, "lr": 0.1})
    signs = snn.body[1].weight.sign()
    more = sw.train("chronotron", TASK, **SMALL | settings | {"epochs": 4, "lr": 0.1})
    assert torch.equal(more.body[1].weight.sign(), signs) and 0.1 < (signs < 0).float().mean() < 0.5
    assert not torch.equal(more.body[1].weight, snn.body[1].weight) and kind().rule().signed is False


def test_a_hidden_layer_brings_the_output_nearer():
    settings = SMALL | {"lr": 0.5, "hidden": 20}
    one, many = (sw.train("multi-resume", TASK, **settings | {"epochs": e}) for e in (1, 6))
    d = [sw.evaluate(s, sw.load(TASK).with_steps(400).test).trains["van_rossum"] for s in (one, many)]
    assert not torch.equal(one.body[1].weight, many.body[1].weight)
    assert not torch.equal(one.body[4].weight, many.body[4].weight)
    assert d[1] <= d[0]


def test_the_tempotron_tells_random_patterns_apart():
    task = "spike-classes:patterns=20,inputs=40,seed=1,copies=4"
    settings = {"steps": 273, "dt": 545 / 273, "epochs": 10, "lr": 5e-3, "progress": False, "precision": "float32"}
    snn = sw.train("tempotron", task, **settings)
    found = sw.evaluate(snn, sw.load(task).with_steps(273).test)
    assert found.accuracy >= 0.95 and found.synops_per_image == 40


@pytest.mark.parametrize(
    "method, data, values, said",
    [
        ("resume", TASK, {"steps": 300, "dt": 0.5}, "--steps 400"),
        ("resume", TASK, {"steps": 400, "dt": 0.0}, "dt is 0.0"),
        ("resume", "digits", {"answer": 1.5}, "answer is 1.5"),
        ("resume", "digits", {"tau": -1.0}, "tau is"),
        ("span", "digits", {"tau": 0.0}, "0"),
        ("dl-resume", "digits", {"longest": -3.0}, "longest"),
        ("multi-resume", "digits", {"inhibitory": 1.5}, "inhibitory is 1.5"),
        ("multi-resume", "digits", {"low": 5.0, "high": 1.0}, "low is 5.0"),
        ("chronotron", "digits", {"gamma_r": 0.0}, "gain is 0.0"),
        ("chronotron", "digits", {"learning": "x"}, "learning is 'x'"),
        ("t-resume", "digits", {"tau_slow": 0.0}, "tau is 0.0"),
        ("ccds", "digits", {"delay_lr": -1.0}, "rate is"),
        ("tempotron", TASK, {}, "spike-classes"),
        ("tempotron", "digits", {"dt": -1.0}, "dt is -1.0"),
    ],
)
def test_a_bad_setting_is_one_line(method, data, values, said):
    with pytest.raises(ConfigError) as caught:
        sw.train(method, data, limit=20, epochs=1, progress=False, **values)
    assert said in str(caught.value) and "\n" not in str(caught.value)
