"""Surrogates that are piecewise constant or linear, zero beyond a width."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from spikewright.surrogate.base import Surrogate


@dataclass(frozen=True)
class Rectangle(Surrogate):
    """g = height 1[|x| < width]. Primitive height (clamp(x, -width, width) + width). Area 2 width height, peak height.

    STBP (Wu et al. 2018), its first curve with a = 1; LISNN, BackEISNN: width 0.5, height 1. tdBN: height = 1/(2
    width). The clamp is of x, not of the product: clamp((x + width) height, 0, 1) is only right at area 1.
    """

    width: float = 0.5
    height: float = 1.0

    def curve(self, x: Tensor) -> Tensor:
        return torch.where(x.abs() < self.width, self.height, 0 * x)

    def step(self, x: Tensor) -> Tensor:
        return self.height * (x.clamp(-self.width, self.width) + self.width)

    @property
    def area(self) -> float:
        return 2 * self.width * self.height


def _tent(z: Tensor) -> Tensor:
    """Antiderivative of max(0, 1 - |z|), from 0 to 1."""
    z = z.clamp(-1, 1)
    return 0.5 + z - z * z.abs() / 2


@dataclass(frozen=True)
class Triangle(Surrogate):
    """g = max(0, gamma - |x|) / gamma^2. Primitive piecewise quadratic. Area 1, peak 1/gamma.

    TET (Deng et al. 2022, "ZIF"), gamma 1.
    """

    gamma: float = 1.0

    def curve(self, x: Tensor) -> Tensor:
        return (self.gamma - x.abs()).relu() / self.gamma**2

    def step(self, x: Tensor) -> Tensor:
        return _tent(x / self.gamma)


@dataclass(frozen=True)
class ScaledTriangle(Surrogate):
    """g = c max(0, 1 - |x|), x in units of theta, then over theta. Primitive piecewise quadratic. Area c, peak c.

    Bellec et al. 2018 and Rathi et al. 2020 ("Linear"), c 0.3. Written with u/theta their gradient for theta itself is
    -(u/theta) g; here it is -g, equal at threshold.
    """

    c: float = 0.3
    scale_by_threshold: bool = field(default=True, kw_only=True)

    def curve(self, x: Tensor) -> Tensor:
        return self.c * (1 - x.abs()).relu()

    def step(self, x: Tensor) -> Tensor:
        return self.c * _tent(x)

    @property
    def area(self) -> float:
        return self.c


@dataclass(frozen=True)
class QuadraticGate(Surrogate):
    """g = max(0, alpha - alpha^2 |x|). Primitive piecewise quadratic. Area 1, peak alpha.

    BrainCog, alpha 2; SpikingJelly's PiecewiseQuadratic, alpha 1. `Triangle` with gamma = 1/alpha.
    """

    alpha: float = 2.0

    def curve(self, x: Tensor) -> Tensor:
        return (self.alpha - self.alpha**2 * x.abs()).relu()

    def step(self, x: Tensor) -> Tensor:
        return _tent(self.alpha * x)


@dataclass(frozen=True)
class Polynomial(Surrogate):
    """g = max(0, sqrt(a)/2 - (a/4) |x|). Primitive piecewise quadratic. Area 1 for every a, peak sqrt(a)/2.

    The second curve of STBP (Wu et al. 2018), a 1. The paper multiplies by sign(2/sqrt(a) - |x|), which would grow
    without bound outside |x| < 2/sqrt(a); taken as the indicator. `QuadraticGate` with alpha = sqrt(a)/2.
    """

    a: float = 1.0

    def curve(self, x: Tensor) -> Tensor:
        return (self.a**0.5 / 2 - self.a / 4 * x.abs()).relu()

    def step(self, x: Tensor) -> Tensor:
        return _tent(self.a**0.5 / 2 * x)
