"""Where the thresholds go: three forms of one spiking network, equal spike for spike.

Every signal has a scale: what a network computes in its place, times the scale, is what the ANN computes there. An
activation of threshold theta and top a (what it hands on at most; theta for a ReLU) becomes a neuron that reads its
current in some scale d and hands its spikes on in some scale s: v_th = theta / d, size = a / s. The forms choose:

- "weights" (F1, Rueckauer, Diehl): d = theta, s = a: thresholds and spikes are 1, W and b are rescaled.
- "spikes" (F2, Deng & Gu, QCFS): d = s = 1: weights as they are, spikes as large as the threshold.
- "thresholds" (F3, Sengupta, Rathi): d = the scale of what comes in, s = a: W as it is, spikes of 1, the threshold is
  the ratio of the scales, and b is divided by the scale of what comes in; scores come out divided by it too.

A layer with weights whose input has scale s and whose output is wanted in scale d takes W s / d and b / d. Where
branches of different scales meet, F3 falls back on d = theta; where nobody can absorb a change of scale (an identity
beside a convolution) an `Affine` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from spikewright.arch import Normalize
from spikewright.convert.graph import INPUT, Affine, Concat, Graph
from spikewright.convert.prepare import ACTIVATIONS, activations, feeding
from spikewright.convert.trace import WEIGHTS
from spikewright.errors import ConfigError

__all__ = ["Form", "Placed", "place"]

Form = Literal["weights", "spikes", "thresholds"]
Scale = float | Tensor  # one number, or one a channel


@dataclass(frozen=True)
class Placed:
    """A graph with rescaled weights; what the neurons in the activations' places need, and the scales of their spikes.

    `scale[name]` times the mean output of that neuron is what the ANN's activation would be; `out` times the mean
    scores are the ANN's.
    """

    graph: Graph
    v_th: dict[str, float]
    size: dict[str, float]
    scale: dict[str, float]
    out: float = 1.0


def place(graph: Graph, thresholds: Mapping[str, float], form: Form, tops: Mapping[str, float] | None = None) -> Placed:
    """Write thresholds into a network; the graph handed in stays as it is.

    Args:
        graph: prepared, with activations by name.
        thresholds: theta of every activation, in the ANN's units, > 0.
        form: see above.
        tops: what an activation hands on at most, where that is not its threshold.
    """
    for name in activations(graph):
        if not 0 < thresholds[name] < float("inf"):
            raise ConfigError(
                f"the threshold of {name!r} is {thresholds[name]:g}: on the calibration data it never becomes active; "
                "give more samples, or look for a dead layer"
            )
    tops = {**thresholds, **(tops or {})}
    if form == "spikes":
        ones = dict.fromkeys(thresholds, 1.0)
        return Placed(graph.copied(), dict(thresholds), dict(tops), ones)
    work = _Work(graph.copied(), dict(thresholds), dict(tops), form)
    for name in activations(graph):
        work.scales[name] = tops[name]
    for name in [n for n, *_ in graph.wiring]:
        work.visit(name)
    v_th = {n: thresholds[n] / work.wanted[n] for n in activations(graph)}
    return Placed(work.graph, v_th, dict.fromkeys(thresholds, 1.0), {n: tops[n] for n in thresholds}, work.out)


class _Work:
    """One placement in progress: `scales` of what layers hand on, `wanted` scale of activations' currents."""

    def __init__(self, graph: Graph, thresholds: dict[str, float], tops: dict[str, float], form: Form):
        self.graph, self.form = graph, form
        self.scales: dict[str, Scale] = {INPUT: 1.0}
        self.wanted: dict[str, float] = {}
        for name in activations(graph):
            self.wanted[name] = thresholds[name] if form == "weights" else self._incoming(name, tops, thresholds)
        output = graph.output
        self.out = self._incoming(output, tops, {output: 1.0}) if form == "thresholds" else 1.0
        self.demand: dict[str, float] = {}
        for name, *_ in reversed(graph.wiring):
            self.demand[name] = self._demand(name)

    def _incoming(self, name: str, tops: dict[str, float], thresholds: dict[str, float]) -> float:
        """The scale in which weights as they are hand on a current, if it is the same on all ways to `name`."""
        last = isinstance(self.graph.get_submodule(name), WEIGHTS)
        sources = [s for source in ([name] if last else feeding(self.graph, name, WEIGHTS)) for s in self._of(source)]
        found = {1.0 if s == INPUT else tops[s] for s in sources}
        return found.pop() if len(found) == 1 else thresholds[name]

    def _of(self, source: str) -> list[str]:
        return [INPUT] if source == INPUT else feeding(self.graph, source, ACTIVATIONS)

    def _demand(self, name: str) -> float:
        """The scale its (first) reader wants of a layer's output; of the network's it is `out`."""
        for user in self.graph.users(name):
            if user in self.wanted:
                return self.wanted[user]
            if isinstance(self.graph.get_submodule(user), (*WEIGHTS, Normalize)):
                continue  # takes any scale
            return self.demand[user]
        return self.out if name == self.graph.output else 1.0

    def visit(self, name: str) -> None:
        """Rescale a layer so that it reads its inputs in their scales, and note the scale of what it hands on."""
        layer, inputs = self.graph.get_submodule(name), self.graph.inputs(name)
        if name in self.wanted:
            self._bring(inputs[0], name, self.wanted[name])
        elif isinstance(layer, WEIGHTS):
            _rescale(layer, self.scales[inputs[0]], self.demand[name])
            self.scales[name] = self.demand[name]
        elif isinstance(layer, Normalize):
            scale = self.scales[inputs[0]]
            if isinstance(scale, Tensor):
                raise ConfigError(f"cannot convert {name!r}: a Normalize behind a concatenation; use a BatchNorm there")
            fitted = Normalize([m / scale for m in layer.mean], [s * self.demand[name] / scale for s in layer.std])
            self.graph = self.graph.replaced({name: fitted.to(layer.offset)})
            self.scales[name] = self.demand[name]
        elif isinstance(layer, Concat):
            self.scales[name] = self._concatenated(name, layer, inputs)
        elif len(inputs) > 1:
            for source in inputs:
                self._bring(source, name, self.demand[name])
            self.scales[name] = self.demand[name]
        else:
            scale = self.scales[inputs[0]]
            if isinstance(scale, Tensor) and isinstance(layer, (nn.Flatten, nn.PixelShuffle, nn.PixelUnshuffle)):
                self._bring(inputs[0], name, self.demand[name])
                scale = self.demand[name]
            self.scales[name] = scale
        if name == self.graph.output and not _equal(self.scales[name], self.out) and name not in self.wanted:
            self.graph = self.graph.after(name, f"{name}_scale", self._factor(self.scales[name], self.out, name))

    def _bring(self, source: str, user: str, wanted: float) -> None:
        """See to it that `user` reads `source` in the scale it wants."""
        if not _equal(self.scales[source], wanted):
            factor = self._factor(self.scales[source], wanted, source)
            self.graph = self.graph.between(source, user, f"{source}_for_{user}", factor)

    def _factor(self, scale: Scale, wanted: float, source: str) -> Affine:
        like = next(p for p in self.graph.parameters() if p.is_floating_point())
        ratio = torch.as_tensor(scale, dtype=torch.float64) / wanted
        layer = Affine(ratio.numel()).to(ratio)
        with torch.no_grad():
            layer.weight.copy_(ratio.reshape(-1))
        return layer.to(like)

    def _concatenated(self, name: str, layer: Concat, inputs: list[str]) -> Scale:
        found = [self.scales[i] for i in inputs]
        first = found[0]
        if not isinstance(first, Tensor) and all(_equal(s, first) for s in found):
            return first
        channels = [_channels(self.graph, i) for i in inputs]
        if layer.dim != 1 or None in channels:
            for source in inputs:
                self._bring(source, name, self.demand[name])
            return self.demand[name]
        parts = [torch.as_tensor(s, dtype=torch.float64).expand(c) for s, c in zip(found, channels, strict=True)]  # type: ignore[arg-type]
        return torch.cat(parts)


