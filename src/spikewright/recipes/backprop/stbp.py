"""STBP: backpropagation through space and time with a rectangular window for the spike's derivative."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from spikewright.arch import arch
from spikewright.data import Dataset
from spikewright.encode import Bernoulli, Frames
from spikewright.engine.optim import Adam, Cosine, StepDecay
from spikewright.losses import RateMSE
from spikewright.neurons import LIF, Factor, HardReset
from spikewright.phases import Fit, Phase
from spikewright.recipes import Augmented, recipe
from spikewright.snn import SNN
from spikewright.surrogate import Rectangle


@recipe(
    paper="Wu, Deng, Li, Zhu, Shi 2018",
    reports={"mnist": 99.42, "nmnist": 98.78},
    presets={
        "digits": {"arch": "16C3-P2-32C3-P2-100-10", "epochs": 20, "batch": 50},
        "nmnist": {"arch": "12C5p1-P2-64C5-P2-10", "batch": 50},
        "cifar10": {"arch": "64C3-P2-128C3-P2-256-10"},
    },
)
@dataclass
class STBP(Augmented):
    """Spatio-temporal backpropagation: iterative LIF, rectangular surrogate, gradients through the reset too.

    u[t] = k u[t-1] (1 - s[t-1]) + W x[t] + b, s = 1 if u > v_th; Bernoulli spikes from the pixels; the last layer
    spikes too and the rates are fitted to the one-hot target by least squares. Constants are those of the authors'
    released MNIST code (its network differs from the paper's; ours is the paper's). Rates have T + 1 levels, and ties
    count as wrong here, which the paper's argmax does not. Event data are fed as frames of counts; the paper gives no
    convolutional net for N-MNIST, so its preset borrows that of TSSL-BP.
    """

    arch: str = "15C5-P2-40C5-P2-300-10"
    """Network, in the papers' notation or by name."""
    steps: int = 20
    """Time steps T."""
    leak: float = 0.2
    """Leak factor k."""
    v_th: float = 0.5
    """Firing threshold."""
    width: float = 0.5
    """Half-width of the rectangular surrogate; its height keeps the area 1."""
    epochs: int = 100
    """Passes over the training set."""
    batch: int = 100
    """Samples a step."""
    lr: float = 1e-3
    """Learning rate of Adam."""
    schedule: Literal["step", "cosine"] = "step"
    """The released code's x 0.1 every 40 epochs, or a cosine for runs much shorter than its 100."""

    def plan(self, data: Dataset) -> Iterator[Phase]:
        window = Rectangle(self.width)
        neuron = LIF(
            leak=Factor(self.leak),
            v_th=self.v_th,
            reset=HardReset(detach=False),
            surrogate=replace(window, height=1 / (2 * window.width)),
            strict=True,
        )
        body = arch(self.arch, data, neuron, spiking_output=True)
        snn = SNN(body, self.steps, Frames() if data.frames else Bernoulli())
        schedule = Cosine() if self.schedule == "cosine" else StepDecay(every=40)
        yield Fit(snn, RateMSE(), self.epochs, self.batch, Adam(self.lr), schedule, augment=self.augment(data))
