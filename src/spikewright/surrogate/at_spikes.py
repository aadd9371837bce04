"""Surrogates without a primitive: a gradient where, or since, a spike is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from spikewright.errors import ConfigError
from spikewright.surrogate.base import Surrogate, fired


@dataclass(frozen=True)
class STDB(Surrogate):
    """g = alpha exp(-beta age), age = steps since this neuron's last spike (0: it spikes now). No primitive.

    Area infinite, since g does not depend on x; peak alpha. Spike-timing-dependent backpropagation, Rathi et al. 2020:
    alpha 0.3, beta 0.01; a neuron that never spiked has a large age, 1000 by their convention (1.36e-5); infinity gives
    0. The authors differentiate in units of theta: scale_by_threshold=True divides by theta as they do.
    """

    alpha: float = 0.3
    beta: float = 0.01
    timed: ClassVar[bool] = True

    def curve_at(self, x: Tensor, v_th: Any, age: Any, strict: bool) -> Tensor:
        if age is None:
            raise ConfigError("STDB: age is None, expected the steps since the last spike; pass age=")
        age = torch.as_tensor(age, dtype=x.dtype, device=x.device)
        return (self.alpha * torch.exp(-self.beta * age)).broadcast_to(x.shape)

    @property
    def area(self) -> float:
        return math.inf


@dataclass(frozen=True)
class SpikeOnlyThreshold(Surrogate):
    """g = 1/theta where the neuron spikes, 0 elsewhere. No primitive. Area infinite, peak 1 (0 if strict).

    Lee et al. 2020.
    """

    even: ClassVar[bool] = False

    def curve_at(self, x: Tensor, v_th: Any, age: Any, strict: bool) -> Tensor:
        return torch.where(fired(x, strict), 1 / v_th, 0 * x)

    @property
    def area(self) -> float:
        return math.inf


@dataclass(frozen=True)
class SpikeOnlyPotential(Surrogate):
    """g = 1/u = 1/(x + theta) where the neuron spikes, 0 elsewhere. No primitive. Area infinite, peak 1 (0 if strict).

    BP-STA (BPSA). Needs theta > 0, so that a spiking u is above 0.
    """

    even: ClassVar[bool] = False

    def curve_at(self, x: Tensor, v_th: Any, age: Any, strict: bool) -> Tensor:
        return torch.where(fired(x, strict), 1 / (x + v_th), 0 * x)

    @property
    def area(self) -> float:
        return math.inf


@dataclass(frozen=True)
class SpikeOnly(Surrogate):
    """g = 1 where the neuron spikes, 0 elsewhere. No primitive. Area infinite, peak 1 (0 if strict).

    BrainCog's StdpGrad.
    """

    even: ClassVar[bool] = False

    def curve_at(self, x: Tensor, v_th: Any, age: Any, strict: bool) -> Tensor:
        return torch.where(fired(x, strict), 1.0, 0 * x)

    @property
    def area(self) -> float:
        return math.inf
