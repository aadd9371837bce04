"""Laws of recipes, over all that a listing of the folder finds."""

from __future__ import annotations

import ast
import inspect
import json
from dataclasses import fields, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import spikewright as sw
from spikewright import recipes
from spikewright.data import Augment
from spikewright.errors import ConfigError
from spikewright.measure import evaluation, firing_rates
from spikewright.recipes import Augmented, Recipe
from spikewright.recipes.conversion import ConversionRecipe
from spikewright.recipes.taught import Taught

NAMES = recipes.names()
QUICK = {"estimate_steps": 30, "search": "0.3,0.6", "shrink_epochs": 1, "iterations": 20}
OWN: dict[str, dict[str, Any]] = {
    "multi-resume": {"epochs": 6, "batch": 5},
    "fs": {"steps": 30},
    "whetstone": {"arch": "16C3-P2-64-BN-60-BN", "epochs": 24, "start": 6.0, "each": 5.0, "pause": 0.5, "steps": 2},
}
TAUGHT = {"epochs": 4, "batch": 10}
LEAST = {"multi-resume": 0.35}  # made for a few trains; ten classes at once are hard for it
SMALL = {"arch": "16C3-P2-64-10", "epochs": 4, "batch": 20}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "TIMED_SECONDS", 0.0)


def settings(name: str) -> dict[str, Any]:
    """Small settings, as far as the recipe has such fields."""
    kind = recipes.get(name)
    known = {f.name for f in fields(kind)}
    if kind.family == "local":  # no gradients to be quick with: the presets are small as they are
        return TAUGHT | OWN.get(name, {}) if issubclass(kind, Taught) else {}
    if kind.family == "spike-time":
        return kind.presets["digits"] | {"epochs": {"spikeprop": 60, "bs4nn": 25}.get(name, 15)}
    faster = {"lr": 5e-3, "schedule": "cosine", "steps": 5}
    if issubclass(kind, ConversionRecipe):  # the learning rate belongs to the ANN's optimiser
        faster = {"lr": kind.presets["digits"]["lr"], "steps": 40, "samples": 100, "tune_epochs": 1, **QUICK}
    return {k: v for k, v in (SMALL | faster | OWN.get(name, {})).items() if k in known}


@cache
def trained(name: str) -> sw.SNN:
    return sw.train(name, "digits", limit=600, progress=False, **settings(name))


def images(count: int = 24) -> torch.Tensor:
    return sw.load("digits").test.batch(torch.arange(count))


def test_the_listing_finds_every_file() -> None:
    root = Path(inspect.getfile(recipes)).parent
    files = {path.stem.replace("_", "-") for path in root.glob("*/*.py") if path.stem != "__init__"}
    assert files == set(NAMES) and {"surrogate", "stbp", "tssl-bp"} <= files


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_it_is(name: str) -> None:
    kind = recipes.get(name)
    row = next(row for row in recipes.listing() if row["name"] == name)
    assert issubclass(kind, Recipe) and row["paper"] and row["family"]
    assert row["about"] and "\n" not in row["about"] and row["about"].endswith(".")
    assert len((kind.__doc__ or "").strip().splitlines()) > 1
    assert not (kind.__doc__ or "").startswith(f"{kind.__name__}(")  # the one that dataclass makes up
    assert all(0 < figure <= 100 for figure in row["reports"].values())
    json.dumps(row, allow_nan=False)


@pytest.mark.parametrize("name", NAMES)
def test_every_field_has_a_type_a_default_and_a_sentence(name: str) -> None:
    kind = recipes.get(name)
    bodies = [ast.parse(inspect.getsource(c)).body[0].body for c in kind.__mro__[::-1] if issubclass(c, Recipe)]
    told = {
        line.target.id: after.value.value
        for body in bodies
        for line, after in pairwise(body)
        if isinstance(line, ast.AnnAssign) and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
    }
    for field in fields(kind):
        assert field.type
        assert hasattr(kind(), field.name)
        if field.name != "steps":
            assert told[field.name].strip().endswith("."), field.name


@pytest.mark.parametrize("name", NAMES)
def test_presets_set_fields_that_exist_and_build(name: str) -> None:
    kind = recipes.get(name)
    for data, preset in kind.presets.items():
        assert data in sw.data.names(), data
        assert preset.keys() <= {f.name for f in fields(kind)}, data
        kind.for_data(data)
    assert set(kind.reports) <= set(sw.data.names())
    with pytest.raises(ConfigError, match="no-such") as caught:
        kind.for_data("digits", **{"no-such": 1})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_its_preset_for_digits_trains(name: str) -> None:
    snn = sw.train(name, "digits", limit=100, epochs=1, progress=False)
    assert snn(images(4)).shape == (4, 10)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_streams_and_comes_back(name: str, tmp_path: Path) -> None:
    """One test, so that one process trains it, once."""
    learns(name)
    is_the_same_at_once_one_by_one_and_streamed(name)
    predicts_the_same_when_loaded(name, tmp_path)


