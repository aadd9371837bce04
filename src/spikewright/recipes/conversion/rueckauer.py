"""Rueckauer et al. 2017: weights normalised by a percentile of the activations, soft reset, analog input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from spikewright.arch import arch
from spikewright.convert import Largest, Method, Percentile, Spiking
from spikewright.data import Dataset
from spikewright.neurons import HardReset, Subtract
from spikewright.readout import Rate, SpikingSoftmax
from spikewright.recipes import recipe
from spikewright.recipes.conversion import ConversionRecipe


@recipe(
    paper="Rueckauer, Lungu, Hu, Pfeiffer, Liu 2017",
    reports={"mnist": 99.44, "cifar10": 90.85},
    presets={
        "digits": {"arch": "16C3-P2-32C3-P2-100-10", "epochs": 20, "batch": 32, "lr": 2e-3},
        "cifar10": {"arch": "vgg-5", "epochs": 60, "batch": 128},
    },
)
@dataclass
class Rueckauer(ConversionRecipe):
    """Rate conversion of a ReLU network with biases, batch norm, max pools and branches.

    W_l <- W_l lambda_{l-1}/lambda_l, b_l <- b_l/lambda_l, with lambda the 99.9th percentile of the activations above
    zero; integrate-and-fire with reset by subtraction; the image is a constant current; the output layer is not scaled
    and its accumulated potential decides, or a softmax of it emits spikes that are counted. The average pool passes
    fractions on; the authors' simulator has neurons there (`pool spiking`).
    """

    batch_norm: bool = False
    """Batch norm behind the convolutions, folded before conversion."""
    percentile: float = 99.9
    """Percentile of a layer's nonzero activations that a rate of 1 stands for; 100 is the maximum."""
    reset: Literal["subtract", "zero"] = "subtract"
    """What a spike does to the membrane."""
    strict: bool = False
    """Fire at v > v_th instead of v >= v_th."""
    v_init: float = 0.0
    """Membrane at the start, in thresholds; 1/2 centres the rounding."""
    pool: Literal["linear", "spiking"] = "linear"
    """Average pools that pass fractions on, or have neurons of their own."""
    max_pool: Literal["gate", "average"] = "gate"
    """Max pools as gates that follow the input with most spikes, or replaced by average pools."""
    output: Literal["potential", "counts", "softmax"] = "potential"
    """What decides: the output's accumulated potential, spikes of output neurons, or spikes drawn by a softmax."""

    def network(self, data: Dataset) -> nn.Module:
        normalize = (data.mean, data.std) if data.shape[0] > 1 else None
        return arch(self.arch, data, nn.ReLU(), batch_norm=self.batch_norm, spiking_output=False, normalize=normalize)

    def method(self) -> Method:
        return Method(
            estimate=Largest() if self.percentile == 100 else Percentile(self.percentile),
            form="weights",
            neuron=Spiking(Subtract() if self.reset == "subtract" else HardReset(), self.strict, v_init=self.v_init),
            pool=self.pool,
            max_pool=self.max_pool,
            spiking_output=self.output == "counts",
            readout=SpikingSoftmax() if self.output == "softmax" else Rate(),
        )
