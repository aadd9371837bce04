"""Tempotron: a neuron learns to fire for some patterns and to stay silent for others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from spikewright.data import Dataset
from spikewright.encode import Frames, LinearLatency
from spikewright.engine.optim import SGD
from spikewright.errors import ConfigError
from spikewright.losses import Tempotron as Cost
from spikewright.neurons import DoubleExponential, ExactJump, UnitPeak
from spikewright.neurons.parts import Factor
from spikewright.phases import Fit, Phase
from spikewright.readout import MaxMembrane, Threshold
from spikewright.recipes import Recipe, recipe
from spikewright.snn import SNN


@recipe(
    paper="Guetig & Sompolinsky 2006",
    presets={"digits": {"steps": 50, "dt": 2.0, "batch": 10, "lr": 0.05, "epochs": 30}},
)
@dataclass
class Tempotron(Recipe):
    """Tempotron: fire for one class, by a step at the time of the highest potential of each wrong decision.

    V(t) = sum_i w_i sum K(t - t_i), K the difference of exponentials of peak 1; the neuron fires if V reaches v_th, and
    what comes after its spike is shunted, so only the potential without resets matters. On errors alone
    dw_i = +-lr sum over t_i <= t_max of K(t_max - t_i), with momentum. Two classes take one neuron; more take one each,
    and the highest potential decides. Images enter as one spike a pixel, the stronger the earlier.
    """

    steps: int = 545
    """Time steps T."""
    dt: float = 1.0
    """Length of a step, ms."""
    tau_m: float = 15.0
    """Membrane time constant, ms."""
    tau_s: float = 3.75
    """Synaptic time constant, ms."""
    v_th: float = 1.0
    """Firing threshold."""
    weight: float = 0.01
    """Deviation of the initial weights."""
    epochs: int = 20
    """Passes over the training set."""
    batch: int = 1
    """Samples a step, whose changes are averaged; the method is defined for 1."""
    lr: float = 1e-3
    """Learning rate lambda."""
    momentum: float = 0.9
    """Momentum."""

    def plan(self, data: Dataset) -> Iterator[Phase]:
        if data.num_classes < 2:
            raise ConfigError(f"tempotron tells classes apart, {data.name} has one: try spike-classes")
        if not 0 < self.dt < float("inf"):
            raise ConfigError(f"recipe 'tempotron': dt is {self.dt}, expected a finite step above 0 ms")
        tau_m, tau_s = self.tau_m / self.dt, self.tau_s / self.dt
        neurons = 1 if data.num_classes == 2 else data.num_classes
        channels, height, width = data.shape
        dense = nn.Linear(channels * height * width, neurons, bias=False)
        nn.init.normal_(dense.weight, 0, self.weight)
        body = nn.Sequential(nn.Flatten(), dense, DoubleExponential(ExactJump(tau_s), UnitPeak(tau_m, tau_s)))
        encode = Frames() if data.frames else LinearLatency()
        readout = Threshold(self.v_th) if neurons == 1 else MaxMembrane(Factor(0.0))
        snn = SNN(body, self.steps, encode, readout)
        yield Fit(snn, Cost(self.v_th), self.epochs, self.batch, SGD(self.lr, momentum=self.momentum))