def learns(name: str) -> None:
    found = sw.evaluate(trained(name), sw.load("digits").test)
    local = 0.5 if recipes.get(name).family == "local" else 0.6  # local rules want more than 600 images of 8 x 8
    assert found.accuracy >= LEAST.get(name, local)
    assert not found.silent
    assert all(0 < rate < 1 for rate in found.rates.values()), found.rates


def is_the_same_at_once_one_by_one_and_streamed(name: str) -> None:
    snn = trained(name).double()
    try:
        x = images().double()
        with torch.no_grad():
            whole = snn.scores(x, generator=torch.Generator().manual_seed(3))
            single = snn.scores(x, chunk=1, generator=torch.Generator().manual_seed(3))
            torch.testing.assert_close(single, whole, rtol=1e-12, atol=1e-12)
            assert torch.equal(single.argmax(-1), whole.argmax(-1)) and whole.std() > 0
            stream = snn.stream(seed=int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(3))))
            for t in range(snn.steps):
                torch.testing.assert_close(stream(x), whole[t], rtol=1e-12, atol=1e-12)
        rates = firing_rates(snn, x)
        least = 0.05 / snn.steps if snn.timed else 1e-4  # of one spike for the whole run
        assert all(least < rate < 0.99 for rate in rates.values()), rates
    finally:
        snn.float()


def predicts_the_same_when_loaded(name: str, tmp_path: Path) -> None:
    snn = trained(name)
    snn.save(tmp_path)
    loaded = sw.load_model(tmp_path)
    x = images(100)
    assert torch.equal(loaded(x), snn(x))
    assert torch.equal(loaded.predict(x), snn.predict(x))
    assert (loaded.steps, repr(loaded)) == (snn.steps, repr(snn))


@pytest.mark.parametrize("name", NAMES)
def test_passes_batches_and_steps_of_0_are_refused_before_anything_runs(name: str) -> None:
    kind = recipes.get(name)
    counts = [f.name for f in fields(kind) if f.type == "int" and f.name.endswith(("epochs", "batch", "steps"))]
    assert "steps" in counts
    for field in counts:
        if field in kind.optional:
            assert getattr(kind(**{field: 0}), field) == 0
        else:
            with pytest.raises(
                ConfigError, match=f"recipe '{name}': {field} is 0, expected a whole number of at least"
            ):
                kind(**{field: 0})


def test_tssl_bp_keeps_its_paper() -> None:
    recipe = recipes.get("tssl-bp").for_data("digits")
    (phase,) = recipe.plan(sw.load("digits"))
    assert phase.clip == 1.0 and phase.weight_clamp == 4.0 and phase.loss.summed
    assert isinstance(phase.optimizer, sw.optim.AdamW) and phase.batch == 50
    layers = [m for m in phase.snn.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert layers and all(layer.bias is None for layer in layers)
    wild = sw.train("tssl-bp", "digits", limit=100, epochs=1, lr=3.0, arch="4C3-P2-20-10", progress=False)
    assert max(float(p.detach().abs().max()) for p in wild.parameters()) == 4.0


def test_stbp_keeps_its_paper() -> None:
    recipe = recipes.get("stbp").for_data("digits")
    (phase,) = recipe.plan(sw.load("digits"))
    layers = [m for m in phase.snn.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert layers and all(layer.bias is not None for layer in layers)
    last = [m for m in phase.snn.body.modules() if not any(m.children())][-1]
    assert isinstance(last, sw.LIF) and last.spikes
    scores = trained("stbp").scores(images())
    assert torch.equal(scores[-1] * len(scores), (scores[-1] * len(scores)).round())  # rates of whole spikes
    assert not phase.loss.summed and not isinstance(phase.snn.encode, sw.encode.Direct)


def test_the_baseline_ends_without_a_neuron() -> None:
    (phase,) = recipes.get("surrogate").for_data("digits").plan(sw.load("digits"))
    last = [m for m in phase.snn.body.modules() if not any(m.children())][-1]
    assert isinstance(last, nn.Linear)
    assert any(isinstance(m, nn.BatchNorm2d) for m in phase.snn.modules())


@pytest.mark.parametrize("name", [name for name in NAMES if issubclass(recipes.get(name), Augmented)])
def test_training_images_are_moved_and_mirrored_where_that_is_asked_for(name: str) -> None:
    kind, digits = recipes.get(name), sw.load("digits")
    for asked, wanted in (({}, None), ({"crop": 1}, Augment(1)), ({"flip": True}, Augment(flip=True))):
        first = next(iter(kind.for_data("digits", **asked).plan(digits)))
        assert isinstance(first, sw.training.Fit) and first.augment == wanted
    cifar = replace(digits, name="cifar10")
    assert kind().augment(cifar) == Augment(4, True) and kind(crop=2).augment(cifar) == Augment(2, True)
    assert kind(cutout=3).augment(digits) == Augment(cutout=3, fill=digits.mean)
    assert kind(autoaugment=True).augment(digits) == Augment(fill=digits.mean, autoaugment=True)
    with pytest.raises(ConfigError, match=r"^crop is -1"):
        kind(crop=-1)
