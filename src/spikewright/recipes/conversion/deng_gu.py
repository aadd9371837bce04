"""Deng & Gu 2021: a clipped ReLU against clipping errors, half a threshold of shift against rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from spikewright.arch import arch
from spikewright.convert import Clip, Largest, Method, Spiking
from spikewright.data import Dataset
from spikewright.engine.optim import SGD, Milestones
from spikewright.phases import Fit
from spikewright.recipes import recipe
from spikewright.recipes.conversion import ConversionRecipe
from spikewright.snn import SNN


@recipe(
    paper="Deng & Gu 2021",
    reports={"cifar10": 95.73},
    presets={
        "digits": {"arch": "16C3-P2-32C3-P2-100-10", "epochs": 20, "batch": 32, "lr": 0.02},
        "cifar10": {"arch": "vgg-5", "epochs": 60, "batch": 128, "lr": 0.01},
    },
)
@dataclass
class DengGu(ConversionRecipe):
    """Optimal conversion: trained with clip(z, 0, limit), thresholds the largest activation on data, a bias shift.

    Spikes are as large as the threshold, weights stay as they are, and every neuron gets v_th/(2T') more each step,
    which centres the rounding of a run of exactly T' steps (`shift_steps`, by default T; read earlier it is too small).
    Soft reset, v >= v_th. The released code ends in a spiking layer for its VGG; here the last layer's mean decides.
    """

    optional: ClassVar[tuple[str, ...]] = ("shift_steps",)

    steps: int = 32
    """Time steps T."""
    lr: float = 0.02
    """Learning rate of SGD (momentum 0.9), a tenth after 50 and after 70 % of the epochs."""
    limit: float = 1.0
    """Upper bound of the clipped ReLU while training."""
    shift_steps: int = 0
    """T' of the shift; 0: T."""
    weight_decay: float = 5e-4
    """L2 penalty."""

    def network(self, data: Dataset) -> nn.Module:
        return arch(self.arch, data, Clip(self.limit), spiking_output=False, normalize=(data.mean, data.std), bias=True)

    def training(self, ann: SNN, data: Dataset) -> Fit:
        optimizer = SGD(self.lr, self.weight_decay)
        schedule = Milestones(at=(0.5, 0.7))
        return Fit(
            ann,
            epochs=self.epochs,
            batch=self.batch,
            optimizer=optimizer,
            schedule=schedule,
            clip=5.0,
            augment=self.augment(data),
        )

    def method(self) -> Method:
        shift = 1 / (2 * (self.shift_steps or self.steps))
        return Method(estimate=Largest(), form="spikes", neuron=Spiking(), shift=shift)
