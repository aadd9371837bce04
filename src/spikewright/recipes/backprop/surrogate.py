"""The plain modern baseline: direct encoding, LIF, arctan surrogate, cross-entropy on the mean output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spikewright.arch import arch
from spikewright.data import Dataset
from spikewright.encode import Direct, Frames
from spikewright.engine.optim import AdamW, Cosine
from spikewright.losses import CrossEntropy
from spikewright.neurons import LIF, HardReset, HeldDropout
from spikewright.phases import Fit, Phase
from spikewright.readout import Rate
from spikewright.recipes import Augmented, recipe
from spikewright.snn import SNN
from spikewright.surrogate import ATan


@recipe(
    paper="Neftci et al. 2019; Fang et al. 2021 (parts)",
    presets={
        "digits": {"arch": "32C3-P2-64C3-P2-128-10", "epochs": 15, "batch": 32, "lr": 2e-3},
        "nmnist": {"steps": 10},
        "cifar10": {"arch": "64C3-128C3-P2-256C3-P2-512C3-P2-512-10", "epochs": 60},
    },
)
@dataclass
class Surrogate(Augmented):
    """Surrogate gradients, the plain modern baseline: direct encoding, LIF, arctan, batch norm, cross-entropy.

    No paper of its own: the parts are those on which the field has settled (u = v + (I - v)/tau, hard reset whose
    gradient is cut, batch norm over time and batch, an output layer without neurons whose mean over the steps is the
    class score). The default method of `spikewright train`.
    """

    arch: str = "32C3-P2-64C3-P2-256-10"
    """Network, in the papers' notation or by name."""
    steps: int = 4
    """Time steps T."""
    tau: float = 2.0
    """Membrane time constant, steps."""
    alpha: float = 2.0
    """Slope of the arctan surrogate."""
    epochs: int = 10
    """Passes over the training set."""
    batch: int = 64
    """Samples a step."""
    lr: float = 1e-3
    """Highest learning rate of AdamW; it falls along a cosine."""

    def plan(self, data: Dataset) -> Iterator[Phase]:
        neuron = LIF(self.tau, surrogate=ATan(self.alpha), reset=HardReset())
        normalize = None if data.frames else (data.mean, data.std)
        body = arch(
            self.arch, data, neuron, batch_norm=True, spiking_output=False, normalize=normalize, dropout=HeldDropout
        )
        snn = SNN(body, self.steps, Frames() if data.frames else Direct(), Rate())
        yield Fit(
            snn, CrossEntropy(), self.epochs, self.batch, AdamW(self.lr), Cosine(warmup=0.5), augment=self.augment(data)
        )
