"""Few spikes: activations as numbers of a few weighted spikes, layer after layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import nn

from spikewright.arch import arch
from spikewright.convert import Curve, Largest, Method, OneAfterAnother, Percentile, few_spikes
from spikewright.data import Dataset
from spikewright.recipes import recipe
from spikewright.recipes.conversion import ConversionRecipe


@recipe(
    paper="Stoeckl & Maass 2021",
    reports={"cifar10": 92.42},
    presets={
        "digits": {"arch": "16C3-P2-32C3-P2-100-10", "epochs": 20, "batch": 32, "lr": 2e-3, "steps": 40},
        "cifar10": {"arch": "resnet-18", "epochs": 60, "batch": 128, "steps": 200},
    },
)
@dataclass
class FS(ConversionRecipe):
    """Few-spikes conversion: in K steps a neuron says its activation by spikes that are worth a half, a quarter, ...

    An ordinary ANN; a ReLU becomes K binary digits up to the layer's largest activation, any other activation a neuron
    fitted to it. A layer speaks when the one before has finished, so L layers and the output take K (L + 1) steps, of
    which a sample's first is the only one that reads it; T beyond that changes nothing, and before it the scores mean
    nothing. A spike carries a number, so operations count as multiplications. The paper's pipeline, where the next
    sample follows K steps behind, is a matter of throughput and not simulated. Its tables for other activations are
    not copied but fitted anew; the figure reported is that of ResNet-50.
    """

    steps: int = 60
    """Time steps T, at least `bits` times (layers of neurons + 1)."""
    bits: int = 10
    """K: steps, and digits, of a number."""
    activation: Literal["relu", "silu", "sigmoid"] = "relu"
    """Of the ANN."""
    percentile: float = 100.0
    """Percentile of a layer's nonzero activations that the digits reach to; 100 is the maximum."""

    def network(self, data: Dataset) -> nn.Module:
        unit = nn.ReLU() if self.activation == "relu" else Curve(self.activation)
        return arch(self.arch, data, unit, spiking_output=False)

    def method(self) -> Method:
        return Method(
            estimate=Largest() if self.percentile == 100 else Percentile(self.percentile),
            form="spikes",
            neuron=few_spikes.spiking(self.bits),
            correct=(OneAfterAnother(),),
        )
