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
    presets={"digits": {"arch": "200-10", "v_th": 15.0, "lr": 0.1, "epochs": 30}},
)
@dataclass
class BS4NN(Augmented):
    """S4NN with binary weights, +1 and -1, and one scale a layer; the real weights behind them take the gradient.

    Differences from S4NN as in the authors' code: no new draw of idle neurons. (Their black pixels fire at the last
    step: too late to make anything fire or to be learned from, as every neuron fires before or never.) Ties are wrong
    here.

    In the authors' code the real weights hand errors down though their signs are what acts; this and weights that all
    begin positive, U(0, 5) and U(0, 48), with hidden neurons as copies of each other, make it slow (89 % after 24
    epochs). Here errors go down through the signs (--errors real for the paper's way), weights begin around 0, the
    learning rate falls, and outputs start at the scale 1 (at 5 some 30 hidden spikes decide, and outputs that count so
    few tie); margin, deadline and times within a step are as in `s4nn`. --exact-paper-mode has the authors' settings
    and order of work: image by image, margin 1, no error for an image at which all outputs are silent, errors sent down
    through the real weights already updated. (The authors draw images with replacement; here every image comes once an
    epoch.)
    """

    arch: str = "600-10"
    """Neurons of the layers."""
    steps: int = 256
    """Time steps T."""
    v_th: float = 100.0
    """Firing threshold; the layer's scale divides it."""
    scale: float = 5.0
    """Scale of the hidden layers at the beginning; in the exact mode of all."""
    scale_out: float = 1.0
    """Scale of the output layer at the beginning: the smaller, the more hidden neurons fire before an output does."""
    gamma: float = 10.0
    """Steps by which the other outputs should stay behind the first; the paper's 1 in its exact mode."""
    deadline: float = 0.94
    """Share of T by which the true class is asked to fire."""
    errors: Literal["signs", "real"] = "signs"
    """Weights through which errors are handed down."""
    low: float = -2.0
    """Hidden weights begin in U(low, high)."""
    high: float = 4.0
    """Hidden weights begin in U(low, high)."""
    low_out: float = -10.0
    """Output weights begin in U(low_out, high_out)."""
    high_out: float = 20.0
    """Output weights begin in U(low_out, high_out)."""
    epochs: int = 40
    """Passes over the training set."""
    batch: int = 50
    """Samples a step."""
    lr: float = 0.5
    """Learning rate of plain descent for a batch of 1 (exactly as the paper: 0.1); a batch takes lr * lr_scale."""
    lr_scale: float = 50.0
    """Factor on lr for batches: at the batch size the steps of its samples add up."""
    lr_of_scale: float = 0.01
    """The scales' own learning rate, for a batch of 1."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """How the rate falls; the paper's is constant."""
    exact_paper_mode: bool = False
    """Work image by image as the authors' code does."""

    def plan(self, data: Dataset) -> Iterator[Phase]:
        exact = self.exact_paper_mode
        if exact:
            hidden, out, lr, loss = (0.0, 5.0), (0.0, 48.0), 0.1, RelativeTarget(1.0, skip_silent=True)
        else:
            hidden, out, lr = (self.low, self.high), (self.low_out, self.high_out), self.lr
            loss = RelativeTarget(self.gamma, by=self.deadline * self.steps)

        def layer(inputs: int, neurons: int) -> BinaryIF:
            return BinaryIF(
                inputs,
                neurons,
                self.v_th,
                ahead=lr if exact else 0.0,
                straight=not exact,
                scale=self.scale,
                scale_rate=self.lr_of_scale / lr,
                signed=self.errors == "signs" and not exact,
            )

        body = dense(self.arch, data, layer)
        layers = [m for m in body if isinstance(m, BinaryIF)]
        for each in layers:
            nn.init.uniform_(each.weight, *(out if each is layers[-1] else hidden))
        layers[-1].late = True
        if not exact:
            nn.init.constant_(layers[-1].a, self.scale_out)
        yield Fit(
            SNN(body, self.steps, LinearLatency(), FirstSpike(late=True)),
            loss,
            self.epochs,
            1 if exact else self.batch,
            SGD(lr if exact else lr * self.lr_scale, momentum=0.0),
            Cosine() if self.schedule == "cosine" and not exact else Constant(),
            augment=None if exact else self.augment(data),
        )
