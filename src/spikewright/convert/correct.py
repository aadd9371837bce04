"""Corrections: what mends a spiking network on calibration data, layer by layer in order (Li et al. 2021).

They work on the form whose spikes are as large as the threshold, where a neuron's mean output is what the activation
should be. The layers' weights are shared by the spiking graph and the placed one, so what is mended in one is in both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikewright.convert.calibration import Calibration, blocks
from spikewright.convert.graph import INPUT, Add, Affine, Graph
from spikewright.convert.place import Placed
from spikewright.convert.trace import WEIGHTS
from spikewright.encode import Encoder
from spikewright.errors import ConfigError
from spikewright.neurons import Charge, DoubleExponential, Leak

__all__ = ["BiasCalibration", "ChargeCalibration", "Correction", "Filtered", "WeightCalibration", "shifted"]


class Correction:
    """Base of the corrections, each a small frozen dataclass."""

    def __call__(
        self, ann: Graph, spiking: Graph, placed: Placed, encode: Encoder, data: Calibration, steps: int, seed: int
    ) -> Graph:
        """The mended spiking graph."""
        raise NotImplementedError


@dataclass(frozen=True)
class BiasCalibration(Correction):
    """Adds to each channel's bias what its mean output lacks ("light"): mean(ANN) - mean(SNN), over one batch and all
    positions. For an activation behind a sum, to the bias of one branch."""

    def __call__(
        self, ann: Graph, spiking: Graph, placed: Placed, encode: Encoder, data: Calibration, steps: int, seed: int
    ) -> Graph:
        for name in placed.v_th:
            lacking = _lacking(ann, spiking, name, encode, data, steps, seed)
            spiking = shifted(spiking, {name: lacking.transpose(0, 1).flatten(1).mean(1)})
        return spiking


@dataclass(frozen=True)
class ChargeCalibration(Correction):
    """Starts each neuron with a charge of T times what its mean output lacks, the mean over one batch ("advanced").

    The neurons must not leak, and the network takes inputs of this size only.
    """

    def __call__(
        self, ann: Graph, spiking: Graph, placed: Placed, encode: Encoder, data: Calibration, steps: int, seed: int
    ) -> Graph:
        for name in placed.v_th:
            lacking = _lacking(ann, spiking, name, encode, data, steps, seed).mean(0)
            layer = Charge(tuple(lacking.shape)).to(lacking)
            layer.charge.copy_(steps * lacking)
            (source,) = spiking.inputs(name)
            spiking = spiking.between(source, name, f"{name}_charge", layer)
        return spiking


@dataclass(frozen=True)
class WeightCalibration(Correction):
    """Trains each layer's weights so that the T-step rate of its input currents is the ANN's activation.

    For the layers between the neurons before and `name`: inputs are the mean outputs of those neurons, the model of the
    neuron is theta/T clip(floor(z T/theta), 0, T) with the floor's derivative taken as 1, the loss is the mean squared
    distance from the ANN's activation; Adam, the rate along a cosine to 0.

    Args:
        iterations: steps of Adam a layer.
        lr: its learning rate.
        batch: samples a step.
    """

    iterations: int = 500
    lr: float = 1e-5
    batch: int = 32

    def __post_init__(self) -> None:
        if isinstance(self.iterations, bool) or not isinstance(self.iterations, int) or self.iterations < 1:
            raise ConfigError(f"WeightCalibration: iterations is {self.iterations!r}, expected at least 1")

    def __call__(
        self, ann: Graph, spiking: Graph, placed: Placed, encode: Encoder, data: Calibration, steps: int, seed: int
    ) -> Graph:
        generator = torch.Generator().manual_seed(seed)
        x = torch.cat(list(data))
        means: dict[str, Tensor] = {}
        for name, theta in placed.v_th.items():
            (source,) = placed.graph.inputs(name)
            part = placed.graph.upto(source) if source != INPUT else None
            if part is not None:
                goal = torch.cat([ann.values(b, [name])[name] for b in x.split(data.batch)])
                given = {n: m for n, m in means.items() if n in part.layers}
                self._train(part, x, given, goal, theta, steps, generator)
            means[name] = torch.cat([_mean(spiking, name, encode, b, steps, seed) for b in x.split(data.batch)])
        return spiking

    def _train(
        self,
        part: Graph,
        x: Tensor,
        means: Mapping[str, Tensor],
        goal: Tensor,
        theta: float,
        steps: int,
        generator: torch.Generator,
    ) -> None:
        layers = [part.get_submodule(n) for n in part.needed({part.output}, means) if n not in means]
        own = [p for layer in layers if isinstance(layer, WEIGHTS) for p in layer.parameters()]
        if not own:
            return
        optimizer = torch.optim.Adam(own, self.lr)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.iterations)
        with torch.enable_grad():
            for _ in range(self.iterations):
                at = torch.randint(len(x), (min(self.batch, len(x)),), generator=generator)
                z = part.values(x[at], (), {n: m[at] for n, m in means.items()})[part.output]
                level = (z * (steps / theta)).clamp(0, steps)
                rate = theta / steps * (level + (level.floor() - level).detach())
                loss = (rate - goal[at]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()


def _mean(spiking: Graph, name: str, encode: Encoder, x: Tensor, steps: int, seed: int) -> Tensor:
    """Mean output of a layer of neurons over T steps: [B, ...]."""
    body = spiking.upto(name).body()
    total = sum(block.sum(0) for block in blocks(body, encode, x, steps, seed))
    return torch.as_tensor(total) / steps


def _lacking(
    ann: Graph, spiking: Graph, name: str, encode: Encoder, data: Calibration, steps: int, seed: int
) -> Tensor:
    """What the mean output of a layer lacks, by sample of the first batch: [B, ...]."""
    x = next(iter(data))
    return ann.values(x, [name])[name] - _mean(spiking, name, encode, x, steps, seed)


@torch.no_grad()
def shifted(graph: Graph, shifts: Mapping[str, float | Tensor]) -> Graph:
    """With a constant current for each activation, one number or one a channel, in the bias of a layer that feeds it
    (one branch of a sum). Changes these layers' biases in place."""
    for name, shift in shifts.items():
        (source,) = graph.inputs(name)
        while isinstance(graph.layers.get(source), (Add, Charge)):
            source = graph.inputs(source)[0]
        layer = graph.layers.get(source)
        if not isinstance(layer, WEIGHTS) or len(graph.users(source)) > 1:
            rows = shift.numel() if isinstance(shift, Tensor) else 1
            like = next(p for p in graph.parameters() if p.is_floating_point())
            layer = Affine(rows).to(like)
            graph = graph.between(graph.inputs(name)[0], name, _free(graph, f"{name}_shift"), layer)
        weight: Tensor = layer.weight  # type: ignore[assignment]
        old = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias.detach()
        layer.bias = nn.Parameter(old + shift)
    return graph


def _free(graph: Graph, name: str) -> str:
    while name in graph.layers:
        name += "_"
    return name


@dataclass(frozen=True)
class Filtered(Correction):
    """Puts a synapse with two equal time constants behind every neuron: what is handed on is a current of unit area."""

    leak: Leak

    def __call__(
        self, ann: Graph, spiking: Graph, placed: Placed, encode: Encoder, data: Calibration, steps: int, seed: int
    ) -> Graph:
        for name in placed.v_th:
            spiking = spiking.after(name, f"{name}_synapse", DoubleExponential(self.leak, self.leak))
        return spiking
