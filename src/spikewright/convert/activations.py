"""Activations that an ANN is trained with so that spiking neurons can take their place.

Each maps a current to what a neuron's mean output can be: nonnegative and, where the ANN is to know of it, bounded by
the neuron's threshold. `nn.ReLU` is the plain one; a method adds its own as a subclass of `Activation`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError, positive

__all__ = ["Activation", "Clip", "RateNorm"]


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
        positive("Clip", "limit", limit)
        self.limit = limit

    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(0, self.limit)

    def extra_repr(self) -> str:
        return f"{self.limit:g}"


class RateNorm(Activation):
    """clip(relu(z) / theta, 0, 1) with theta = m sigmoid(q) + 1e-6: a rate, and a threshold that is learned.

    m is a running mean (weight `momentum`) of the batches' largest relu(z), updated while training unless `locked`; q
    is a parameter. What it hands on is the rate itself, so that a neuron hands on spikes of 1. (Ding et al. 2021,
    released code.)

    Args:
        momentum: weight of the present batch, 0 < momentum <= 1.
        q: initial q; 10 is sigmoid(q) of almost 1.
    """

    largest: Tensor
    seen: Tensor

    def __init__(self, momentum: float = 0.1, q: float = 10.0) -> None:
        super().__init__()
        if not 0 < momentum <= 1:
            raise ConfigError(f"RateNorm: momentum is {momentum}, expected a weight above 0 and at most 1")
        if not math.isfinite(q):
            raise ConfigError(f"RateNorm: q is {q}, expected a finite number")
        self.momentum = momentum
        self.q = float(q)
        self.logit = nn.Parameter(torch.tensor(self.q))
        self.register_buffer("largest", torch.ones(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))
        self.locked = False

    def theta(self) -> Tensor:
        """The threshold, differentiable in q, which is kept in `logit`."""
        return self.largest * torch.sigmoid(self.logit) + 1e-6

    @property
    def threshold(self) -> float:
        return float(self.theta().detach())

    @property
    def top(self) -> float:
        return 1.0

    def forward(self, x: Tensor) -> Tensor:
        if self.training and not self.locked:
            with torch.no_grad():
                now = x.detach().max().clamp(min=0)
                mean = self.largest + self.momentum * (now - self.largest)
                self.largest.copy_(torch.where(self.seen, mean, now))  # the first batch says where to begin
                self.seen.fill_(True)
        return (x.relu() / self.theta()).clamp(0, 1)

    def extra_repr(self) -> str:
        return f"threshold={self.threshold:.4g}"
