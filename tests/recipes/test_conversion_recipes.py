"""Conversion recipes keep to their papers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import spikewright as sw
from spikewright import recipes
from spikewright.convert import Calibration, Clip, RateNorm, converted
from spikewright.encode import Bernoulli, Direct, Normalized
from spikewright.errors import ConfigError
from spikewright.measure import evaluation
from spikewright.neurons import IF, Delay, HardReset, HeldDropout, Subtract, TunableLIF
from spikewright.phases import Convert, Fit
from spikewright.recipes.conversion import ConversionRecipe
from spikewright.surrogate import STDB, ScaledTriangle

NAMES = [n for n in recipes.names() if issubclass(recipes.get(n), ConversionRecipe)]
SMALL: dict[str, Any] = {"arch": "8C3-P2-D0.2-40-10", "epochs": 1, "batch": 20, "samples": 60}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "TIMED_SECONDS", 0.0)


def made(name: str, **settings: Any) -> tuple[sw.SNN, sw.SNN]:
    """(ANN, SNN) of a recipe with the ANN as it is initialised."""
    data = sw.load("digits")
    recipe = recipes.get(name).for_data("digits", **{"arch": SMALL["arch"], "steps": 20, **settings})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ann = sw.SNN(recipe.network(data), 1).eval()
    found = converted(ann, Calibration.of(data, ann, 50), recipe.method(), recipe.steps)
    return ann, found.snn


def neurons(snn: sw.SNN) -> list[Any]:
    return [m for m in snn.modules() if isinstance(m, sw.neurons.IntegrateAndFire)]


def weights(ann: sw.SNN) -> list[nn.Module]:
    return [m for m in ann.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


@pytest.mark.parametrize("name", ["diehl", "sengupta", "rmp", "scaled-threshold", "hybrid-stdb", "diet-snn"])
def test_the_methods_without_a_place_for_biases_have_none_and_refuse_them(name: str) -> None:
    ann, snn = made(name)
    assert all(layer.bias is None for layer in (*weights(ann), *weights(snn)))
    biased = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))
    with pytest.raises(ConfigError, match=r"'_1' has a bias.*bias=False"):
        sw.convert(biased, calibrate_on=sw.load("digits"), method=name, steps=2)


@pytest.mark.parametrize(
    "name, reset, strict, encode",
    [
        ("diehl", HardReset(), False, Bernoulli()),
        ("rueckauer", Subtract(), False, Direct()),
        ("sengupta", HardReset(), False, Bernoulli()),
        ("rmp", Subtract(), False, Bernoulli()),
        ("scaled-threshold", Subtract(), True, Bernoulli()),
        ("hybrid-stdb", Subtract(), True, Bernoulli()),
        ("calibration", Subtract(), False, Direct()),
        ("deng-gu", Subtract(), False, Direct()),
        ("rnl", Subtract(), False, Direct()),
        ("diet-snn", Subtract(), True, Direct()),
    ],
)
def test_reset_comparison_and_encoder_are_the_papers(name: str, reset: Any, strict: bool, encode: Any) -> None:
    _, snn = made(name)
    assert snn.encode == encode
    assert neurons(snn) and all((n.reset, n.strict) == (reset, strict) for n in neurons(snn))


def test_the_forms_are_the_papers() -> None:
    for name, unit, same in [("rueckauer", True, False), ("calibration", False, None), ("rmp", True, True)]:
        ann, snn = made(name, **({"batch_norm": False} if name == "calibration" else {}))
        assert all((n.size == 1) == unit for n in neurons(snn)), name
        if same is not None:
            equal = [torch.equal(a.weight, s.weight) for a, s in zip(weights(ann), weights(snn), strict=True)]
            assert all(equal) if same else not any(equal), name
    assert all(n.v_th == 1 for n in neurons(made("rueckauer")[1]))
    assert all(n.v_th == n.size for n in neurons(made("deng-gu")[1]))


def test_diehl_has_neurons_behind_pools_and_outputs() -> None:
    snn = made("diehl")[1]
    assert [n for n, m in snn.body.named_children() if isinstance(m, IF)] == [
        "neuron1",
        "pool1_neuron",
        "neuron2",
        "neuron_out",
    ]
    out = snn.run(sw.load("digits").test.batch(torch.arange(20))).out
    assert set(out.unique().tolist()) == {0.0, 1.0}
    model = made("diehl", norm="model")[1]
    assert all((m.weight.clamp(min=0).flatten(1).sum(1) <= 1 + 1e-5).all() for m in weights(model))


def test_rueckauers_outputs_are_potentials_counts_or_a_softmax() -> None:
    x = sw.load("digits").test.batch(torch.arange(50))
    kinds = {kind: made("rueckauer", output=kind, steps=80)[1] for kind in ("potential", "counts", "softmax")}
    scores = {kind: snn.scores(x) for kind, snn in kinds.items()}
    assert torch.equal(scores["softmax"], scores["softmax"].round()) and scores["softmax"][-1].sum() > 0
    assert all(((s * 80).round() - s * 80).abs().max() < 1e-3 for s in (scores["counts"][-1],))
    single = torch.cat([kinds["softmax"].scores(x[i : i + 1]) for i in range(5)], 1)
    assert torch.equal(single, scores["softmax"][:, :5])


def test_delays_are_explicit() -> None:
    plain, late = made("scaled-threshold", search="")[1], made("scaled-threshold", search="", delay=True)[1]
    assert [isinstance(m, Delay) for m in late.body].count(True) == len(neurons(late)) == 2
    x = sw.load("digits").test.batch(torch.arange(10))
    assert torch.equal(late.run(x).out[2:], plain.run(x).out[:-2])  # each of two layers answers one step late


def test_signed_pixels_are_normalised_in_front_of_the_encoder() -> None:
    ann, snn = made("rmp", signed=True)
    assert isinstance(ann.body[0], sw.arch("4C3-10", (1, 8, 8), normalize=((0.5,), (0.5,)))[0].__class__)
    assert snn.encode == Normalized(Bernoulli(signed=True), (0.5,), (0.5,))
    spikes = snn.encode.run(sw.load("digits").test.batch(torch.arange(4)), 0, 50, 50)
    assert set(spikes.unique().tolist()) == {-1.0, 0.0, 1.0}


def test_hybrid_begins_as_the_conversion_and_its_dropout_is_held() -> None:
    x = sw.load("digits").test.batch(torch.arange(10))
    plain, hybrid = (made(name, k=0.7)[1] for name in ("scaled-threshold", "hybrid-stdb"))
    assert torch.equal(hybrid(x), plain(x)) and hybrid(x).std() > 0
    held = [m for m in hybrid.modules() if isinstance(m, HeldDropout)]
    assert [m.p for m in held] == [0.2] and not any(isinstance(m, nn.Dropout) for m in hybrid.modules())
    assert all(n.surrogate == ScaledTriangle(0.3) for n in neurons(hybrid))
    stdb = neurons(made("hybrid-stdb", surrogate="stdb")[1])
    assert all(n.surrogate == STDB(0.3, 0.01, scale_by_threshold=True) for n in stdb)


def test_the_plans_are_the_papers() -> None:
    data = sw.load("digits")
    for name, kinds in {
        "rueckauer": [Fit, Convert],
        "hybrid-stdb": [Fit, Convert, Fit],
        "rnl": [Fit, Fit, Convert],
    }.items():
        recipe = recipes.get(name).for_data("digits", **SMALL)
        found = []
        for phase in recipe.plan(data):
            found.append(type(phase))
            if isinstance(phase, Convert):
                phase.snn = phase.ann
        assert found == kinds, name
    recipe = recipes.get("hybrid-stdb").for_data("digits")
    snn = made("hybrid-stdb")[1]
    (fit,) = recipe.after(snn, data)
    assert fit.optimizer.amsgrad and fit.optimizer.weight_decay == 5e-4 and fit.optimizer.lr == 1e-4
    assert [round(fit.schedule.factor(e, 10), 4) for e in (0, 5.9, 6, 8, 9)] == [1, 1, 0.2, 0.04, 0.008]


def test_a_search_takes_the_factor_with_most_held_out_samples_right(tmp_path: Path) -> None:
    settings = SMALL | {"epochs": 8, "lr": 5e-3, "steps": 10, "estimate_steps": 20}
    sw.train("scaled-threshold", "digits", out=tmp_path, limit=400, progress=False, search="0.01,0.5,20", **settings)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["k"] == 0.5 and summary["test_accuracy"] > 0.5
    for bad in ("0", "a,b", "-1,1"):
        with pytest.raises(ConfigError, match="search is"):
            recipes.get("scaled-threshold")(search=bad)


def test_a_trained_ann_can_be_converted_again(tmp_path: Path) -> None:
    first = sw.train("rmp", "digits", out=tmp_path / "a", limit=100, progress=False, **SMALL, steps=10)
    ann = str(tmp_path / "a" / "ann")
    again = sw.train("rmp", "digits", out=tmp_path / "b", limit=100, progress=False, **SMALL, steps=10, ann=ann)
    x = sw.load("digits").test.batch(torch.arange(10))
    assert torch.equal(first(x), again(x)) and first(x).std() > 0
    summaries = [json.loads((tmp_path / run / "summary.json").read_text()) for run in "ab"]
    assert summaries[0]["ann_test_accuracy"] == summaries[1]["ann_test_accuracy"]
    assert (tmp_path / "b" / "conversion.json").exists()


def test_deng_gu_shifts_for_its_t_or_the_one_it_is_told() -> None:
    for steps, shift in [(0, 20), (5, 5)]:
        ann, snn = made("deng-gu", shift_steps=steps)
        assert all(isinstance(m, Clip) for n, m in ann.body.named_children() if n.startswith("neuron"))
        theta = neurons(snn)[0].v_th
        added = weights(snn)[0].bias - weights(ann)[0].bias
        torch.testing.assert_close(added, torch.full_like(added, theta / (2 * shift)))


def test_rnl_shrinks_one_q_and_leaves_the_weights(tmp_path: Path) -> None:
    settings = SMALL | {"arch": "8C3-P2-40-10", "epochs": 3, "steps": 10, "shrink_epochs": 3}
    snn = sw.train("rnl", "digits", out=tmp_path, limit=300, progress=False, **settings, omega=5.0)
    ann = sw.load_model(tmp_path / "ann")
    norms = [m for m in ann.modules() if isinstance(m, RateNorm)]
    q = {float(m.logit.detach()) for m in norms}
    assert len(norms) == 2 and len(q) == 1 and q.pop() < 4.0  # 4 is where it began
    assert [n.v_th for n in neurons(snn)] == [pytest.approx(m.threshold) for m in norms]


def test_diet_trains_leaks_and_thresholds_within_their_ranges() -> None:
    settings = SMALL | {"epochs": 4, "lr": 5e-3, "tune_epochs": 2, "tune_lr": 5e-2, "estimate_steps": 20}
    snn = sw.train("diet-snn", "digits", limit=200, progress=False, **settings)
    found = [m for m in snn.modules() if isinstance(m, TunableLIF)]
    assert len(found) == 2
    for neuron in found:
        assert 0 < neuron.leak <= 1 and neuron.threshold >= 1e-3
    assert any(neuron.leak != 1 for neuron in found) and all(neuron.threshold != neuron.v_th for neuron in found)


def test_event_data_are_refused() -> None:
    events = replace(sw.load("digits"))
    shape = (4, *events.train.shape)

    split = events.train.subset(torch.arange(4))
    split.shape = shape
    with pytest.raises(ConfigError, match="frames of events"):
        next(iter(recipes.get("rueckauer")().plan(replace(events, train=split))))
