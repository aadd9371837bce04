"""Diehl et al. 2015: weights balanced by the model or by data, so that no neuron needs two spikes in a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from spikewright.arch import arch
from spikewright.convert import Largest, Method, ModelBased, Spiking
from spikewright.data import Dataset
from spikewright.encode import Bernoulli
from spikewright.engine.optim import AdamW, Cosine
from spikewright.losses import RateMSE
from spikewright.neurons import HardReset
from spikewright.phases import Fit
from spikewright.recipes import recipe
from spikewright.recipes.conversion import ConversionRecipe
from spikewright.snn import SNN


@recipe(
    paper="Diehl, Neil, Binas, Cook, Liu, Pfeiffer 2015",
    reports={"mnist": 99.14},
    presets={
        "digits": {"arch": "16C3-P2-32C3-P2-100-10", "epochs": 20, "batch": 32, "lr": 2e-3},
    },
)
@dataclass
class Diehl(ConversionRecipe):
    """Weight balancing: ReLU without biases, average pools, reset to zero, Bernoulli input, output spikes counted.

    Data-based: each layer is divided by s_l / s_{l-1}, with s_l the larger of its largest weight and its largest
    activation. (The authors' released code divides by another factor from the third layer on; here the factors multiply
    up to s_l.) Model-based: s_l is the worst case, the largest sum of positive weights of an output. All layers are
    balanced, the last one too, since output neurons that saturate would tie. The outputs are
    fitted to the one-hot target by least squares and rectified afterwards: a rectified output that never becomes
    active would never learn. The authors' learning rates belong to their framework; ours is AdamW.
    """

    arch: str = "12C5-P2-64C5-P2-10"
    """Network, in the papers' notation or by name."""
    norm: Literal["data", "model"] = "data"
    """Balanced by the largest activation on data, or by the weights alone."""
    max_rate: float = 1.0
    """Spikes of an input of value 1 per step, at most 1."""
    steps: int = 100
    """Time steps T; 1 ms each in the paper."""

    def network(self, data: Dataset) -> nn.Module:
        return arch(self.arch, data, nn.ReLU(), bias=False, spiking_output=False)

    def training(self, ann: SNN, data: Dataset) -> Fit:
        return Fit(ann, RateMSE(), self.epochs, self.batch, AdamW(self.lr), Cosine(), augment=self.augment(data))

    def method(self) -> Method:
        return Method(
            estimate=Largest(weights=True) if self.norm == "data" else ModelBased(),
            form="weights",
            neuron=Spiking(HardReset()),
            encode=Bernoulli(self.max_rate),
            pool="spiking",
            spiking_output=True,
            bias="none",
        )
