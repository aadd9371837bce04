"""What recipes of spike times set up: their own way and the papers'."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import spikewright as sw
from spikewright import recipes
from spikewright.data import Augment
from spikewright.encode import LinearLatency
from spikewright.engine.optim import SGD, Adam, Constant, Cosine, Geometric
from spikewright.engine.session import Session
from spikewright.engine.upkeep import Redraw
from spikewright.losses import RelativeTarget
from spikewright.phases import Fit
from spikewright.snn import SNN
from spikewright.times import BinaryIF, ExponentialIF, InstantIF
from spikewright.times.network import Uniform


def plan(name: str, **settings: object) -> Fit:
    torch.manual_seed(0)
    (fit,) = recipes.get(name).for_data("digits", epochs=1, **settings).plan(sw.load("digits"))
    assert isinstance(fit, Fit)
    return fit


def layers(fit: Fit) -> list[InstantIF]:
    return [m for m in fit.snn.modules() if isinstance(m, InstantIF)]


def binary(fit: Fit) -> list[BinaryIF]:
    return [m for m in fit.snn.modules() if isinstance(m, BinaryIF)]


def test_exact_modes_have_the_authors_settings() -> None:
    s4nn, bs4nn = (plan(name, exact_paper_mode=True) for name in ("s4nn", "bs4nn"))
    assert s4nn.loss == RelativeTarget(3.0) and bs4nn.loss == RelativeTarget(1.0, skip_silent=True)
    for fit in (s4nn, bs4nn):
        assert fit.batch == 1 and fit.average is None
        assert all(m.ahead > 0 and m.normalize and not m.straight for m in layers(fit))
        first, last = (m.weight for m in layers(fit))
        assert first.min() >= 0 and 4.9 < first.max() <= 5 and last.min() >= 0 and 47 < last.max() <= 48
    assert [(m.signed, m.a.item()) for m in binary(bs4nn)] == [(False, 5.0)] * 2


def test_the_exact_mode_of_mostafa_has_the_papers_settings() -> None:
    def reserves(fit: Fit) -> list[float]:
        return [m.reserve for m in fit.snn.modules() if isinstance(m, ExponentialIF)]

    exact, ours = (plan("mostafa", exact_paper_mode=mode, crop=1, batch=20, lr=1.0) for mode in (True, False))
    assert exact.batch == 10 and exact.augment is None and reserves(exact) == [0.0, 0.0]
    assert (exact.optimizer, exact.schedule) == (SGD(0.01, momentum=0.0), Geometric(0.01))
    assert ours.batch == 20 and ours.augment == Augment(1) and reserves(ours) == [1.0, 1.0]
    assert (ours.optimizer, ours.schedule) == (Adam(1.0), Cosine())


@pytest.mark.parametrize("name", ["s4nn", "bs4nn", "mostafa"])
def test_exact_modes_leave_images_as_they_are(name: str) -> None:
    assert plan(name, exact_paper_mode=True, crop=1, autoaugment=True).augment is None
    assert plan(name, crop=1).augment == Augment(1)


def test_a_samples_own_step_follows_the_rate() -> None:
    fit = plan("s4nn", schedule="cosine", hidden_factor=0.01, huber=4.0)
    assert isinstance(fit.loss, RelativeTarget) and fit.loss.huber == 4.0
    assert all(not m.normalize and m.factor == 0.01 for m in layers(fit))
    before = [p.detach().clone() for p in fit.snn.parameters()]
    session = Session(sw.load("digits"), progress=False)
    fit.run(session)
    assert all(not torch.equal(p, b) for p, b in zip(fit.snn.parameters(), before, strict=True))
    batches = math.ceil(len(session.train) / fit.batch)
    last = fit.optimizer.lr * fit.schedule.factor((batches - 1) / batches, 1)
    assert 0 < last < 0.02 * fit.optimizer.lr and all(m.ahead == pytest.approx(last) for m in layers(fit))
    exact = plan("s4nn", exact_paper_mode=True, schedule="cosine", lr=1.0, hidden_factor=0.01, huber=4.0)
    assert (exact.optimizer.lr, exact.schedule) == (0.2, Constant())
    assert exact.loss == RelativeTarget(3.0) and all(m.normalize and m.factor == 1 for m in layers(exact))


def test_first_weights_may_be_smooth_and_idle_neurons_are_drawn_likewise() -> None:
    fit = plan("s4nn", arch="50-20-10", smooth=3)
    assert fit.upkeep == Redraw([Uniform(-10.0, 20.0, 3, (1, 8, 8)), Uniform(-10.0, 20.0)])

    def alike(k: int) -> float:
        w = layers(fit)[k].weight.detach()
        w = w - w.mean()
        return float((w[:, 1:] * w[:, :-1]).mean() / w.var())

    assert alike(0) > 0.4 and abs(alike(1)) < 0.1
    assert plan("s4nn", exact_paper_mode=True, smooth=3).upkeep == Redraw([Uniform(0.0, 5.0)])


def test_binary_outputs_begin_at_a_scale_of_their_own() -> None:
    fit = plan("bs4nn", scale=4.0, scale_out=1.5)
    assert [(m.signed, m.a.item()) for m in binary(fit)] == [(True, 4.0), (True, 1.5)]


@pytest.mark.parametrize("exact", [False, True])
def test_black_pixels_that_fire_last_change_nothing(exact: bool) -> None:
    def trained(encode: LinearLatency) -> tuple[list[Tensor], Tensor]:
        fit = plan("bs4nn", exact_paper_mode=exact)
        fit.snn = SNN(fit.snn.body, fit.snn.steps, encode, fit.snn.readout)
        before = [p.detach().clone() for p in fit.snn.parameters()]
        few = replace(sw.load("digits"), train=sw.load("digits").train.subset(torch.arange(200)))
        fit.run(Session(few, progress=False))
        after = [p.detach() for p in fit.snn.parameters()]
        assert all(not torch.equal(a, b) for a, b in zip(after, before, strict=True))
        out = fit.snn.run(sw.load("digits").test.batch(torch.arange(50))).scores
        return after, out

    without, scores = trained(LinearLatency())
    black, same = trained(LinearLatency(silent_zero=False))
    assert all(torch.equal(a, b) for a, b in zip(without, black, strict=True)) and torch.equal(scores, same)


def test_weights_of_zero_count_as_plus_one() -> None:
    layer = BinaryIF(3, 1)
    layer.weight.data = torch.tensor([[0.0, -0.0, -1e-30]])
    assert layer.effective().tolist() == [[1.0, 1.0, -1.0]]
