"""Optimisers against torch's own update written out, schedules against their closed forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from spikewright.engine.optim import (
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    Geometric,
    Optimizer,
    Schedule,
    StepDecay,
    WarmRestarts,
)
from spikewright.errors import ConfigError


def stepped(optimizer: Optimizer, gradients: list[float], start: float = 1.0) -> float:
    """A single weight after these gradients."""
    weight = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    built = optimizer.build([weight])
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        built.step()
    return float(weight.detach())


def adam(gradients: list[float], lr: float, l2: float = 0.0, decay: float = 0.0, start: float = 1.0) -> float:
    w, m, v = start, 0.0, 0.0
    for t, gradient in enumerate(gradients, 1):
        w -= lr * decay * w
        g = gradient + l2 * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        w -= lr * (m / (1 - 0.9**t)) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return w


GRADIENTS = [0.3, -1.0, 0.25, 2.0]


def test_adam_and_adamw_are_their_formulas() -> None:
    assert stepped(Adam(0.01, weight_decay=0.1), GRADIENTS) == pytest.approx(adam(GRADIENTS, 0.01, l2=0.1), rel=1e-12)
    assert stepped(AdamW(0.01), GRADIENTS) == pytest.approx(adam(GRADIENTS, 0.01, decay=0.01), rel=1e-12)
    assert stepped(AdamW(0.01), GRADIENTS) != pytest.approx(adam(GRADIENTS, 0.01, l2=0.01), rel=1e-12)


def test_amsgrad_remembers_the_largest_second_moment() -> None:
    spike = [100.0] + [0.1] * 50
    assert stepped(Adam(0.01, amsgrad=True), spike) != stepped(Adam(0.01), spike)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_its_formula(nesterov: bool) -> None:
    w, velocity = 1.0, 0.0
    for gradient in GRADIENTS:
        g = gradient + 0.05 * w
        velocity = 0.9 * velocity + g
        w -= 0.1 * (g + 0.9 * velocity if nesterov else velocity)
    assert stepped(SGD(0.1, 0.05, nesterov=nesterov), GRADIENTS) == pytest.approx(w, rel=1e-12)


@pytest.mark.parametrize("kind", [Adam, AdamW, SGD])
@pytest.mark.parametrize(
    ("name", "value"),
    [("lr", math.nan), ("lr", math.inf), ("lr", 0.0), ("lr", -1.0), ("weight_decay", -0.1), ("weight_decay", math.nan)],
)
def test_bad_rates_are_refused_in_one_line(kind: type[Optimizer], name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"{kind.__name__}.*{name} is .*expected") as caught:
        kind(**{name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (SGD, {"momentum": -1.0}),
        (SGD, {"momentum": math.nan}),
        (SGD, {"momentum": 0.0, "nesterov": True}),
        (Adam, {"betas": (0.9, 1.0)}),
        (AdamW, {"betas": (math.nan, 0.9)}),
        (Constant, {"warmup": -1.0}),
        (Constant, {"warmup": math.nan}),
        (Cosine, {"minimum": -0.1}),
        (Cosine, {"minimum": math.nan}),
        (StepDecay, {"every": 0}),
        (StepDecay, {"every": -3}),
        (StepDecay, {"factor_each": 0.0}),
        (StepDecay, {"factor_each": math.inf}),
    ],
)
def test_bad_settings_are_refused_in_one_line(kind: type, values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=rf"{kind.__name__}.*expected") as caught:
        kind(**values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("schedule", [Constant(warmup=2.0), Cosine(warmup=2.0), StepDecay(warmup=2.0, every=30)])
def test_warm_up_rises_linearly_from_almost_nothing_to_one(schedule: Schedule) -> None:
    assert schedule.factor(0.0, 10) == 1e-3
    assert schedule.factor(0.5, 10) == pytest.approx(0.25)
    assert schedule.factor(1.5, 10) == pytest.approx(0.75)
    assert schedule.factor(2.0, 10) == pytest.approx(1.0)


def test_constant_stays() -> None:
    assert {Constant().factor(epoch / 7, 10) for epoch in range(70)} == {1.0}


@pytest.mark.parametrize(("warmup", "minimum"), [(0.0, 0.0), (1.0, 0.0), (2.0, 0.1)])
def test_cosine_runs_from_one_to_its_minimum(warmup: float, minimum: float) -> None:
    schedule = Cosine(minimum, warmup=warmup)
    assert schedule.factor(warmup, 10) == pytest.approx(1.0)
    assert schedule.factor((10 + warmup) / 2, 10) == pytest.approx((1 + minimum) / 2)
    assert schedule.factor(10, 10) == pytest.approx(minimum, abs=1e-12)
    assert schedule.factor(12, 10) == pytest.approx(minimum, abs=1e-12)  # never rises again
    quarter = warmup + (10 - warmup) / 4
    assert schedule.factor(quarter, 10) == pytest.approx(minimum + (1 - minimum) * (1 + math.sqrt(0.5)) / 2)
    values = [schedule.factor(warmup + k * (10 - warmup) / 50, 10) for k in range(51)]
    assert values == sorted(values, reverse=True)


def test_cosine_with_a_warm_up_as_long_as_the_run_stays_finite() -> None:
    values = [Cosine(warmup=3.0).factor(k / 4, 2) for k in range(9)]
    assert all(0 < value <= 1 for value in values)


def test_step_decay_falls_at_its_epochs_only() -> None:
    schedule = StepDecay(every=40, factor_each=0.1)
    assert [schedule.factor(epoch, 100) for epoch in (0, 39.99, 40, 79.99, 80)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01], rel=1e-12
    )


def test_a_schedules_first_argument_is_its_own_not_the_warm_up() -> None:
    assert [WarmRestarts(10).factor(epoch, 40) for epoch in (0, 5, 10)] == pytest.approx([1, 0.5, 1])
    assert [Geometric(0.01).factor(epoch, 10) for epoch in (0, 5, 10)] == pytest.approx([1, 0.1, 0.01])
    assert Cosine(0.2).factor(40, 40) == pytest.approx(0.2)
