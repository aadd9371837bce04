"""Estimators of thresholds: a prepared network and calibration data -> theta of every activation, in the ANN's units.

Theta is the activation that firing at every step stands for. Each estimator is a small frozen dataclass; the placement
(`place`) then writes the same thetas in any of its forms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from spikewright.convert.activations import Activation
from spikewright.convert.calibration import Calibration, blocks
from spikewright.convert.graph import INPUT, Graph
from spikewright.convert.prepare import ACTIVATIONS, activations, feeding
from spikewright.convert.trace import WEIGHTS
from spikewright.encode import Encoder
from spikewright.errors import ConfigError, whole

__all__ = ["MMSE", "Estimator", "Given", "Job", "Largest", "ModelBased", "Percentile", "SpikeFed", "Trained", "scaled"]

Thetas = dict[str, float]


@dataclass(frozen=True)
class Job:
    """What an estimator may use.

    Args:
        data: calibration samples.
        encode: how they enter the spiking network.
        spiking: (a part of the graph, thetas of its activations) -> its spiking body.
        inherit: activations that take the theta of what reaches them (neurons behind a pool).
        seed: of the encoder.
        progress: told after each step of work what is done.
    """

    data: Calibration
    encode: Encoder
    spiking: Callable[[Graph, Mapping[str, float]], nn.Module]
    inherit: tuple[str, ...] = ()
    seed: int = 0
    progress: Callable[[str], None] = field(default=lambda said: None)

    def inherited(self, graph: Graph, name: str, found: Mapping[str, float]) -> float:
        """The theta of what reaches a pool's neurons."""
        return max(found[source] for source in feeding(graph, name, ACTIVATIONS))


class Estimator:
    """Base of the estimators."""

    def __call__(self, graph: Graph, job: Job) -> Thetas:
        """Theta of every activation. One that a network was trained with (`Activation.threshold`) is taken as it is."""
        fixed = {n: t for n in activations(graph) if (t := trained(graph.get_submodule(n))) is not None}
        found: Thetas = {}
        wanted = [n for n in activations(graph) if n not in fixed and n not in job.inherit]
        estimated = self.estimate(graph, job, wanted, fixed) if wanted else {}
        for name in activations(graph):
            if name in job.inherit:
                found[name] = job.inherited(graph, name, found)
            else:
                found[name] = fixed[name] if name in fixed else float(estimated[name])
        return found

    def estimate(self, graph: Graph, job: Job, wanted: list[str], fixed: Thetas) -> Thetas:
        """Theta of the activations in `wanted`."""
        raise NotImplementedError


def trained(layer: nn.Module) -> float | None:
    """The threshold an activation was trained with, if it has one."""
    return layer.threshold if isinstance(layer, Activation) else None


def scaled(graph: Graph, thetas: Mapping[str, float], k: float) -> Thetas:
    """All unit-spike thresholds times k: theta_l is a product of those up to layer l, so k counts once a layer.

    The thresholds of the third form are th_l = theta_l / theta_{l-1}; k th_l for all l is theta_l k^depth.
    """
    depth: dict[str, int] = {INPUT: 0}
    for name, *inputs in graph.wiring:
        depth[name] = max(depth[i] for i in inputs) + isinstance(graph.get_submodule(name), ACTIVATIONS)
    return {name: theta * k ** depth[name] for name, theta in thetas.items()}


@dataclass(frozen=True)
class Given(Estimator):
    """Thresholds known already, by the activation's name."""

    thetas: Mapping[str, float]

    def estimate(self, graph: Graph, job: Job, wanted: list[str], fixed: Thetas) -> Thetas:
        missing = [name for name in wanted if name not in self.thetas]
        if missing:
            raise ConfigError(f"no threshold is given for {missing[0]!r}: give one for every activation")
        return dict(self.thetas)


@dataclass(frozen=True)
class Trained(Estimator):
    """The thresholds the network was trained with (RNL, QCFS)."""

    def estimate(self, graph: Graph, job: Job, wanted: list[str], fixed: Thetas) -> Thetas:
        raise ConfigError(
            f"{wanted[0]!r} has no trained threshold: train with an activation that has one, or estimate it from data"
        )


