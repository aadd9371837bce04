"""BS4NN: S4NN whose weights act by their sign alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn

from spikewright.data import Dataset
from spikewright.encode import LinearLatency
from spikewright.engine.optim import SGD, Constant, Cosine
from spikewright.losses import RelativeTarget
from spikewright.phases import Fit, Phase
from spikewright.readout import FirstSpike
from spikewright.recipes import Augmented, recipe
from spikewright.snn import SNN
from spikewright.times import BinaryIF
from spikewright.times.network import dense


@recipe(
    paper="Kheradpisheh, Mirsadeghi, Masquelier 2022",
    reports={"mnist": 97.0, "fashion-mnist": 87.3},
    presets={"digits": {"arch": "200-10", "v_th": 25.0, "epochs": 25, "batch": 20, "lr_scale": 20.0}},
)
@dataclass
class BS4NN(Augmented):
    """S4NN with binary weights, +1 and -1, and one scale a layer; the real weights behind them take the gradient.

    Differences from S4NN as in the authors' code: black pixels fire at the last step (too late to make anything fire,
    but not to be learned from), a margin of 1 step, no error for an image at which all outputs are silent, no new draw
    of idle neurons. Ties are wrong here. --start paper draws the real weights from U(0, 5) and U(0, 48), so that all
    signs begin as +1 and hidden neurons as copies of each other; --start signed, a variant, draws U(-0.4, 0.6).

    --exact-paper-mode works image by image, with errors sent down through the weights already updated. (The authors
    draw images with replacement; here every image comes once an epoch.)
    """

    arch: str = "600-10"
    """Neurons of the layers."""
    steps: int = 256
    """Time steps T."""
    v_th: float = 100.0
    """Firing threshold; the layer's scale divides it."""
    scale: float = 5.0
    """Scale of both layers at the beginning."""
    gamma: float = 1.0
    """Steps by which the other outputs should stay behind the first."""
    start: Literal["signed", "paper"] = "signed"
    """Weights at the beginning: around 0, or all positive as in the paper."""
    epochs: int = 200
    """Passes over the training set."""
    batch: int = 50
    """Samples a step."""
    lr: float = 0.1
    """Learning rate of plain descent for a batch of 1; a batch is taken at lr times lr_scale."""
    lr_scale: float = 50.0
    """Factor on lr for batches: at the batch size the steps of its samples add up."""
    lr_of_scale: float = 0.01
    """The scales' own learning rate, for a batch of 1."""
    schedule: Literal["constant", "cosine"] = "constant"
    """The paper's rate is constant; a cosine serves runs much shorter than its 200 epochs."""
    exact_paper_mode: bool = False
    """Work image by image as the authors' code does."""

    def plan(self, data: Dataset) -> Iterator[Phase]:
        exact = self.exact_paper_mode
        body = dense(self.arch, data, self._layer)
        layers = [m for m in body if isinstance(m, BinaryIF)]
        for layer in layers:
            if self.start == "paper" or exact:
                nn.init.uniform_(layer.weight, 0, 48 if layer is layers[-1] else 5)
            else:
                nn.init.uniform_(layer.weight, -0.4, 0.6)
        snn = SNN(body, self.steps, LinearLatency(silent_zero=False), FirstSpike())
        yield Fit(
            snn,
            RelativeTarget(self.gamma, skip_silent=True),
            self.epochs,
            1 if exact else self.batch,
            SGD(self.lr if exact else self.lr * self.lr_scale, momentum=0.0),
            Cosine() if self.schedule == "cosine" else Constant(),
            augment=self.augment(data),
        )

    def _layer(self, inputs: int, neurons: int) -> BinaryIF:
        ahead = self.lr if self.exact_paper_mode else 0.0
        return BinaryIF(
            inputs, neurons, self.v_th, ahead=ahead, scale=self.scale, scale_rate=self.lr_of_scale / self.lr
        )
