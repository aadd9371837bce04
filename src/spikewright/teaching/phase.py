"""The phase that teaches: the trainer's loop with a rule in place of the gradient."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.engine.trainer import Trainee
from spikewright.errors import ConfigError
from spikewright.losses import Loss
from spikewright.neurons import SynapticDelay
from spikewright.phases import Fit
from spikewright.readout import NearestTrain
from spikewright.snn import SNN, Run
from spikewright.teaching.rule import Rule

__all__ = ["Pupil", "Scaling", "Teach"]


@dataclass(frozen=True)
class Scaling:
    """Synaptic scaling: weights of a neuron that fires less than `low` times a sample are made more positive, above
    `high` more negative, by the factor 1 + rate or its inverse (Sporea & Gruening 2013)."""

    low: float
    high: float
    rate: float = 0.005

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ConfigError(f"Scaling: low is {self.low}, high {self.high}, expected spikes with 0 <= low <= high")
        if not 0 < self.rate < 1:
            raise ConfigError(f"Scaling: rate is {self.rate}, expected a number between 0 and 1")

    def __call__(self, weight: Tensor, count: Tensor) -> Tensor:
        """weight [K, N], mean spikes of a sample [K] -> weight [K, N]."""
        push = (count < self.low).to(weight) - (count > self.high).to(weight)
        return weight * (1 + self.rate) ** (push[:, None] * weight.sign())


@dataclass
class Teach(Fit):
    """Teach a network's outputs the spike trains of its readout (`NearestTrain`) by a local rule.

    The layers are `nn.Linear` without bias, each in front of a neuron, or the grouped convolution behind a
    `SynapticDelay`. After every batch the rule's change goes to the optimiser as if it were minus a gradient: with
    plain SGD, w += lr dw. Fields as in `Fit`; `loss` is only reported.

    Args:
        rule: what to do.
        scaling: keeps the neurons' rates within bounds.
    """

    rule: Rule = field(default_factory=Rule)
    scaling: Scaling | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.snn.readout, NearestTrain):
            raise ConfigError(f"Teach: the readout is {self.snn.readout}, expected NearestTrain with the target trains")

    def trainee(self, recompute: bool) -> Trainee:
        return Pupil(self.snn, self.loss, self.rule, self.scaling, self.weight_clamp)


class Pupil(Trainee):
    """Network and rule as one module: a forward whose gradient is minus the rule's change of the weights."""

    def __init__(
        self, snn: SNN, loss: Loss, rule: Rule, scaling: Scaling | None = None, weight_clamp: float | None = None
    ):
        super().__init__(snn, loss, weight_clamp=weight_clamp)
        self.rule, self.scaling = rule, scaling
        self.layers = [m for m in snn.body.modules() if isinstance(m, (nn.Linear, nn.Conv1d))]
        self.delays = next((m for m in snn.body.modules() if isinstance(m, SynapticDelay)), None)
        if not self.layers or (rule.delays is not None and self.delays is None):
            raise ConfigError(f"Teach: the body has no layer or no delays for {rule} to change")
        self._step: list[tuple[Tensor, Tensor]] = []  # weight before the step and mean spikes, by layer

    def forward(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            inputs, run = self._observed(x, generator)
            value = self.loss(run, y)
            readout: Any = self.snn.readout
            desired = readout.raster(0, len(run.out), run.out)[:, y]
            changes = self._changes(inputs, run.out, desired)
            weights = [layer.weight.flatten(1).clone() for layer in self.layers]
            counts = [out.sum((0, 1)) / len(y) for out in (*inputs[1:], run.out)]
            self._step = list(zip(weights, counts, strict=True))
        # A term of value 0 whose gradient is minus the change.
        pull = sum(((w.weight.flatten(1) - b) * c).sum() for w, b, c in zip(self.layers, weights, changes, strict=True))
        return value - pull, run.scores[-1]

    def _observed(self, x: Tensor, generator: torch.Generator) -> tuple[list[Tensor], Run]:
        """What each layer was fed with, [T, B, N], and what the network did."""
        seen: list[Tensor] = []
        hooks = [m.register_forward_pre_hook(lambda _, args: seen.append(args[0].flatten(1))) for m in self.layers]
        try:
            run = self.snn.run(x, generator=generator)
        finally:
            for hook in hooks:
                hook.remove()
        return [i.unflatten(0, (len(run.out), -1)) for i in seen], run

    def _changes(self, inputs: list[Tensor], out: Tensor, desired: Tensor) -> list[Tensor]:
        """Weight changes, layer by layer, from the last to the first; delays move at once."""
        changes = []
        events = self.rule.events(out, desired)
        for layer, given in zip(self.layers[::-1], inputs[::-1], strict=True):
            weight = layer.weight.flatten(1)
            changes.append(self.rule.change(weight, given, events))
            events = self.rule.below(weight, events) if layer is not self.layers[0] else events
        if self.delays is not None and self.rule.delays is not None:
            longest, weight = self.delays.longest, self.layers[0].weight.flatten(1)
            moved = self.rule.delays(self.delays.steps, longest, weight, inputs[0], out, desired)
            self.delays.steps.copy_(moved)
        return changes[::-1]

    @torch.no_grad()
    def settle(self) -> None:
        super().settle()
        for layer, (before, count) in zip(self.layers, self._step, strict=True):
            weight = self.rule.bounded(layer.weight.flatten(1), before)
            weight = self.scaling(weight, count) if self.scaling else weight
            layer.weight.copy_(weight.view_as(layer.weight))
        self._step = []
