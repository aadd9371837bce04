"""DIET-SNN: conversion as a start, then weights, leaks and thresholds trained for a few steps of direct input."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn

from spikewright.arch import arch
from spikewright.convert import Method, SpikeFed
from spikewright.data import Dataset
from spikewright.engine.optim import Adam, Cosine
from spikewright.losses import CrossEntropy
from spikewright.neurons import TunableLIF
from spikewright.phases import Fit, Phase
from spikewright.readout import LastMembrane
from spikewright.recipes import recipe
from spikewright.recipes.conversion import ConversionRecipe
from spikewright.snn import SNN
from spikewright.surrogate import ScaledTriangle, Surrogate


@dataclass(frozen=True)
class Tunable:
    """Makes a `TunableLIF` for an activation."""

    surrogate: Surrogate = field(default_factory=ScaledTriangle)

    def __call__(self, v_th: float, size: float, activation: nn.Module) -> nn.Module:
        """Of this threshold; it does not leak at first."""
        return TunableLIF(1.0, v_th, surrogate=self.surrogate, size=size)


@recipe(
    paper="Rathi & Roy 2021",
    reports={"cifar10": 93.44},
    presets={
        "digits": {"arch": "16C3-P2-32C3-P2-100-10", "epochs": 20, "batch": 32, "lr": 2e-3, "tune_lr": 1e-3},
        "cifar10": {"arch": "vgg-5", "epochs": 60, "batch": 128},
    },
)
@dataclass
class DIET(ConversionRecipe):
    """Direct input encoding with trained leaks and thresholds.

    The ANN (no biases, average pools, dropout) gives the weights; a layer's threshold is the 99.7th percentile of what
    it receives in the spiking network, times k; leaks start at 1. Then weights, one leak and one threshold a layer are
    trained through time on the potential of the output layer. Integrate, fire (u > v) and reset by subtraction in one
    step; the tent surrogate. Leaks are kept at most 1; thresholds above 0, which the authors do not say. Their cosine
    rises again after 128 of 300 epochs; ours falls once. No weight decay, so that leaks and thresholds do not shrink.
    """

    arch: str = "64C3-P2-128C3-P2-1024-10"
    """Network, in the papers' notation or by name."""
    steps: int = 5
    """Time steps T."""
    k: float = 0.3
    """Factor on all thresholds before training on."""
    percentile: float = 99.7
    """Of the currents of a layer, what its threshold is made from."""
    estimate_steps: int = 100
    """Time steps of the passes that find the thresholds."""
    samples: int = 512
    """Training samples that thresholds are found on."""
    alpha: float = 0.3
    """Height of the tent surrogate."""
    tune_epochs: int = 5
    """Passes over the training set with spikes."""
    tune_batch: int = 64
    """Samples a step of these."""
    tune_lr: float = 1e-4
    """Adam's highest learning rate of these; it falls along a cosine."""

    def network(self, data: Dataset) -> nn.Module:
        normalize = (data.mean, data.std)
        return arch(self.arch, data, nn.ReLU(), bias=False, spiking_output=False, normalize=normalize)

    def method(self) -> Method:
        return Method(
            estimate=SpikeFed(self.estimate_steps, self.percentile),
            k=self.k,
            form="thresholds",
            neuron=Tunable(ScaledTriangle(self.alpha)),
            bias="none",
            dropout="hold",
            readout=LastMembrane(),
        )

    def after(self, snn: SNN, data: Dataset) -> Iterator[Phase]:
        optimizer = Adam(self.tune_lr, amsgrad=True)
        yield Fit(
            snn, CrossEntropy(), self.tune_epochs, self.tune_batch, optimizer, Cosine(), augment=self.augment(data)
        )