@dataclass(frozen=True)
class Largest(Estimator):
    """The largest activation of the ANN on the calibration data (Diehl et al. 2015, data-based).

    Args:
        weights: not below the largest weight of the layer, as Diehl et al. have it.
    """

    weights: bool = False

    @torch.no_grad()
    def estimate(self, graph: Graph, job: Job, wanted: list[str], fixed: Thetas) -> Thetas:
        found = dict.fromkeys(wanted, 0.0)
        for values in _activity(graph, job, wanted):
            for name, value in values.items():
                found[name] = max(found[name], float(value.max()))
        if self.weights:
            for name in wanted:
                found[name] = max(found[name], *(float(w.max()) for w in _weights(graph, name)))
        return found


@dataclass(frozen=True)
class Percentile(Estimator):
    """The p-th percentile of a layer's activations, all neurons and samples pooled (Rueckauer et al. 2017).

    Exact: of n values it is the one of rank ceil(p n / 100). Only the top of them is ever kept.

    Args:
        p: 0 < p <= 100; 100 is the maximum.
        nonzero: of those above zero only; else a layer that is often silent gets too small a scale.
    """

    p: float = 99.9
    nonzero: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.p <= 100:
            raise ConfigError(f"Percentile: p is {self.p}, expected a percentage above 0 and at most 100")

    @torch.no_grad()
    def estimate(self, graph: Graph, job: Job, wanted: list[str], fixed: Thetas) -> Thetas:
        top: dict[str, Tensor] = {}
        count = dict.fromkeys(wanted, 0)
        for values in _activity(graph, job, wanted):
            for name, value in values.items():
                flat = value.flatten()
                possible = flat.numel() // max(len(value), 1) * len(job.data)  # values there will be
                most = possible - math.ceil(self.p * possible / 100) + 1 if not self.nonzero else None
                kept = flat[flat > 0] if self.nonzero else flat
                count[name] += kept.numel()
                most = most or math.ceil((1 - self.p / 100) * possible) + 1
                joined = torch.cat([top[name], kept]) if name in top else kept
                top[name] = joined.topk(min(most, joined.numel())).values
        return {name: self._of(top[name], count[name]) for name in wanted}

    def _of(self, top: Tensor, count: int) -> float:
        if not count:
            return 0.0
        rank = count - max(math.ceil(self.p * count / 100 - 1e-9), 1)  # from the top
        return float(top[min(rank, len(top) - 1)])


@dataclass(frozen=True)
class ModelBased(Estimator):
    """From the weights alone, the worst case: the largest sum of positive weights (and bias) of a layer's outputs when
    all its inputs are at their most (Diehl et al. 2015, model-based). No neuron ever needs two spikes in a step."""

    @torch.no_grad()
    def estimate(self, graph: Graph, job: Job, wanted: list[str], fixed: Thetas) -> Thetas:
        found = dict(fixed)
        most: dict[str, float] = {INPUT: 1.0}
        for name, *inputs in graph.wiring:
            layer, reach = graph.get_submodule(name), [most[i] for i in inputs]
            if isinstance(layer, ACTIVATIONS):
                found[name] = most[name] = found.get(name, reach[0])
            elif isinstance(layer, WEIGHTS):
                weight: Tensor = layer.weight  # type: ignore[assignment]
                positive = weight.clamp(min=0).flatten(1).sum(1) if weight.dim() > 1 else weight.clamp(min=0)
                bias: Tensor | None = layer.bias  # type: ignore[assignment]
                total = positive * reach[0] + (0 if bias is None else bias.clamp(min=0))
                most[name] = float(total.max())
            else:
                most[name] = sum(reach) if len(reach) > 1 and type(layer).__name__ == "Add" else max(reach)
        return found


