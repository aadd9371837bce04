"""Whetstone: activations sharpened to steps while the network learns, for binary neurons that need one time step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from spikewright.arch import arch
from spikewright.convert import Method, Scheduled, Sharpening, Spiking, Trained
from spikewright.data import Dataset
from spikewright.engine.optim import Adadelta
from spikewright.losses import CrossEntropy
from spikewright.neurons import HardReset
from spikewright.phases import Fit
from spikewright.readout import NHot, Readout
from spikewright.recipes import recipe
from spikewright.recipes.conversion import ConversionRecipe
from spikewright.snn import SNN


@recipe(
    paper="Severa, Vineyard, Dellana, Verzi, Aimone 2019",
    reports={"mnist": 99.53, "cifar10": 84.67},
    presets={
        "digits": {
            "arch": "16C3-MP2-32C3-MP2-100-BN-100-BN",
            "epochs": 48,
            "batch": 20,
            "lr": 4.0,
            "start": 12.0,
            "each": 8.0,
            "pause": 1.0,
        },
    },
)
@dataclass
class Whetstone(ConversionRecipe):
    """Sharpening: a bounded ReLU becomes a step of 0 and 1, layer by layer from the first, while the network learns.

    The result fires once or not at all, at a threshold of 1/2 in one step. The output layer is sharpened too; each
    class has several of its neurons (`NHot`), for single ones die. Batch norm stands before every activation and is
    folded afterwards. The true derivative of the present activation is the gradient, so a layer that is a step learns
    no more. Validation runs the steps, not what they are becoming, so the epoch it chooses is one of the result. The
    schedule is that of the released code in epochs; its adaptive alternative, which waits for the loss, is not here.
    """

    arch: str = "32C7-64C7-MP2-64C5-64C5-MP2-128C3-128C3-256-BN-40-BN"
    """Network, in the papers' notation or by name; its outputs are shared out among the classes."""
    steps: int = 1
    """Time steps T; each says the same."""
    shape: Literal["relu", "sigmoid"] = "relu"
    """What is sharpened."""
    start: float = 30.0
    """Epochs before the first layer is sharpened; all three shrink alike where a run is too short for them."""
    each: float = 4.0
    """Epochs in which a layer becomes a step."""
    pause: float = 2.0
    """Epochs between two layers."""
    disjoint: bool = False
    """No output neuron serves two classes."""
    epochs: int = 77
    """Passes over the training set."""
    batch: int = 128
    """Samples a step."""
    lr: float = 4.0
    """Factor on Adadelta's steps."""

    def network(self, data: Dataset) -> nn.Module:
        return arch(self.arch, data, Sharpening(self.shape), batch_norm=True, spiking_output=True)

    def decoder(self) -> Readout:
        return NHot(10, self.disjoint)

    def training(self, ann: SNN, data: Dataset) -> Fit:
        schedule = Scheduled(self.start, self.each, self.pause)
        end = schedule.end(sum(isinstance(m, Sharpening) for m in ann.modules()))
        if end > self.epochs:  # all of it, in less time
            schedule = Scheduled(*(self.epochs / end * n for n in (self.start, self.each, self.pause)))
        optimizer, augment = Adadelta(self.lr), self.augment(data)
        return Fit(ann, CrossEntropy(), self.epochs, self.batch, optimizer, augment=augment, during=schedule)

    def method(self) -> Method:
        neuron = Spiking(HardReset())
        return Method(estimate=Trained(), form="spikes", neuron=neuron, readout=self.decoder())
