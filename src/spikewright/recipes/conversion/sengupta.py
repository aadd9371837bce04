"""Sengupta et al. 2019: thresholds from what each layer receives in the spiking network (SPIKE-NORM)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spikewright.arch import arch
from spikewright.convert import Method, SpikeFed, Spiking
from spikewright.data import Dataset
from spikewright.encode import Bernoulli
from spikewright.neurons import HardReset, Reset
from spikewright.readout import LastMembrane
from spikewright.recipes import recipe
from spikewright.recipes.conversion import ConversionRecipe

PRESETS = {
    "digits": {"arch": "16C3-P2-32C3-P2-100-10", "epochs": 20, "batch": 32, "lr": 2e-3},
    "cifar10": {"arch": "vgg-5", "epochs": 60, "batch": 64, "signed": True},
}


@recipe(paper="Sengupta, Ye, Wang, Liu, Roy 2019", reports={"cifar10": 91.55}, presets=PRESETS)
@dataclass
class Sengupta(ConversionRecipe):
    """SPIKE-NORM: each threshold is the largest current its layer receives while the layers before it spike.

    ReLU without biases and batch norm, dropout, average pools that pass fractions on; unit spikes, weights as they are
    (the threshold is the ratio of two layers' scales); Bernoulli input, signed for normalised pixels; reset to zero;
    the output layer integrates without spiking.
    """

    arch: str = "lenet-5"
    """Network, in the papers' notation or by name."""
    steps: int = 2500
    """Time steps T."""
    k: float = 1.0
    """Factor on all thresholds."""
    estimate_steps: int = 100
    """Time steps of the passes that find the thresholds."""
    samples: int = 512
    """Training samples that thresholds are found on."""
    signed: bool = False
    """Pixels normalised to -1..1 and coded by signed spikes; else pixels in 0..1."""

    def network(self, data: Dataset) -> nn.Module:
        normalize = ((0.5,) * data.shape[0], (0.5,) * data.shape[0]) if self.signed else None
        return arch(self.arch, data, nn.ReLU(), bias=False, spiking_output=False, normalize=normalize)

    def reset(self) -> Reset:
        """What a spike does to the membrane."""
        return HardReset()

    def neuron(self) -> Spiking:
        """What takes an activation's place."""
        return Spiking(self.reset())

    def method(self) -> Method:
        return Method(
            estimate=SpikeFed(self.estimate_steps),
            k=self.k,
            form="thresholds",
            neuron=self.neuron(),
            encode=Bernoulli(signed=self.signed),
            bias="none",
            readout=LastMembrane(),
        )
