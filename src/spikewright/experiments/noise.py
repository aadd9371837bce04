"""Single-step training with noise: accuracy against T, the share of the membrane, the kind of noise, and the time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from spikewright.data import Dataset
from spikewright.experiments import Experiment, Row, experiment
from spikewright.measure import evaluate
from spikewright.model_file import load_model
from spikewright.neurons import NoisyLIF

REPORTED = {
    "mnist": {5: 99.61, 10: 99.64},
    "fashion-mnist": {5: 93.89, 10: 94.07},
    "cifar10": {5: 91.82, 10: 92.07},
}
TIMES = {  # data, network: seconds with noise and with T = 10 surrogate gradients, to a benchmark in %
    ("fashion-mnist", "64C3-AP2-128C3-AP2-128C3-AP2-512-10"): (92.0, 135.0, 528.0),
    ("cifar10", "vgg-16"): (88.0, 3132.0, 9900.0),
    ("cifar10", "resnet-18"): (90.0, 7290.0, 19998.0),
}
ALPHAS = (2.0, 3.0, 4.0, 8.0, 16.0, None)


@experiment(paper="Jiang & Zhang, table 2 and figures 3 to 6")
@dataclass
class NoiseTraining(Experiment):
    """Single-step training with noise: accuracy against T, alpha, kinds of noise, time against direct training.

    `accuracy`: one net trained for one step, run for 1 to T steps; the same weights with independent noise at every
    step (the method's second stage) and with other alpha. `kinds`: nets trained with uniform noise and, a control of
    ours, with the noise's mean. `time`: seconds of training (validation left out) until an epoch's validation accuracy
    after T steps reaches the benchmark, trained with noise for one step and by surrogate gradients through all T; the
    same net, batch, optimiser and learning rate, one after the other on the same machine.
    """

    data: str = "fashion-mnist"
    """Data set by name (spikewright datasets), or a folder of class folders."""
    what: Literal["all", "accuracy", "kinds", "time"] = "all"
    """Which part."""
    arch: str = ""
    """Network; by default the recipe's for these data."""
    steps: int = 10
    """Time steps T."""
    epochs: int = 20
    """Passes over the training set, of each net."""
    batch: int = 128
    """Samples a step."""
    lr: float = 1e-3
    """Learning rate of Adam."""
    schedule: Literal["restarts", "cosine"] = "cosine"
    """Of the nets whose accuracy is asked for; time is taken with restarts, where the epochs to come do not matter."""
    batch_norm: bool = False
    """Batch norm after every convolution, in all nets."""
    crop: int = 0
    """Training images are shifted by up to so many pixels."""
    flip: bool = False
    """Training images are mirrored half of the time."""
    goal: float = 0.0
    """Benchmark accuracy in %; by default the paper's for these data."""

    def rows(self, data: Dataset) -> Iterator[Row]:
        if self.what in ("all", "accuracy"):
            yield from self._accuracy(data)
        if self.what in ("all", "kinds"):
            yield from self._kinds(data)
        if self.what in ("all", "time"):
            yield from self._time(data)

    def settings(self) -> dict[str, Any]:
        """Of every net."""
        names = ("steps", "epochs", "batch", "lr", "schedule", "batch_norm", "crop", "flip")
        return {name: getattr(self, name) for name in names} | ({"arch": self.arch} if self.arch else {})

    def _accuracy(self, data: Dataset) -> Iterator[Row]:
        run = self.trained("gaussian", "noise", data, **self.settings())
        reported, by_step = REPORTED.get(data.name, {}), run["accuracy_by_step"]
        for t in sorted({1, min(5, self.steps), self.steps}):
            yield Row(f"membrane and noise, T = {t}", reported.get(t), 100 * by_step[t - 1])
        yield Row(f"gained from T = 1 to {self.steps}", None, 100 * (by_step[-1] - by_step[0]), "points")
        self.curves["alpha = 4"] = _percent(by_step)
        for alpha in ALPHAS:
            if alpha == 4.0:
                continue
            curve = self._with("gaussian", data, alpha)
            label = "independent noise (alpha infinite)" if alpha is None else f"alpha = {alpha:g}"
            self.curves[label] = _percent(curve)
            yield Row(f"{label}, T = {self.steps}", None, 100 * curve[-1])
            if alpha is None:
                lost = 100 * (curve[-1] - by_step[-1])
                yield Row("lost from independent noise to membranes", 0.0, lost, "points", "the paper: almost none")

    def _kinds(self, data: Dataset) -> Iterator[Row]:
        for kind in ("gaussian", "uniform", "none"):
            run = self.trained(kind, "noise", data, noise=kind, **self.settings())
            curve = run["accuracy_by_step"] if kind != "none" else self._with(kind, data, 4.0, noise="gaussian")
            label = kind if kind != "none" else "trained without noise, run with gaussian"
            self.curves[label] = _percent(curve)
            yield Row(f"{label}, T = 1", None, 100 * curve[0], note="the paper: gaussian the better")
            yield Row(f"{label}, T = {self.steps}", None, 100 * curve[-1], note="the paper: no obvious gap")

    def _time(self, data: Dataset) -> Iterator[Row]:
        own = self.settings() | {"schedule": "restarts"}
        one = self.trained("time-noise", "noise", data, until=self._goal(data), **own)
        two = self.trained("time-direct", "noise", data, direct=True, until=self._goal(data), **own)
        seconds = [self._until(label, self._goal(data)) for label in ("time-noise", "time-direct")]
        reported = TIMES.get((data.name, one["arch"]))
        paper = reported[1:] if reported else (None, None)
        rows = zip(("with noise, T = 1", f"direct, T = {self.steps}"), (one, two), seconds, paper, strict=True)
        for label, run, taken, said in rows:
            note = f"{run['epochs']} epochs" if taken is not None else f"not reached in {run['epochs']} epochs"
            yield Row(f"{label}: to {self._goal(data):g} %", said, taken, "s", note)
            each = run["train_seconds"] / run["epochs"]
            yield Row(f"{label}: one epoch", None, each, "s")
        yield Row("saved", _saved(*paper), _saved(*seconds), "% of the time")

    def _goal(self, data: Dataset) -> float:
        own = [goal for (name, arch), (goal, *_) in TIMES.items() if name == data.name and self.arch in ("", arch)]
        return self.goal or (own[0] if own else 90.0)

    def _until(self, label: str, goal: float) -> float | None:
        """Seconds of training until an epoch ended at the goal or above; None if none did."""
        total = 0.0
        for text in (self.folder / label / "metrics.jsonl").read_text().splitlines():
            line = json.loads(text)
            total += line["seconds"]
            if 100 * line.get("validation_accuracy", 0.0) >= goal:
                return total
        return None

    def _with(self, label: str, data: Dataset, alpha: float | None, **changes: Any) -> list[float]:
        """Accuracy by step of a trained net with other neurons."""
        snn = load_model(Path(self.folder / label))
        for neuron in snn.modules():
            if isinstance(neuron, NoisyLIF):
                neuron.alpha = alpha
                for name, value in changes.items():
                    setattr(neuron, name, value)
        self.say(f"{label}: running with alpha = {alpha or 'infinity'} ...")
        return evaluate(snn, data.test, precision=self.precision).accuracy_by_step


def _saved(ours: float | None, theirs: float | None) -> float | None:
    """Of their time, in %."""
    return None if ours is None or theirs is None else 100 * (1 - ours / theirs)


def _percent(curve: list[float]) -> list[list[float]]:
    return [[t, 100 * accuracy] for t, accuracy in enumerate(curve, start=1)]
