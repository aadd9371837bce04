"""Mostafa 2017: in z = exp(t) the first spike time is a fraction of sums, and its gradient exact."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from spikewright.data import Dataset
from spikewright.encode import TwoTimes
from spikewright.engine.optim import SGD, Adam, Cosine, Geometric
from spikewright.losses import CrossEntropy
from spikewright.phases import Fit, Phase
from spikewright.readout import FirstSpikeZ
from spikewright.recipes import Augmented, recipe
from spikewright.snn import SNN
from spikewright.times import ExponentialIF
from spikewright.times.network import dense


@recipe(
    paper="Mostafa 2017",
    reports={"mnist": 97.55},
    presets={
        "digits": {"arch": "100-10", "epochs": 20, "batch": 20, "lr": 5e-3},
        "mnist": {"epochs": 24, "gain": 8.0, "crop": 1},
    },
)
@dataclass
class Mostafa(Augmented):
    """Exact gradients of first spike times of non-leaky neurons with exponential synaptic currents, in z = exp(t).

    Pixels are binarised: bright ones fire at t = 0, dark ones at tau_s ln 6. Cross-entropy of a softmax over -z of the
    outputs; the cost lift * max(0, v_th - sum of weights) lets every neuron fire; the gradient of a neuron's weights is
    cut at a norm. An output without a spike has the z of the end, T. The paper's time has no unit: here tau_s = 10
    steps, which only the deadlines of the evaluation see. Weights begin normal, of mean gain v_th / inputs and four
    times that as deviation (the source gives none; with all weights positive learning starts slowly).

    With the paper's cost the weights of the outputs shrink until they sum up to just the threshold, which only delays
    the wrong ones further: spikes come late, z = sum w z / (sum w - v_th) explodes, and gradients are cut for being
    huge. So the sum must keep a reserve.

    Adam takes the place of the paper's plain descent, which --exact-paper-mode restores: batch 10, its rate falling
    geometrically from 0.01 to 0.0001 (rate and lift are not certain from the source).
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
    reserve: float = 1.0
    """They must sum up to 1 + reserve times the threshold; the paper's cost has no reserve."""
    clip_rows: float = 1.0
    """Largest norm of the gradient of a neuron's weights."""
    gain: float = 4.0
    """A neuron's weights sum up to about gain times the threshold at the beginning."""
    epochs: int = 60
    """Passes over the training set."""
    batch: int = 50
    """Samples a step."""
    lr: float = 1e-3
    """Highest learning rate of Adam; it falls along a cosine."""
    exact_paper_mode: bool = False
    """The paper's batch, plain descent, learning rate and unmoved images, whatever the flags say."""

    def plan(self, data: Dataset) -> Iterator[Phase]:
        exact = self.exact_paper_mode
        reserve = 0.0 if exact else self.reserve
        body = dense(self.arch, data, lambda n, m: ExponentialIF(n, m, self.v_th, self.lift, self.tau_s, reserve))
        for layer in body:
            if isinstance(layer, ExponentialIF):
                mean = self.gain * self.v_th / layer.in_features
                nn.init.normal_(layer.weight, mean, 4 * mean)
        snn = SNN(body, self.steps, TwoTimes(self.tau_s * math.log(6)), FirstSpikeZ(self.tau_s))
        yield Fit(
            snn,
            CrossEntropy(),
            self.epochs,
            10 if exact else self.batch,
            SGD(0.01, momentum=0.0) if exact else Adam(self.lr),
            Geometric(0.01) if exact else Cosine(),
            augment=None if exact else self.augment(data),
            clip_rows=self.clip_rows,
        )
