"""Mostafa 2017: in z = exp(t) the first spike time is a fraction of sums, and its gradient exact."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn

from spikewright.data import Dataset
from spikewright.encode import TwoTimes
from spikewright.engine.optim import SGD, Cosine, Geometric
from spikewright.losses import CrossEntropy
from spikewright.phases import Fit, Phase
from spikewright.readout import FirstSpikeZ
from spikewright.recipes import Recipe, recipe
from spikewright.snn import SNN
from spikewright.times import ExponentialIF
from spikewright.times.network import dense


@recipe(
    paper="Mostafa 2017",
    reports={"mnist": 97.55},
    presets={"digits": {"arch": "100-10", "epochs": 20}},
)
@dataclass
class Mostafa(Recipe):
    """Exact gradients of first spike times of non-leaky neurons with exponential synaptic currents, in z = exp(t).

    Pixels are binarised: bright ones fire at t = 0, dark ones at tau_s ln 6. Cross-entropy of a softmax over -z of the
    outputs; the cost lift * max(0, v_th - sum of weights) lets every neuron fire; the gradient of a neuron's weights is
    cut at a norm. An output without a spike has the z of the end, T. The paper's time has no unit: here tau_s = 10
    steps, which only the deadlines of the evaluation see. Learning rate and lift are not certain from the source.

    --exact-paper-mode is batch 10 with plain descent, its rate falling geometrically from 0.01 to 0.0001.
    """

    arch: str = "800-10"
    """Neurons of the layers (the paper also has 400-400-10)."""
    steps: int = 60
    """Time steps T."""
    tau_s: float = 10.0
    """Synaptic time constant, steps."""
    v_th: float = 1.0
    """Firing threshold."""
    lift: float = 100.0
    """Weight of the cost of weights that sum up to less than the threshold."""
    clip_rows: float = 1.0
    """Largest norm of the gradient of a neuron's weights."""
    gain: float = 4.0
    """Weights begin in U(0, 2 gain v_th / inputs), so that they sum up to gain times the threshold."""
    epochs: int = 60
    """Passes over the training set."""
    batch: int = 10
    """Samples a step."""
    lr: float = 0.01
    """Learning rate of plain descent."""
    decay: float = 0.0
    """Weight decay."""
    schedule: Literal["geometric", "cosine"] = "geometric"
    """The paper's fall by a factor of 100, or a cosine."""
    exact_paper_mode: bool = False
    """The paper's batch and learning rate, whatever the flags say."""

    def plan(self, data: Dataset) -> Iterator[Phase]:
        body = dense(self.arch, data, lambda n, m: ExponentialIF(n, m, self.v_th, self.lift, self.tau_s))
        for layer in body:
            if isinstance(layer, ExponentialIF):
                nn.init.uniform_(layer.weight, 0, 2 * self.gain * self.v_th / layer.in_features)
        snn = SNN(body, self.steps, TwoTimes(self.tau_s * math.log(6)), FirstSpikeZ(self.tau_s))
        exact = self.exact_paper_mode
        yield Fit(
            snn,
            CrossEntropy(),
            self.epochs,
            10 if exact else self.batch,
            SGD(0.01 if exact else self.lr, self.decay, momentum=0.0),
            Cosine() if self.schedule == "cosine" and not exact else Geometric(0.01),
            clip_rows=self.clip_rows,
        )
