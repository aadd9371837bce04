"""Local learning in a session: stopped anywhere and resumed it ends bit for bit as if undisturbed; bad input."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import spikewright as sw
from spikewright import recipes
from spikewright.engine import local
from spikewright.engine.session import Interrupted
from spikewright.errors import ConfigError
from spikewright.measure import evaluation

SMALL = {"limit": 150, "validation": 0.2, "progress": False, "checkpoint_minutes": 0.0}
RUNS = {
    "shirsavar": {"maps_1": 8, "maps_2": 12, "components": 6, "epochs": 2, "pool_2": 2},
    "mozafari": {"maps_1": 6, "maps_2": 10, "per_class": 2, "epochs": 3, "first_epochs": 1, "second_epochs": 2},
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(evaluation, "TIMED_SECONDS", 0.0)
    monkeypatch.setattr(local, "BLOCK", 25)


def stopping_at(monkeypatch, tick):
    """A signal that arrives when so many blocks are done."""
    save = local.LocalTrainer._maybe_save

    def pointed(self):
        if self.session.ticks == tick and self.at.done:
            self.session.signal = 15
        save(self)

    monkeypatch.setattr(local.LocalTrainer, "_maybe_save", pointed)


def lines(folder: Path):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if "second" not in k} for line in found]


@pytest.mark.parametrize("method", RUNS)
def test_a_run_stopped_anywhere_ends_as_an_undisturbed_one(method, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    sw.train(method, "digits", out=whole, **SMALL, **RUNS[method])
    assert (whole / "filters-conv1.png").exists() and (whole / "filters-conv2.png").exists()
    summary = json.loads((whole / "summary.json").read_text())
    assert 0 < summary["spikes_per_image"] < summary["neuron_updates_per_image"] and not summary["uncounted"]
    for tick in (2, 7, 12, 19):
        folder = tmp_path / str(tick)
        with monkeypatch.context() as patch:
            stopping_at(patch, tick)
            with pytest.raises(Interrupted):
                sw.train(method, "digits", out=folder, **SMALL, **RUNS[method])
        sw.resume(folder, progress=False)
        assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes(), tick
        assert lines(folder) == lines(whole)


def test_what_frozen_layers_hand_on_is_the_same_kept_or_not(monkeypatch):
    kept = sw.train("mozafari", "digits", **SMALL, **RUNS["mozafari"])
    monkeypatch.setattr(local, "KEPT_BYTES", 0)
    fresh = sw.train("mozafari", "digits", **SMALL, **RUNS["mozafari"])
    assert all(torch.equal(a, b) for a, b in zip(kept.state_dict().values(), fresh.state_dict().values(), strict=True))
    start = next(iter(recipes.get("mozafari").for_data("digits", **RUNS["mozafari"]).plan(sw.load("digits")))).snn
    assert not torch.equal(start.body.conv1.weight, kept.body.conv1.weight)


@pytest.mark.parametrize(
    "method, settings, said",
    [
        ("shirsavar", {"v_th_1": 1e4}, "layer 'conv1' did not fire"),
        ("shirsavar", {"v_th_2": 1e4}, "layer 'conv2' did not fire"),
        ("shirsavar", {"pool_1": 9}, "layer 'conv"),
        ("shirsavar", {"components": 500}, "components"),
        ("shirsavar", {"epochs": 0}, "epochs"),
    ],
)
def test_what_cannot_learn_says_so_in_one_line(method, settings, said):
    with pytest.raises(ConfigError) as caught:
        sw.train(method, "digits", **SMALL, **(RUNS[method] | settings))
    assert said in str(caught.value) and "\n" not in str(caught.value)
