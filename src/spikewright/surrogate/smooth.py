"""Surrogates that are smooth, heavy tails first."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.surrogate.base import Surrogate


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """g = alpha s (1 - s), s = sigmoid(alpha x). Primitive s. Area 1, peak alpha/4.

    alpha 4 is SpikingJelly's default (25 snnTorch, 1 BrainCog). The third curve of STBP (Wu et al. 2018),
    e^(-x/a) / (a (1 + e^(-x/a))^2), is this one with alpha = 1/a.
    """

    alpha: float = 4.0

    def curve(self, x: Tensor) -> Tensor:
        s = torch.sigmoid(self.alpha * x)
        return self.alpha * s * (1 - s)

    def step(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.alpha * x)


@dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """g = 1 / (1 + beta |x|)^2. Primitive x / (1 + beta |x|) + 1/beta, from 0 to 2/beta. Area 2/beta, peak 1.

    The form of the spytorch tutorials (Neftci, Mostafa, Zenke 2019), beta 100; snnTorch 25. See also `SuperSpike`.
    """

    beta: float = 100.0

    def curve(self, x: Tensor) -> Tensor:
        return 1 / (1 + self.beta * x.abs()) ** 2

    def step(self, x: Tensor) -> Tensor:
        return x / (1 + self.beta * x.abs()) + 1 / self.beta

    @property
    def area(self) -> float:
        return 2 / self.beta


@dataclass(frozen=True)
class SuperSpike(Surrogate):
    """g = beta / (1 + beta |x|)^2: `FastSigmoid` times beta. Primitive from 0 to 2. Area 2, peak beta.

    Zenke and Ganguli 2018, as their Auryn code has it, beta = 1/(1 mV); SpikingJelly's SuperSpike, also 1.
    """

    beta: float = 1.0

    def curve(self, x: Tensor) -> Tensor:
        return self.beta / (1 + self.beta * x.abs()) ** 2

    def step(self, x: Tensor) -> Tensor:
        return self.beta * x / (1 + self.beta * x.abs()) + 1

    @property
    def area(self) -> float:
        return 2.0


@dataclass(frozen=True)
class SoftSign(Surrogate):
    """g = alpha / (2 (1 + alpha |x|)^2). Primitive (alpha x / (1 + alpha |x|) + 1) / 2. Area 1, peak alpha/2.

    SpikingJelly, alpha 2.
    """

    alpha: float = 2.0

    def curve(self, x: Tensor) -> Tensor:
        return self.alpha / (2 * (1 + self.alpha * x.abs()) ** 2)

    def step(self, x: Tensor) -> Tensor:
        return (self.alpha * x / (1 + self.alpha * x.abs()) + 1) / 2


@dataclass(frozen=True)
class ATan(Surrogate):
    """g = alpha / (2 (1 + (pi alpha x / 2)^2)). Primitive atan(pi alpha x / 2) / pi + 1/2. Area 1, peak alpha/2.

    Fang et al. 2021 (PLIF) and SpikingJelly, alpha 2.
    """

    alpha: float = 2.0

    def curve(self, x: Tensor) -> Tensor:
        return self.alpha / (2 * (1 + (math.pi / 2 * self.alpha * x) ** 2))

    def step(self, x: Tensor) -> Tensor:
        return torch.atan(math.pi / 2 * self.alpha * x) / math.pi + 0.5


@dataclass(frozen=True)
class Gaussian(Surrogate):
    """g = exp(-x^2 / (2 variance)) / sqrt(2 pi variance). Primitive the normal CDF. Area 1, peak 0.399/sqrt(variance).

    The fourth curve of STBP (Wu et al. 2018), variance 1.
    """

    variance: float = 1.0

    def curve(self, x: Tensor) -> Tensor:
        return torch.exp(-(x**2) / (2 * self.variance)) / (2 * math.pi * self.variance) ** 0.5

    def step(self, x: Tensor) -> Tensor:
        return torch.erfc(-x / (2 * self.variance) ** 0.5) / 2


@dataclass(frozen=True)
class Erf(Surrogate):
    """g = alpha exp(-alpha^2 x^2) / sqrt(pi). Primitive erfc(-alpha x) / 2. Area 1, peak alpha/sqrt(pi) = 0.5642 alpha.

    SpikingJelly, alpha 2.
    """

    alpha: float = 2.0

    def curve(self, x: Tensor) -> Tensor:
        return self.alpha / math.pi**0.5 * torch.exp(-((self.alpha * x) ** 2))

    def step(self, x: Tensor) -> Tensor:
        return torch.erfc(-self.alpha * x) / 2


def _laplace(z: Tensor) -> Tensor:
    """CDF of exp(-|z|)/2; both branches stay finite, and the slope at 0 is 1/2."""
    return torch.where(z < 0, z.clamp(max=0).exp() / 2, 1 - (-z.clamp(min=0)).exp() / 2)


@dataclass(frozen=True)
class Exponential(Surrogate):
    """g = (scale / width) exp(-|x| / width). Primitive 2 scale times a Laplace CDF. Area 2 scale, peak scale/width.

    SLAYER (Shrestha and Orchard 2018): scale = scaleRho 1, width = tauRho * theta with tauRho 1. Either pass that
    product, or width=tauRho with scale_by_threshold=True, which is the same function.
    """

    scale: float = 1.0
    width: float = 1.0

    def curve(self, x: Tensor) -> Tensor:
        return self.scale / self.width * torch.exp(-x.abs() / self.width)

    def step(self, x: Tensor) -> Tensor:
        return 2 * self.scale * _laplace(x / self.width)

    @property
    def area(self) -> float:
        return 2 * self.scale


@dataclass(frozen=True)
class PiecewiseExponential(Surrogate):
    """g = (alpha/2) exp(-alpha |x|). Primitive the Laplace CDF. Area 1, peak alpha/2. SpikingJelly, alpha 1."""

    alpha: float = 1.0

    def curve(self, x: Tensor) -> Tensor:
        return self.alpha / 2 * torch.exp(-self.alpha * x.abs())

    def step(self, x: Tensor) -> Tensor:
        return _laplace(self.alpha * x)
