"""Few-spikes networks: layers that take K steps each, one after the other, and neurons fitted to any activation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikewright.convert.activations import Activation
from spikewright.convert.calibration import Calibration
from spikewright.convert.correct import Correction
from spikewright.convert.graph import INPUT, Affine, Graph
from spikewright.convert.place import Placed
from spikewright.convert.trace import WEIGHTS
from spikewright.encode import Encoder
from spikewright.errors import ConfigError, whole
from spikewright.neurons import Delay, FewSpikes, Once

__all__ = ["Curve", "OneAfterAnother", "fitted"]

CURVES: dict[str, tuple[Callable[[Tensor], Tensor], float, float]] = {
    "silu": (F.silu, -8.0, 12.0),
    "sigmoid": (torch.sigmoid, -10.0, 10.0),
}


class Curve(Activation):
    """An activation that few-spikes neurons are fitted to, "silu" or "sigmoid": its values may be of either sign."""

    def __init__(self, kind: Literal["silu", "sigmoid"] = "silu") -> None:
        super().__init__()
        if kind not in CURVES:
            raise ConfigError(f"Curve: kind is {kind!r}, expected {' or '.join(map(repr, CURVES))}")
        self.kind = kind

    @property
    def threshold(self) -> float:
        return 1.0

    def forward(self, x: Tensor) -> Tensor:
        return CURVES[self.kind][0](x)

    def extra_repr(self) -> str:
        return self.kind


@dataclass(frozen=True)
class OneAfterAnother(Correction):
    """Gives every layer of few-spikes neurons its window of K steps: layer l speaks when all before it have.

    The input is read once, in the first step. A bias counts once, so it is divided by the steps of the window it is
    heard in, the output's by all T. Where ways of different length meet, the shorter one waits.
    """

    def __call__(
        self, ann: Graph, spiking: Graph, placed: Placed, encode: Encoder, data: Calibration, steps: int, seed: int
    ) -> Graph:
        graph, names = spiking, list(placed.v_th)
        bits = {n: _few(graph, n).bits for n in names}
        k = max(bits.values())
        if min(bits.values()) != k:
            raise ConfigError("few-spikes neurons of one network need the same number of steps K, found several")
        depth: dict[str, int] = {INPUT: 0}
        for name, *inputs in spiking.wiring:
            depth[name] = max(depth[i] for i in inputs) + (name in placed.v_th)
            for source in {i for i in inputs if depth[i] < depth[name] - (name in placed.v_th)}:
                wait = depth[name] - (name in placed.v_th) - depth[source]
                graph = graph.between(source, name, f"{source}_to_{name}", Delay(wait * k))
        needed = k * (max(depth.values()) + 1)
        if steps < needed:
            raise ConfigError(
                f"T is {steps}, but {max(depth.values())} layers of {k} steps and the output need {needed}"
            )
        for name in names:
            layer = _few(graph, name)
            graph = graph.replaced(
                {name: FewSpikes(layer.threshold, layer.drop, layer.weight, depth[name], layer.surrogate)}
            )
        with torch.no_grad():
            for name in spiking.of(*WEIGHTS, Affine):
                bias = getattr(spiking.get_submodule(name), "bias", None)
                if bias is not None:
                    bias.div_(steps if _ends(spiking, name, set(names)) else k)
        front = next(iter(graph.users(INPUT)))
        first = front if type(graph.get_submodule(front)).__name__ == "Normalize" else INPUT
        placed.scale.update(dict.fromkeys(names, float(steps)))  # the mean over T steps is a T-th of what is said
        return graph.after(first, "once", Once())


def _few(graph: Graph, name: str) -> FewSpikes:
    layer = graph.get_submodule(name)
    if not isinstance(layer, FewSpikes):
        raise ConfigError(f"{name!r} is a {type(layer).__name__}, expected a few-spikes neuron")
    return layer


def _ends(graph: Graph, name: str, neurons: set[str]) -> bool:
    """Whether no neuron hears this layer: its output is part of the scores."""
    stack = graph.users(name)
    while stack:
        user = stack.pop()
        if user in neurons:
            return False
        stack += graph.users(user)
    return True


@cache
@torch.enable_grad()
def fitted(
    kind: Literal["silu", "sigmoid"], bits: int = 16, seed: int = 0, iterations: int = 300, restarts: int = 8
) -> FewSpikes:
    """A few-spikes neuron whose function is close to an activation, by gradients through its spikes.

    Minimises the squared error over the activation's range, its middle weighed more, plus a tenth of how far the
    potential strays, mean(max(|u| - 1, 0))^2 with u = (v - threshold) / (|v| + 1); the spike's derivative is
    max(0, 1 - |u|). Adam from `restarts` beginnings at once, with learning rates from 0.0003 to 0.1; the best of all
    iterations wins. The beginnings are binary digits, and a staircase followed by digits, both with noise. (Stoeckl &
    Maass 2021; their released code begins 100 times at random and runs longer, and takes the drop of a spike off a step
    later, which is the same neuron with shifted indices.)
    """
    if kind not in CURVES:
        raise ConfigError(f"fitted: kind is {kind!r}, expected {' or '.join(map(repr, CURVES))}")
    whole("fitted", "bits", bits)
    function, low, high = CURVES[kind]
    draw = torch.Generator().manual_seed(seed)
    grid = torch.linspace(low, high, 400)
    wanted = function(grid)
    importance = 1 + 4 * torch.exp(-(grid**2) / 8)
    importance = importance / importance.mean()
    kinds = torch.arange(restarts)[:, None] % 2
    numbers = [
        torch.where(kinds == 0, plain, stairs)
        * (1 + (0.3 - 0.28 * kinds) * (2 * torch.rand(plain.shape, generator=draw) - 1))
        for plain, stairs in zip(_digits(grid, wanted, bits), _staircase(grid, wanted, bits), strict=True)
    ]
    numbers = [n.requires_grad_() for n in numbers]
    optimizer = torch.optim.Adam(numbers)
    rates = torch.logspace(-3.5, -1, restarts)[:, None].roll(1, 0)
    best, found = math.inf, [n[0].detach().clone() for n in numbers]
    for i in range(iterations):
        cosine = 0.5 * (1 + math.cos(math.pi * i / iterations))
        threshold, drop, weight = numbers
        v, said, stray = grid.expand(restarts, -1), torch.zeros(restarts, len(grid)), torch.zeros(restarts)
        for t in range(bits):
            u = (v - threshold[:, t, None]) / (v.abs() + 1)
            z = _Step.apply(u)
            stray = stray + F.relu(u.abs() - 1).mean(1).square()
            said = said + weight[:, t, None] * z
            v = v - drop[:, t, None] * z
        error = ((said - wanted).square() * importance).mean(1)
        value, least = error.detach().min(0)
        if float(value) < best:
            best, found = float(value), [n[least].detach().clone() for n in numbers]
        optimizer.zero_grad()
        (error + 0.1 * stray).sum().backward()
        before = [n.detach().clone() for n in numbers]
        optimizer.step()
        with torch.no_grad():  # Adam's own rate is 0.001; each beginning has another
            for n, old in zip(numbers, before, strict=True):
                n.copy_(old + (n - old) * (1000 * rates * cosine))
    first, second, third = (tuple(n.tolist()) for n in found)
    return FewSpikes(first, second, third)


def _digits(grid: Tensor, wanted: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes that halve, over the whole range: [1, K] each of thresholds, drops and weights."""
    digits = 2.0 ** -(torch.arange(bits) * (6 / bits) + 1)[None]
    reach, rise = grid[-1] - grid[0], wanted.max() - wanted.min()
    return reach * digits, reach * digits, rise * digits


