"""Activations that an ANN is trained with so that spiking neurons can take their place.

Each maps a current to what a neuron's mean output can be: nonnegative and, where the ANN is to know of it, bounded by
the neuron's threshold. `nn.ReLU` is the plain one; a method adds its own as a subclass of `Activation`.
"""

from __future__ import annotations

import math

from torch import Tensor, nn

from spikewright.errors import ConfigError

__all__ = ["Activation", "Clip"]


class Activation(nn.Module):
    """Base of the activations that know their threshold."""

    samplewise = True

    @property
    def threshold(self) -> float | None:
        """The current at which the neuron fires at every step; None: to be estimated from data."""
        return None

    @property
    def top(self) -> float | None:
        """What a neuron hands on that fires at every step; None: as much as the threshold."""
        return None


class Clip(Activation):
    """clip(z, 0, limit): a ReLU that cannot ask for more than a spike a step (Deng & Gu 2021; ReLU6 is limit 6)."""

    def __init__(self, limit: float = 1.0) -> None:
        super().__init__()
        if not (math.isfinite(limit) and limit > 0):
            raise ConfigError(f"Clip: limit is {limit}, expected a finite number above 0")
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(0, self.limit)

    def extra_repr(self) -> str:
        return f"{self.limit:g}"
