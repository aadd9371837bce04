"""Conversion at many and at few steps, and STDB after it: LeNet-5 on MNIST, VGGs on CIFAR-10."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from spikewright.data import Dataset
from spikewright.experiments import Experiment, Row, experiment
from spikewright.flags import numbers

PAPER: dict[str, dict[str, float]] = {
    "lenet-5": {"ann": 98.83, "2500": 98.91, "scaled 100": 98.82, "hybrid 100": 98.88},
    "vgg-5": {
        "ann": 87.96,
        "2500": 86.84,
        "scaled 200": 85.97,
        "scaled 100": 85.46,
        "hybrid 200": 86.79,
        "hybrid 100": 86.49,
    },
    "vgg-9": {
        "ann": 91.37,
        "2500": 91.11,
        "scaled 200": 89.96,
        "scaled 100": 85.12,
        "hybrid 200": 90.46,
        "hybrid 100": 88.89,
    },
    "vgg-16": {
        "ann": 92.55,
        "2500": 92.48,
        "scaled 200": 91.13,
        "scaled 100": 84.64,
        "hybrid 200": 92.03,
        "hybrid 100": 91.13,
    },
}
"""Figure 9 of the paper, accuracies in %."""


@experiment(paper="scaled conversion and hybrid training with STDB (after Rathi et al. 2020), figure 9")
@dataclass
class HybridConversion(Experiment):
    """Conversion at many and at few steps, and STDB after it: LeNet-5 on MNIST, VGGs on CIFAR-10.

    One ANN is trained under the constraints of conversion and serves all rows: thresholds from the largest currents at
    T = 2500; scaled by a factor found on held out samples at fewer steps; that network trained on by STDB.
    """

    arch: str = "lenet-5"
    """Network: lenet-5, vgg-5, vgg-9 or vgg-16, or any other notation (then without the paper's figures)."""
    steps: str = "100"
    """Time steps of the scaled and the hybrid rows, with commas: 200,100."""
    long_steps: int = 2500
    """Time steps of the row that is converted alone; 0 leaves it out."""
    epochs: int = 20
    """Passes of the ANN over the training set."""
    tune_epochs: int = 1
    """Passes by STDB; the paper takes fewer than 20."""
    tune_limit: int | None = None
    """Train by STDB on the first N samples only."""
    tune_lr: float = 1e-4
    """Adam's learning rate of these; few samples want less."""

    def rows(self, data: Dataset) -> Iterator[Row]:
        paper = PAPER.get(self.arch, {})
        steps = numbers(self.steps, "--steps")
        common: dict[str, Any] = {"arch": self.arch, "epochs": self.epochs}
        first = self.trained(f"scaled-{steps[0]}", "scaled-threshold", data, steps=steps[0], **common)
        ann = str(self.folder / f"scaled-{steps[0]}" / "ann")
        yield Row(f"{self.arch}, ANN", paper.get("ann"), 100 * first["ann_test_accuracy"])
        if self.long_steps:
            run = self.trained(
                f"converted-{self.long_steps}", "rmp", data, steps=self.long_steps, arch=self.arch, ann=ann
            )
            curve = run["accuracy_by_step"]
            self.curves["thresholds of the largest current"] = [[t + 1, 100 * a] for t, a in enumerate(curve)]
            yield Row(f"converted, T = {self.long_steps}", paper.get(str(self.long_steps)), 100 * curve[-1])
        factors: dict[int, float] = {}
        for t in steps:
            run = self.trained(f"scaled-{t}", "scaled-threshold", data, steps=t, ann=ann, **common)
            factors[t] = run["k"]
            self.curves[f"scaled for T = {t}"] = [[i + 1, 100 * a] for i, a in enumerate(run["accuracy_by_step"])]
            note = f"k = {run['k']:g}"
            yield Row(f"scaled thresholds, T = {t}", paper.get(f"scaled {t}"), 100 * run["test_accuracy"], note=note)
        for t in steps:
            run = self.trained(
                f"hybrid-{t}",
                "hybrid-stdb",
                data,
                limit=self.tune_limit,
                steps=t,
                ann=ann,
                search="",
                k=factors[t],
                tune_epochs=self.tune_epochs,
                tune_lr=self.tune_lr,
                **common,
            )
            self.curves[f"hybrid, T = {t}"] = [[i + 1, 100 * a] for i, a in enumerate(run["accuracy_by_step"])]
            samples = run["train_samples"]
            note = f"STDB on {samples:,} images, epochs: {self.tune_epochs}"
            yield Row(f"hybrid, T = {t}", paper.get(f"hybrid {t}"), 100 * run["test_accuracy"], note=note)