def _channels(graph: Graph, name: str) -> int | None:
    """Channels a layer hands on, as far as its kind tells."""
    while name != INPUT:
        layer = graph.get_submodule(name)
        for attribute in ("out_channels", "out_features", "features"):
            if isinstance(size := getattr(layer, attribute, None), int) and not (
                isinstance(layer, Affine) and size == 1
            ):
                return size
        if isinstance(layer, Concat):
            parts = [_channels(graph, i) for i in graph.inputs(name)]
            return None if layer.dim != 1 or None in parts else sum(p for p in parts if p)
        if isinstance(layer, (nn.Flatten, nn.PixelShuffle, nn.PixelUnshuffle)):
            return None
        name = graph.inputs(name)[0]
    return None


@torch.no_grad()
def _rescale(layer: nn.Module, scale: Scale, wanted: float) -> None:
    """W scale / wanted, b / wanted; a scale of its own for each input channel (or feature) where it is a tensor."""
    weight: Tensor = layer.weight  # type: ignore[assignment]
    bias: Tensor | None = layer.bias  # type: ignore[assignment]
    factor = torch.as_tensor(scale, dtype=torch.float64, device=weight.device)
    if factor.dim() and weight.dim() > 1:
        groups = int(getattr(layer, "groups", 1))
        rows = factor.view(groups, 1, -1).expand(groups, weight.shape[0] // groups, -1).reshape(weight.shape[0], -1)
        factor = rows.view(*rows.shape, *[1] * (weight.dim() - 2))
    weight.copy_(weight.double() * factor / wanted)
    if bias is not None:
        bias.copy_(bias.double() / wanted)


def _equal(scale: Scale, other: Scale) -> bool:
    return not isinstance(scale, Tensor) and not isinstance(other, Tensor) and scale == other
