"""SpikeProp: the first error backpropagation through spike times, over connections of many delayed terminals."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from torch import nn

from spikewright.data import Dataset
from spikewright.encode import Population, RampLatency
from spikewright.engine.optim import SGD, Optimizer, Polyak, Rprop
from spikewright.losses import OneEarly, SquaredTime, TimeLoss
from spikewright.phases import Fit, Phase
from spikewright.readout import FirstSpike, NearestTime, Timing
from spikewright.recipes import Recipe, recipe
from spikewright.snn import SNN
from spikewright.times import Delays, EventLIF, Reference
from spikewright.times.network import dense


@recipe(
    paper="Bohte, Kok, La Poutre 2002",
    reports={"xor": 100.0},
    presets={
        "xor": {"arch": "5-1", "epochs": 1000, "batch": 1, "stop_below": 0.25, "largest": 1e-3},
        "digits": {"terminals": 4, "variant": "rprop", "lr": 1e-3, "window": 16.0, "early": 16.0, "late": 24.0},
        "mnist": {"terminals": 4, "batch": 100},
        "fashion-mnist": {"terminals": 4, "batch": 100},
    },
)
@dataclass
class SpikeProp(Recipe):
    """Exact gradients of first spike times; every connection has several terminals, each with its delay and weight.

    The response to a spike is (s / tau) exp(1 - s / tau). Values of 1 fire at 0, those of 0 at `window` (for exclusive
    or the same as the papers' 0 and 6 ms the other way round), a reference input at 0; --fields n spreads every value
    over n Gaussian receptive fields instead. A single output is asked for a time of its own for each class, from `late`
    for the first to `early` for the last; several outputs for `early` from the true class and `late` from the others.
    Weights stay >= 0 and the last of the hidden neurons are inhibitory. A neuron silent for a whole batch gets a push
    of 0.01 on its weights. The papers' rate of 0.01 belongs to a larger threshold: with v_th = 1 it does not converge.

    Variants: rprop (McKennoch 2006) goes by the sign of the whole training set's gradient (at most 1,000 samples a
    step); adaptive takes the step loss / |gradient|^2 up to 50 lr, a stand-in for SpikePropAd's formula, which could
    not be verified; multi (Booij & Nguyen 2005) lets hidden neurons fire several times, with responses exp(-s/4) -
    exp(-s/2), an after-potential of -exp(-s/4) and weights of either sign. Where a silent output gets a fake spike in
    that paper, it gets the push here.

    The method is one of batch 1, as for exclusive or; larger batches add up the gradients of their samples.
    """

    arch: str = "20-10"
    """Neurons of the layers."""
    steps: int = 50
    """Time steps T, milliseconds."""
    variant: Literal["plain", "rprop", "adaptive", "multi"] = "plain"
    """Plain descent, or one of the variants above."""
    terminals: int = 16
    """Terminals of a connection, with delays of 1, 2, ... steps."""
    tau: float = 7.0
    """Time constant of the response, steps."""
    window: float = 6.0
    """Steps over which the inputs fire."""
    fields: int = 0
    """Receptive fields a value; 0: the value itself is coded by a time."""
    early: float = 10.0
    """Earlier wanted output time."""
    late: float = 16.0
    """Later wanted output time."""
    inhibitory: float = 0.2
    """Share of the hidden neurons that are inhibitory."""
    spikes_each: int = 5
    """Spikes a hidden neuron may fire (multi)."""
    floor: float = 0.1
    """Lower bound of a potential's slope at a spike, per step, for the gradient."""
    stop_below: float = 1e-9
    """Training ends once the mean loss of an epoch is below this (for exclusive or 0.25: a sum of 1)."""
    epochs: int = 60
    """Passes over the training set."""
    batch: int = 50
    """Samples a step."""
    lr: float = 5e-4
    """Learning rate of plain descent (multi takes 20 times that), of rprop the first step."""
    largest: float = 0.05
    """Largest step of a weight by rprop; larger ones end exclusive or in a poor minimum."""

    def plan(self, data: Dataset) -> Iterator[Phase]:
        values = math.prod(data.shape)
        inputs = values * (self.fields or 1) + 1
        body = dense(self.arch, (values,), self._layer, inputs)
        layers = [m for m in body.modules() if isinstance(m, EventLIF)]
        for layer in layers:
            self._draw(layer, hidden=layer is not layers[-1])
        for before, layer in pairwise(layers):
            if self.variant == "multi":
                before.spikes_each = self.spikes_each
            else:
                layer.inhibitory = round(self.inhibitory * before.out_features) * self.terminals
        children = dict(body.named_children())
        body = nn.Sequential(OrderedDict({"flatten": children.pop("flatten"), "reference": Reference(), **children}))
        encode = Population(self.fields, window=self.window) if self.fields else RampLatency(self.window)
        readout: Timing = FirstSpike()
        loss: TimeLoss = OneEarly(self.early, self.late)
        if layers[-1].out_features == 1:
            apart = (self.late - self.early) / max(1, data.num_classes - 1)
            times = tuple(self.late - k * apart for k in range(data.num_classes))
            readout, loss = NearestTime(times), SquaredTime(times)
        snn = SNN(body, self.steps, encode, readout)
        floor = None if self.variant == "multi" else 0.0
        batch = max(self.batch, min(len(data.train), 1000)) if self.variant == "rprop" else self.batch
        optimizer = self._optimizer()
        yield Fit(snn, loss, self.epochs, batch, optimizer, weight_floor=floor, stop_below=self.stop_below)

    def _optimizer(self) -> Optimizer:
        match self.variant:
            case "rprop":
                return Rprop(self.lr, etas=(0.5, 1.2), largest=self.largest)
            case "adaptive":
                return Polyak(50 * self.lr)
            case "multi":
                return SGD(20 * self.lr, momentum=0.0)
            case _:
                return SGD(self.lr, momentum=0.0)

    def _layer(self, inputs: int, neurons: int) -> nn.Sequential:
        tau_m, tau_s, gain = (4.0, 2.0, 1.0) if self.variant == "multi" else (self.tau, self.tau, math.e)
        lr = 20 * self.lr if self.variant == "multi" else self.lr
        layer = EventLIF(
            inputs * self.terminals, neurons, tau_m, tau_s, gain=gain, floor=self.floor * tau_m, push=0.01 / lr
        )
        return nn.Sequential(Delays(self.terminals), layer)

    def _draw(self, layer: EventLIF, hidden: bool) -> None:
        """For exclusive or: U(0, 0.12), as measured to make every neuron fire; multi as in its paper."""
        if self.variant != "multi":
            nn.init.uniform_(layer.weight, 0, (5.76 if hidden else 9.6) / layer.in_features)
        elif hidden:
            nn.init.uniform_(layer.weight, -24 / layer.in_features, 48 / layer.in_features)
        else:
            nn.init.uniform_(layer.weight, 0, 80 / layer.in_features)
            layer.weight.data[:, 4 * self.terminals :].mul_(-0.5)