@dataclass(frozen=True)
class SpikeFed(Estimator):
    """The largest current that reaches a layer in the spiking network whose earlier layers have their thresholds.

    Layer by layer (SPIKE-NORM, Sengupta et al. 2019): the instantaneous current, not the membrane; all earlier layers
    spike with thresholds that are final. One pass for each layer.

    Args:
        steps: T of these passes.
        percentile: of the currents of a batch at a step in place of their maximum (DIET-SNN 99.7); of these, the
            largest over steps and batches.
    """

    steps: int = 100
    percentile: float = 100.0

    def __post_init__(self) -> None:
        whole("SpikeFed", "steps", self.steps)
        if not 0 < self.percentile <= 100:
            raise ConfigError(f"SpikeFed: percentile is {self.percentile}, expected above 0 and at most 100")

    @torch.no_grad()
    def estimate(self, graph: Graph, job: Job, wanted: list[str], fixed: Thetas) -> Thetas:
        found: Thetas = {}
        for name in activations(graph):
            if name in fixed:
                found[name] = fixed[name]
            elif name in job.inherit:
                found[name] = job.inherited(graph, name, found)
            else:
                found[name] = self._largest(graph, name, found, job)
                job.progress(f"threshold of {name}: {found[name]:.4g}")
        return found

    def _largest(self, graph: Graph, name: str, found: Thetas, job: Job) -> float:
        (source,) = graph.inputs(name)
        part = graph.upto(source) if source != INPUT else Graph({"input_": nn.Identity()}, [("input_", INPUT)])
        body = job.spiking(part, {n: t for n, t in found.items() if n in part.layers})
        largest = 0.0
        for x in job.data:
            for current in blocks(body, job.encode, x, self.steps, job.seed):
                if self.percentile == 100:
                    largest = max(largest, float(current.max()))
                    continue
                rows = current.flatten(1)
                rank = max(math.ceil(self.percentile * rows.shape[1] / 100), 1)
                largest = max(largest, float(rows.kthvalue(rank, 1).values.max()))
        return largest


@dataclass(frozen=True)
class MMSE(Estimator):
    """The threshold of least squared error of T-step rates, out of a grid below the maximum (Li et al. 2021).

    For i = 0 .. grid - 1: theta = max (1 - i/100), error = mean (a - theta/T clip(floor(a T/theta + shift), 0, T))^2.

    Args:
        steps: T.
        shift: 0 for the plain floor, 1/2 for a network with the half-threshold shift.
        grid: candidates, in hundredths of the maximum.
        values: activations of a layer that are looked at, evenly spaced.
    """

    steps: int
    shift: float = 0.0
    grid: int = 95
    values: int = 200_000

    @torch.no_grad()
    def estimate(self, graph: Graph, job: Job, wanted: list[str], fixed: Thetas) -> Thetas:
        kept: dict[str, list[Tensor]] = {name: [] for name in wanted}
        largest = dict.fromkeys(wanted, 0.0)
        share = max(self.values * job.data.batch // len(job.data), 1)
        for values in _activity(graph, job, wanted):
            for name, value in values.items():
                flat = value.flatten()
                largest[name] = max(largest[name], float(flat.max()))
                kept[name].append(flat[:: max(flat.numel() // share, 1)])
        return {name: self._best(torch.cat(kept[name]), largest[name]) for name in wanted}

    def _best(self, a: Tensor, largest: float) -> float:
        candidates = [largest * (1 - i / 100) for i in range(self.grid)]
        if largest <= 0:
            return 0.0
        errors = []
        for theta in candidates:
            rate = (a * (self.steps / theta) + self.shift).floor().clamp(0, self.steps)
            errors.append(float((a - theta / self.steps * rate).square().mean()))
        return candidates[errors.index(min(errors))]


def _activity(graph: Graph, job: Job, wanted: list[str]) -> Iterator[dict[str, Tensor]]:
    """The ANN's activations in `wanted`, batch by batch."""
    for x in job.data:
        values = graph.values(x, wanted)
        yield {name: values[name] for name in wanted}


def _weights(graph: Graph, name: str) -> list[Tensor]:
    """The weights that feed an activation."""
    found = [s for s in feeding(graph, name, (*WEIGHTS, *ACTIVATIONS)) if s != INPUT]
    return [graph.get_submodule(s).weight.detach() for s in found if isinstance(graph.get_submodule(s), WEIGHTS)]  # type: ignore[union-attr, operator]
