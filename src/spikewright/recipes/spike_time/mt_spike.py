"""MT-Spike, reconstructed: ramp-shaped responses, exact spike-time gradients, a margin loss."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from spikewright.data import Dataset
from spikewright.encode import RampLatency
from spikewright.engine.optim import Adam, Cosine
from spikewright.losses import TimeMargin
from spikewright.phases import Fit, Phase
from spikewright.readout import FirstSpike
from spikewright.recipes import Augmented, recipe
from spikewright.snn import SNN
from spikewright.times import RampIF
from spikewright.times.network import dense


@recipe(
    paper="Liu et al. 2017 (reconstruction)",
    reports={"mnist": 99.1},
    presets={"digits": {"arch": "100-10", "epochs": 20, "batch": 20, "lr": 5e-3}},
)
@dataclass
class MTSpike(Augmented):
    """A reconstruction of MT-Spike: one spike each, linear responses, gradients through the weighted average of times.

    The paper's equations are not public; its abstract names time coding, an average delay response, temporal error
    backpropagation and a heuristic loss. Read here as: pixels fire once, the brighter the earlier; V(t) rises by w a
    step from every input spike on, so a spike comes at (v_th + sum w t) / sum w over its causes; only a true class
    later than `on` and others earlier than `off` have an error. Network and optimiser are this recipe's own choice, so
    is that a pixel below `least` is silent.
    """

    arch: str = "800-10"
    """Neurons of the layers."""
    steps: int = 100
    """Time steps T."""
    window: float = 40.0
    """Steps over which the pixels fire."""
    least: float = 0.1
    """Pixels below this value never fire."""
    v_th: float = 10.0
    """Firing threshold."""
    gain: float = 4.0
    """A neuron's weights sum up to about gain at the beginning."""
    on: float = 0.3
    """Share of T by which the true class should fire."""
    off: float = 0.5
    """Share of T before which the other classes should not."""
    lift: float = 0.01
    """Gradient that raises the weights of a neuron whose sum is not positive."""
    clip_rows: float = 1.0
    """Largest norm of the gradient of a neuron's weights."""
    epochs: int = 40
    """Passes over the training set."""
    batch: int = 50
    """Samples a step."""
    lr: float = 1e-3
    """Highest learning rate of Adam; it falls along a cosine."""

    def plan(self, data: Dataset) -> Iterator[Phase]:
        body = dense(self.arch, data, lambda n, m: RampIF(n, m, self.v_th, self.lift))
        for layer in body:
            if isinstance(layer, RampIF):
                mean = self.gain / layer.in_features
                nn.init.normal_(layer.weight, mean, 4 * mean)
        snn = SNN(body, self.steps, RampLatency(self.window, self.least), FirstSpike())
        loss = TimeMargin(self.on, self.off)
        optimizer, augment = Adam(self.lr), self.augment(data)
        yield Fit(snn, loss, self.epochs, self.batch, optimizer, Cosine(), augment=augment, clip_rows=self.clip_rows)
