"""Li et al. 2021: thresholds of least squared error, then calibration of what the spiking layers lack."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from spikewright.arch import arch
from spikewright.convert import (
    MMSE,
    BiasCalibration,
    ChargeCalibration,
    Correction,
    Method,
    Spiking,
    WeightCalibration,
)
from spikewright.data import Dataset
from spikewright.recipes import recipe
from spikewright.recipes.conversion import ConversionRecipe


@recipe(
    paper="Li, Deng, Dong, Gong, Gu 2021",
    reports={"cifar10": 93.65},
    presets={
        "digits": {"arch": "16C3-P2-32C3-P2-100-10", "epochs": 20, "batch": 32, "lr": 2e-3},
        "cifar10": {"arch": "vgg-5", "epochs": 60, "batch": 128},
    },
)
@dataclass
class CalibrationRecipe(ConversionRecipe):
    """SNN calibration: a ReLU network with batch norm, converted for a given T and mended on training samples.

    Thresholds by a grid of least squared error at T; spikes as large as the threshold; the bias shifted by v_th/(2T);
    then, layer by layer, biases get what the channels' mean rates lack (`light`), or membranes start with it
    (`advanced`), or weights are trained to the ANN's activations (`weights`, before `light`). T is that of the run
    everywhere (the released script fixes it at 32). One threshold a layer; the paper's option of one a channel is left
    out.
    """

    steps: int = 16
    """Time steps T."""
    calibrate: Literal["none", "light", "advanced", "weights"] = "light"
    """What is mended: nothing, biases, initial potentials, or weights and biases."""
    batch_norm: bool = True
    """Batch norm behind the convolutions, folded before conversion."""
    iterations: int = 500
    """Steps of Adam a layer for `weights`; the paper takes 5000."""

    def network(self, data: Dataset) -> nn.Module:
        normalize = (data.mean, data.std)
        return arch(
            self.arch, data, nn.ReLU(), batch_norm=self.batch_norm, spiking_output=False, normalize=normalize, bias=True
        )

    def method(self) -> Method:
        chosen: dict[str, tuple[Correction, ...]] = {
            "none": (),
            "light": (BiasCalibration(),),
            "advanced": (ChargeCalibration(),),
            "weights": (WeightCalibration(self.iterations), BiasCalibration()),
        }
        return Method(
            estimate=MMSE(self.steps),
            form="spikes",
            neuron=Spiking(),
            shift=1 / (2 * self.steps),
            correct=chosen[self.calibrate],
        )
