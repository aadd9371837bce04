"""Where a rule changes weights, and with which sign: an output train and the desired one -> events."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.errors import ConfigError, positive
from spikewright.measure.trains import matched
from spikewright.neurons.filters import low_pass

__all__ = ["Difference", "Edits", "Events", "Triplet"]


class Events:
    """Base of the events."""

    def __call__(self, out: Tensor, desired: Tensor) -> Tensor:
        """(output spikes [T, B, K], desired spikes [T, B, K]) -> [T, B, K], nonzero where weights change."""
        raise NotImplementedError


@dataclass(frozen=True)
class Difference(Events):
    """S_d - S_o: up at desired spikes, down at actual ones; where they coincide nothing happens (ReSuMe, SPAN)."""

    def __call__(self, out: Tensor, desired: Tensor) -> Tensor:
        return desired - out


@dataclass(frozen=True)
class Triplet(Events):
    """S_d (pair + triplet o_d) - S_o (pair + triplet o_o): o the slow trace of the same train before the spike."""

    tau: float
    pair: float = 1.0
    triplet: float = 1.0

    def __post_init__(self) -> None:
        positive("Triplet", "tau", self.tau, "time constant", unit="steps")
        if not (0 <= self.pair < math.inf and 0 <= self.triplet < math.inf):
            raise ConfigError(f"Triplet: pair is {self.pair}, triplet {self.triplet}, expected finite numbers, >= 0")

    def __call__(self, out: Tensor, desired: Tensor) -> Tensor:
        return self._weighed(desired) - self._weighed(out)

    def _weighed(self, train: Tensor) -> Tensor:
        trace, _ = low_pass(train, None, decay=math.exp(-1 / self.tau), gain=1.0)
        return train * (self.pair + self.triplet * (trace - train))


@dataclass(frozen=True)
class Edits(Events):
    """The edits that turn the output train into the desired one most cheaply (Chronotron's E-learning, Florian 2012).

    Adding or removing a spike costs 1, moving it (dt / tau_q)^2 / 2. Up (1) where a spike is to be added, down (-1)
    where one is to be removed, (gain / tau_q^2) (t - t~) at an actual spike t to be moved to t~: later than wanted,
    stronger weights.

    Args:
        tau_q: how far a spike may be moved for half the price of a new one, steps.
        gain: gamma_r.
    """

    tau_q: float
    gain: float

    def __post_init__(self) -> None:
        for name in ("tau_q", "gain"):
            positive("Edits", name, getattr(self, name))

    def __call__(self, out: Tensor, desired: Tensor) -> Tensor:
        events = torch.zeros_like(out)
        for b, k in ((out + desired).sum(0) > 0).nonzero().tolist():
            train, target = (x[:, b, k].nonzero()[:, 0].numpy(force=True) for x in (out, desired))
            match = matched(train, target, lambda dt: (dt / self.tau_q) ** 2 / 2)
            events[train[match.removed], b, k] -= 1
            events[target[match.added], b, k] += 1
            for i, j in match.pairs:
                events[train[i], b, k] += self.gain / self.tau_q**2 * float(train[i] - target[j])
        return events
