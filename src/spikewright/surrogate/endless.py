"""Surrogates whose tails never end, so that a neuron far from its threshold still learns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spikewright.surrogate.base import Surrogate


@dataclass(frozen=True)
class TSSLLogistic(Surrogate):
    """g = e^z / ((1 + e^z)^2 width), z = clip(-x/width, -8, 8). Area infinite, peak 1/(4 width).

    TSSL-BP (Zhang and Li 2020), width 0.2: peak 1.25. The clip keeps g at 3.4e-4/width for all |x| > 8 width: the area
    is 0.9993 inside and infinite with those tails. Primitive: the sigmoid inside, straight lines of that slope outside.
    """

    width: float = 0.2

    def curve(self, x: Tensor) -> Tensor:
        e = (-x / self.width).clamp(-8, 8).exp()
        return e / ((1 + e) ** 2 * self.width)

    def step(self, x: Tensor) -> Tensor:
        z = x / self.width
        inside = z.clamp(-8, 8)
        return torch.sigmoid(inside) + (z - inside) * (math.exp(8) / (1 + math.exp(8)) ** 2)

    @property
    def area(self) -> float:
        return math.inf


@dataclass(frozen=True)
class StraightThrough(Surrogate):
    """g = 1. Primitive x. Area infinite, peak 1. BrainCog, snnTorch; Bengio et al. 2013."""

    def curve(self, x: Tensor) -> Tensor:
        return torch.ones_like(x)

    def step(self, x: Tensor) -> Tensor:
        return x.clone()

    @property
    def area(self) -> float:
        return math.inf


@dataclass(frozen=True)
class LogGate(Surrogate):
    """g = 1 / (1/alpha + |x|). Primitive sign(x) log(1 + alpha |x|). Area infinite, peak alpha.

    SpikingJelly's NonzeroSignLogAbs, alpha 1. (BrainCog documents this curve for its gate but computes 1[|x| <
    1/alpha], which is `Rectangle(width=1/alpha)`.)
    """

    alpha: float = 1.0

    def curve(self, x: Tensor) -> Tensor:
        return 1 / (1 / self.alpha + x.abs())

    def step(self, x: Tensor) -> Tensor:
        up, down = torch.log1p(self.alpha * x.clamp(min=0)), torch.log1p(-self.alpha * x.clamp(max=0))
        return torch.where(x < 0, -down, up)

    @property
    def area(self) -> float:
        return math.inf


@dataclass(frozen=True)
class S2NN(Surrogate):
    """g = alpha s (1 - s), s = sigmoid(alpha x), for x < 0; beta / (x + 1) for x >= 0. Area infinite, peak beta.

    S2NN (Suetake et al. 2022) and SpikingJelly, alpha 4, beta 1. Primitive s below 0, 1/2 + beta log(1 + x) above;
    g itself jumps at 0 unless beta = alpha/4.
    """

    alpha: float = 4.0
    beta: float = 1.0
    even: ClassVar[bool] = False

    def curve(self, x: Tensor) -> Tensor:
        s = torch.sigmoid(self.alpha * x)
        return torch.where(x < 0, self.alpha * s * (1 - s), self.beta / (1 + x.clamp(min=0)))

    def step(self, x: Tensor) -> Tensor:
        s = torch.sigmoid(self.alpha * x)
        return torch.where(x < 0, s, 0.5 + self.beta * torch.log1p(x.clamp(min=0)))

    @property
    def area(self) -> float:
        return math.inf


@dataclass(frozen=True)
class LeakyReLULike(Surrogate):
    """g = 1/width for |x| <= width, slope outside. Area infinite (2 inside), peak 1/width.

    SpikingJelly's PiecewiseLeakyReLU, width 1, slope 0.01. Primitive piecewise linear, from 0 at -width to 2 at width:
    SpikingJelly's own rises to 1 there and so has half the stated derivative.
    """

    width: float = 1.0
    slope: float = 0.01

    def curve(self, x: Tensor) -> Tensor:
        return torch.where(x.abs() <= self.width, 1 / self.width, self.slope + 0 * x)

    def step(self, x: Tensor) -> Tensor:
        inside = x.clamp(-self.width, self.width)
        return 1 + inside / self.width + self.slope * (x - inside)

    @property
    def area(self) -> float:
        return math.inf
