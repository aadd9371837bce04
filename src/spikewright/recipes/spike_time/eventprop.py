"""EventProp: exact gradients of spiking neurons, solved from event to event forwards and backwards in time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn

from spikewright.data import Dataset
from spikewright.encode import RampLatency
from spikewright.engine.optim import Adam, Constant, Cosine
from spikewright.losses import CrossEntropy, EarlyCrossEntropy
from spikewright.neurons import Factor
from spikewright.phases import Fit, Phase
from spikewright.readout import FirstSpike, MaxMembrane
from spikewright.recipes import Augmented, recipe
from spikewright.snn import SNN
from spikewright.times import Dense, EventLIF, Potential
from spikewright.times.network import dense


@recipe(
    paper="Wunderlich & Pehle 2021",
    reports={"mnist": 97.6},
    presets={"digits": {"epochs": 20, "batch": 20, "lr": 5e-3}},
)
@dataclass
class EventProp(Augmented):
    """Exact gradients of leaky neurons with exponential synapses, by an adjoint that jumps at spikes; no surrogate.

    A step is a millisecond. Pixels above 1/255 fire once, at 20 ms (1 - x); hidden neurons fire several times. The
    outputs never fire: their highest potential (taken at whole milliseconds) goes into a cross-entropy. --loss times
    lets the outputs fire instead and asks for the true class first. The gradient does not see spikes that appear or
    vanish; a neuron silent for a whole batch gets a push on its weights. The division by tau_m dV/dt at a spike is
    bounded. Weights begin normal, as in the authors' code (hidden 4 / sqrt(784), half that as deviation).
    """

    arch: str = "100-10"
    """Neurons of the layers."""
    steps: int = 60
    """Time steps T, milliseconds."""
    tau_m: float = 20.0
    """Membrane time constant, steps."""
    tau_s: float = 5.0
    """Synaptic time constant, steps."""
    v_th: float = 1.0
    """Firing threshold."""
    window: float = 20.0
    """Steps over which the pixels fire."""
    spikes_each: int = 8
    """Spikes a hidden neuron may fire."""
    loss: Literal["potential", "times"] = "potential"
    """Highest potentials of outputs that never fire, or the outputs' first spikes."""
    push: float = 0.1
    """Gradient that raises the weights of a silent neuron."""
    floor: float = 0.1
    """Lower bound of tau_m dV/dt at a spike, for the gradient."""
    epochs: int = 100
    """Passes over the training set."""
    batch: int = 256
    """Samples a step."""
    lr: float = 1e-3
    """Learning rate of Adam."""
    schedule: Literal["constant", "cosine"] = "constant"
    """A constant rate, or a cosine for shorter runs."""

    def plan(self, data: Dataset) -> Iterator[Phase]:
        body = dense(self.arch, data, self._layer)
        *hidden, first = (m for m in body if isinstance(m, EventLIF))
        last: Dense = first
        for layer in hidden:
            layer.spikes_each = self.spikes_each
            nn.init.normal_(layer.weight, 4 / layer.in_features**0.5, 2 / layer.in_features**0.5)
        if self.loss == "potential":
            name = list(body._modules)[-1]
            last = Potential(last.in_features, last.out_features, self.tau_m, self.tau_s)
            body = nn.Sequential(OrderedDict({**dict(body.named_children()), name: last}))
        deviation = 0.25 / last.in_features**0.5
        nn.init.normal_(last.weight, deviation if self.loss == "potential" else 4 * deviation, deviation)
        readout = MaxMembrane(Factor(0.0)) if self.loss == "potential" else FirstSpike()
        snn = SNN(body, self.steps, RampLatency(self.window, 1.5 / 255), readout)
        loss = CrossEntropy() if self.loss == "potential" else EarlyCrossEntropy()
        schedule = Cosine() if self.schedule == "cosine" else Constant()
        yield Fit(snn, loss, self.epochs, self.batch, Adam(self.lr), schedule, augment=self.augment(data))

    def _layer(self, inputs: int, neurons: int) -> EventLIF:
        return EventLIF(inputs, neurons, self.tau_m, self.tau_s, self.v_th, push=self.push, floor=self.floor)
