"""Optimisers and learning-rate schedules as small values; torch does the work."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError

__all__ = [
    "SGD",
    "Adadelta",
    "Adam",
    "AdamW",
    "Constant",
    "Cosine",
    "Geometric",
    "Milestones",
    "Optimizer",
    "Polyak",
    "Rprop",
    "Schedule",
    "StepDecay",
    "WarmRestarts",
]


@dataclass(frozen=True)
class Optimizer:
    """Base of the optimisers.

    Args:
        lr: learning rate, > 0.
        weight_decay: >= 0.
    """

    lr: float = 1e-3
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        _expect(self, "lr", 0 < self.lr < math.inf, "a finite learning rate above 0")
        _expect(self, "weight_decay", 0 <= self.weight_decay < math.inf, "a finite number of at least 0")
        if hasattr(self, "betas"):
            _expect(self, "betas", all(0 <= beta < 1 for beta in self.betas), "two numbers from 0 to below 1")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """The torch optimiser over these parameters."""
        raise NotImplementedError


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015); weight_decay is its L2 form."""

    betas: tuple[float, float] = (0.9, 0.999)
    amsgrad: bool = False

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, self.lr, self.betas, weight_decay=self.weight_decay, amsgrad=self.amsgrad)


@dataclass(frozen=True)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019)."""

    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.999)

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, self.lr, self.betas, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    lr: float = 0.1
    momentum: float = 0.9
    nesterov: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect(self, "momentum", 0 <= self.momentum < 1, "a number from 0 to below 1")
        _expect(self, "momentum", self.momentum > 0 or not self.nesterov, "a number above 0 for Nesterov's form")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            parameters, self.lr, self.momentum, weight_decay=self.weight_decay, nesterov=self.nesterov
        )


@dataclass(frozen=True)
class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012), whose learning rate multiplies steps that scale themselves."""

    lr: float = 1.0
    rho: float = 0.95
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect(self, "rho", 0 <= self.rho < 1, "a number from 0 to below 1")
        _expect(self, "eps", 0 < self.eps < math.inf, "a finite number above 0")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adadelta(parameters, self.lr, self.rho, self.eps, weight_decay=self.weight_decay)


@dataclass(frozen=True)
class Rprop(Optimizer):
    """Only the sign of a gradient counts (Riedmiller & Braun 1993): a weight's step grows while it stays, else shrinks.

    Args:
        etas: factors of shrinking and growing.
        smallest, largest: bounds of a step.
    """

    etas: tuple[float, float] = (0.5, 1.2)
    smallest: float = 1e-6
    largest: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect(self, "etas", 0 < self.etas[0] < 1 < self.etas[1] < math.inf, "one below 1 and one above")
        _expect(self, "largest", 0 < self.smallest <= self.largest < math.inf, "smallest <= largest, above 0")

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Rprop(parameters, self.lr, self.etas, (self.smallest, self.largest))


@dataclass(frozen=True)
class Polyak(Optimizer):
    """Descent by min(lr, loss / |gradient|^2), a step that would bring a linear loss to 0 (Polyak 1969)."""

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return _Polyak(parameters, {"lr": self.lr, "weight_decay": self.weight_decay})


class _Polyak(torch.optim.Optimizer):
    """`step` needs the loss, as a closure that returns it."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        loss = None if closure is None else closure()
        squares = sum(p.grad.square().sum() for g in self.param_groups for p in g["params"] if p.grad is not None)
        for group in self.param_groups:
            rate = group["lr"] if loss is None else (loss / (squares + 1e-12)).clamp(max=group["lr"])
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(rate * (p.grad + group["weight_decay"] * p))
        return loss


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning rate over the run, as a factor of the optimiser's: a pure function of progress, so nothing to save.

    Args:
        warmup: epochs over which the rate first rises linearly from (almost) 0.
    """

    warmup: float = 0.0

    def __post_init__(self) -> None:
        _expect(self, "warmup", 0 <= self.warmup < math.inf, "epochs, a finite number of at least 0")

    def factor(self, epoch: float, epochs: int) -> float:
        """Factor at `epoch` (fractional, counted from 0) of `epochs`."""
        if epoch < self.warmup:
            return max(epoch / self.warmup, 1e-3)
        return self.curve(epoch, epochs)

    def curve(self, epoch: float, epochs: int) -> float:
        """The factor once warm."""
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Schedule):
    """The same rate throughout."""

    def curve(self, epoch: float, epochs: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Cosine(Schedule):
    """Half a cosine from 1 down to `minimum` at the last step."""

    minimum: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect(self, "minimum", 0 <= self.minimum <= 1, "a fraction of the learning rate, from 0 to 1")

    def curve(self, epoch: float, epochs: int) -> float:
        done = min(1.0, (epoch - self.warmup) / max(epochs - self.warmup, 1e-9))
        return self.minimum + (1 - self.minimum) * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Geometric(Schedule):
    """Falls by the same factor in every epoch, to `last` times the rate at the end."""

    last: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect(self, "last", 0 < self.last <= 1, "a fraction of the learning rate, above 0 and at most 1")

    def curve(self, epoch: float, epochs: int) -> float:
        return float(self.last ** min(1.0, max(0.0, epoch - self.warmup) / max(epochs - self.warmup, 1e-9)))


@dataclass(frozen=True)
class StepDecay(Schedule):
    """Times `factor_each` after every `every` epochs."""

    every: int = 30
    factor_each: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect(self, "every", self.every >= 1, "epochs, at least 1")
        _expect(self, "factor_each", 0 < self.factor_each < math.inf, "a finite factor above 0")

    def curve(self, epoch: float, epochs: int) -> float:
        return self.factor_each ** int(epoch // self.every)


@dataclass(frozen=True)
class Milestones(Schedule):
    """Times `factor_each` at each of these fractions of the run."""

    at: tuple[float, ...] = (0.6, 0.8, 0.9)
    factor_each: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect(self, "at", all(0 < part < 1 for part in self.at), "fractions of the run between 0 and 1")
        _expect(self, "factor_each", 0 < self.factor_each < math.inf, "a finite factor above 0")

    def curve(self, epoch: float, epochs: int) -> float:
        return self.factor_each ** sum(epoch >= part * epochs for part in self.at)


@dataclass(frozen=True)
class WarmRestarts(Schedule):
    """Half a cosine from 1 down to 0 over every `period` epochs, then from 1 again (SGDR, Loshchilov & Hutter 2017)."""

    period: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        _expect(self, "period", self.period >= 1, "epochs, at least 1")

    def curve(self, epoch: float, epochs: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * ((epoch - self.warmup) % self.period) / self.period))


def _expect(part: object, name: str, holds: bool, expected: str) -> None:
    if not holds:
        raise ConfigError(f"{type(part).__name__}: {name} is {getattr(part, name)}, expected {expected}")
