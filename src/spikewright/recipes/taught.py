"""What the recipes that teach spike trains share: the neuron, the task and its targets."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from spikewright.data import Dataset
from spikewright.encode import Frames, LinearLatency
from spikewright.engine.optim import SGD
from spikewright.errors import ConfigError
from spikewright.losses import OwnScore
from spikewright.neurons import LIF, ExactJump, Subtract, Synapse, SynapticDelay, UnitPeak
from spikewright.phases import Phase
from spikewright.readout import NearestTrain
from spikewright.recipes import Recipe
from spikewright.snn import SNN
from spikewright.teaching import Rule, Teach

__all__ = ["IMAGES", "Taught"]

IMAGES: dict[str, Any] = {
    "steps": 50, "dt": 2.0, "tau_m": 100.0, "tau_s": 10.0, "weight": 0.05, "answer": 0.5, "epochs": 12, "batch": 5,
}  # fmt: skip
"""Settings for small images: potentials that outlast the window of 100 ms in which the pixels fire."""


@dataclass
class Taught(Recipe):
    """Output neurons that learn to fire at given times.

    A neuron's potential is a difference of exponentials of peak 1 for every input spike, times the weight; a spike
    subtracts the threshold, which decays with tau_m. On spike patterns one neuron learns the train of each pattern's
    class; the pattern is classified right if less than one spike is missing, extra or far off (van Rossum distance
    below 1/2). On other data every class has a neuron that fires once for its own class, at `answer`, and is silent for
    the others; images enter as one spike a pixel, the stronger the earlier.
    """

    steps: int = 4000
    """Time steps T."""
    dt: float = 0.1
    """Length of a step, ms."""
    tau_m: float = 10.0
    """Membrane time constant, ms."""
    tau_s: float = 2.5
    """Synaptic time constant, ms."""
    v_th: float = 1.0
    """Firing threshold."""
    weight: float = 0.06
    """Initial weights are uniform from 0 to this."""
    answer: float = 0.8
    """When a class's neuron should fire, as a fraction of the window (data without target trains)."""
    tau_distance: float = 10.0
    """Time constant of van Rossum's distance, ms."""
    epochs: int = 20
    """Passes over the training set."""
    batch: int = 1
    """Samples a step, whose changes are averaged; the methods are defined for 1."""

    def rule(self) -> Rule:
        """The rule, with time constants in steps."""
        raise NotImplementedError

    def network(self, data: Dataset, hidden: int = 0, longest: float = 0.0, inhibitory: float = 0.0) -> SNN:
        """One layer, or one more of `hidden` neurons in front.

        With synaptic delays of up to `longest` ms; a fraction `inhibitory` of the weights starts with a minus sign.
        """
        if not 0 <= inhibitory < 1:
            raise ConfigError(f"recipe {self.name!r}: inhibitory is {inhibitory}, expected a fraction below 1")
        if not 0 < self.dt < float("inf"):
            raise ConfigError(f"recipe {self.name!r}: dt is {self.dt}, expected a finite step above 0 ms")
        duration = data.train.duration
        if duration is not None and abs(self.steps * self.dt - duration) > self.dt / 2:
            raise ConfigError(
                f"{data.name} lasts {duration:g} ms, but {self.steps} steps of {self.dt:g} ms are "
                f"{self.steps * self.dt:g}: set --steps {round(duration / self.dt)}, or another --dt"
            )
        trains, reach = self._trains(data)
        outputs, inputs = len(trains[0]), data.shape[0] * data.shape[1] * data.shape[2]
        layers: list[nn.Module] = [nn.Flatten()]
        for size in [hidden, outputs] if hidden else [outputs]:
            layers += self._synapses(inputs, size, longest) + self._neuron()
            inputs = size
        for p in nn.Sequential(*layers).parameters():
            p.data[torch.rand_like(p) < inhibitory] *= -1
        encode = Frames() if data.frames else LinearLatency()
        return SNN(nn.Sequential(*layers), self.steps, encode, NearestTrain(trains, self.tau_distance / self.dt, reach))

    def _synapses(self, inputs: int, outputs: int, longest: float) -> list[nn.Module]:
        dense: nn.Module = nn.Linear(inputs, outputs, bias=False)
        layers = [dense]
        if longest:
            dense = nn.Conv1d(inputs * outputs, outputs, 1, groups=outputs, bias=False)
            delay = SynapticDelay(inputs, outputs, round(longest / self.dt))
            layers = [delay, nn.Unflatten(1, (inputs * outputs, 1)), dense, nn.Flatten()]
        nn.init.uniform_(dense.weight, 0, self.weight)  # type: ignore[arg-type]
        return layers

    def _neuron(self) -> list[nn.Module]:
        tau_m, tau_s = self.tau_m / self.dt, self.tau_s / self.dt
        return [Synapse(ExactJump(tau_s)), LIF(leak=UnitPeak(tau_m, tau_s), v_th=self.v_th, reset=Subtract())]

    def _trains(self, data: Dataset) -> tuple[tuple[tuple[tuple[int, ...], ...], ...], float | None]:
        """Target steps by class and neuron, and how near a train must be to count as that class's."""
        if data.train.trains:
            return tuple((tuple(round(t / self.dt) for t in train),) for train in data.train.trains), 0.5
        if not 0 < self.answer < 1:
            raise ConfigError(f"recipe {self.name!r}: answer is {self.answer}, expected a fraction between 0 and 1")
        at, kinds = int(self.answer * self.steps), range(data.num_classes)
        return tuple(tuple((at,) if k == c else () for k in kinds) for c in kinds), None

    def plan(self, data: Dataset) -> Iterator[Phase]:
        yield self.teach(self.network(data))

    def teach(self, snn: SNN, **more: Any) -> Teach:
        """The phase, for recipes that have a field `lr`."""
        optimizer = SGD(self.lr, momentum=0.0)  # type: ignore[attr-defined]
        return Teach(snn, OwnScore(), self.epochs, self.batch, optimizer, rule=self.rule(), **more)