def _staircase(grid: Tensor, wanted: Tensor, bits: int) -> tuple[Tensor, Tensor, Tensor]:
    """Spikes that drop nothing and add up to a staircase, then the binary digits of the straight part above 0."""
    slope = (wanted[-1] - wanted[-2]) / (grid[-1] - grid[-2])
    rest = wanted - slope * grid.clamp(min=0)
    stairs = bits // 2
    change = torch.cat([torch.zeros(1), rest.diff().abs().cumsum(0)])
    at = torch.searchsorted(change, change[-1] * torch.arange(2 * stairs + 1) / (2 * stairs)).clamp(max=len(grid) - 1)
    digits = grid[-1] * 2.0 ** -(torch.arange(bits - stairs) + 1.0)
    threshold, drop = torch.cat([grid[at[1::2]], digits]), torch.cat([torch.zeros(stairs), digits])
    return threshold[None], drop[None], torch.cat([rest[at[::2]].diff(), slope * digits])[None]


class _Step(torch.autograd.Function):
    """Forward [u > 0], backward max(0, 1 - |u|)."""

    @staticmethod
    def forward(ctx, u: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        ctx.save_for_backward(u)
        return (u > 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:  # type: ignore[no-untyped-def, override]
        (u,) = ctx.saved_tensors
        return grad * (1 - u.abs()).clamp(min=0)


def spiking(bits: int) -> Callable[[float, float, nn.Module], nn.Module]:
    """The neuron in an activation's place: binary digits up to its theta for a ReLU, the fitted one for a `Curve`."""

    def neuron(v_th: float, size: float, activation: nn.Module) -> nn.Module:
        return fitted(activation.kind, bits) if isinstance(activation, Curve) else FewSpikes.binary(bits, v_th)

    return neuron
