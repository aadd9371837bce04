"""Noise: a net trained for one step with noise for membranes, run for T steps with membranes for noise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from spikewright.arch import arch
from spikewright.data import Dataset
from spikewright.engine.optim import Adam, Cosine, WarmRestarts
from spikewright.errors import ConfigError
from spikewright.losses import RateMSE
from spikewright.neurons import LIF, Factor, NoisyLIF
from spikewright.phases import Fit, Phase
from spikewright.recipes import Augmented, recipe
from spikewright.snn import SNN
from spikewright.surrogate import Rectangle


@recipe(
    paper="Jiang & Zhang",
    reports={"mnist": 99.64, "fashion-mnist": 94.07, "cifar10": 92.07},
    presets={
        "digits": {"arch": "32C3-P2-64C3-P2-128-10", "epochs": 20, "batch": 32, "lr": 2e-3, "schedule": "cosine"},
        "fashion-mnist": {"epochs": 200},
        "cifar10": {"arch": "vgg-16", "epochs": 1000, "batch_norm": True},
    },
)
@dataclass
class Noise(Augmented):
    """Single-step training with noise: the time of an ANN's training, then any number of steps without any more.

    One step of a LIF net has no history; noise in 0..1 stands for it while the weights are learned. Afterwards the net
    runs T steps: each neuron's membrane, shifted and scaled, takes the noise's place, but for what is left of it
    (`NoisyLIF`). The image is the input at every step; the last layer is linear and its mean over the steps is fitted
    to the one-hot target by least squares.

    The paper leaves open: batch size, augmentation (crops and flips for CIFAR-10 only), normalisation of pixels (to
    mean 0 and variance 1 here), the surrogate (the rectangle of STBP, which it cites), batch norm (in the VGG and the
    ResNet only), and over what the noise's maximum is taken (a sample's layer here, so that samples do not meet).
    """

    arch: str = "64C3-AP2-128C3-AP2-128C3-AP2-512-10"
    """Network, in the papers' notation or by name."""
    steps: int = 10
    """Time steps T of the network that results; training takes one."""
    alpha: float | None = 4.0
    """The normalised membrane reaches 1 / alpha to both sides of beta; at least 2, None for infinity (noise alone)."""
    beta: float = 0.5
    """Mean of the normalised membrane."""
    noise: Literal["gaussian", "uniform", "none"] = "gaussian"
    """What stands for the membrane in training: noise in 0..1, or (none) its mean."""
    over: Literal["sample", "channel", "batch"] = "sample"
    """Whose maximum bounds noise and membrane: a sample's layer, its channels, or the whole batch's layer."""
    match: Literal["range", "variance"] = "range"
    """What membrane and remaining noise together share with the noise of training."""
    first: Literal["noise", "rest"] = "noise"
    """The first step is that of training, or starts from a flat membrane."""
    width: float = 0.5
    """Half-width of the rectangular surrogate; its height keeps the area 1."""
    leak: float = 0.5
    """What an ordinary membrane keeps from step to step; of the noisy ones it cancels out."""
    batch_norm: bool = False
    """Batch norm after every convolution."""
    epochs: int = 100
    """Passes over the training set."""
    batch: int = 128
    """Samples a step."""
    lr: float = 1e-4
    """Learning rate of Adam."""
    until: float = 0.0
    """Stop after the epoch that reaches this validation accuracy in %, after T steps; 0 for never."""
    direct: bool = False
    """For comparison: the same net with ordinary LIF neurons, trained by surrogate gradients through all steps."""
    schedule: Literal["restarts", "cosine"] = "restarts"
    """The paper's cosine over every 100 epochs, or one over the run, for runs much shorter than that."""

    def plan(self, data: Dataset) -> Iterator[Phase]:
        if data.frames:
            raise ConfigError(f"noise: {data.name} are frames, but single-step training needs one input: take images")
        surrogate = Rectangle(self.width, 1 / (2 * self.width))
        noisy = NoisyLIF(
            self.alpha,
            self.beta,
            noise=self.noise,
            over=self.over,
            match=self.match,
            first=self.first,
            surrogate=surrogate,
        )
        ordinary = LIF(leak=Factor(self.leak), surrogate=surrogate, strict=True)
        body = arch(
            self.arch,
            data,
            ordinary if self.direct else noisy,
            batch_norm=self.batch_norm,
            spiking_output=False,
            normalize=(data.mean, data.std),
        )
        schedule = Cosine() if self.schedule == "cosine" else WarmRestarts(100)
        snn = SNN(body, self.steps)
        yield Fit(
            snn,
            RateMSE(),
            self.epochs,
            self.batch,
            Adam(self.lr),
            schedule,
            augment=self.augment(data),
            steps=None if self.direct else 1,
            validate_steps=self.steps if self.until else None,
            until=self.until / 100 or None,
        )
