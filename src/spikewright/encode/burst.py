"""Burst codes: spikes in a row, of which later ones say more."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.encode.base import Encoder, expect_unit
from spikewright.encode.latency import Latency
from spikewright.errors import ConfigError, positive, whole
from spikewright.kernels import raised

__all__ = ["Burst", "BurstWeights"]


@dataclass(frozen=True)
class Burst(Encoder):
    """A burst from step 0 on (Guo et al. 2021): ceil(most x) spikes, at an interval that falls with x.

    The interval is ceil(t_max - (t_max - t_min) x) steps. Spikes past the last step are lost. That all bursts
    begin at step 0 is decided here.

    Args:
        most: spikes at x = 1.
        t_min: interval at x = 1, steps.
        t_max: interval towards x = 0, steps; None: the steps of the sequence.
    """

    most: int = 5
    t_min: int = 2
    t_max: int | None = None

    def __post_init__(self) -> None:
        whole("Burst", "most", self.most, 1)
        whole("Burst", "t_min", self.t_min, 1)
        if self.t_max is not None:
            whole("Burst", "t_max", self.t_max, self.t_min)

    def _interval(self, x: Tensor, steps: int) -> Tensor:
        longest = max(self.t_min, steps if self.t_max is None else self.t_max)
        return torch.ceil(longest - (longest - self.t_min) * x)

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        expect_unit("Burst", x)
        count, interval = torch.ceil(self.most * raised(x)), self._interval(raised(x), steps)
        at = torch.arange(start, stop, device=x.device, dtype=interval.dtype).view(-1, *[1] * x.dim())
        return ((at % interval == 0) & (at < count * interval)).to(x.dtype)

    def decode(self, spikes: Tensor) -> Tensor:
        """From the interval where there are two spikes, else the middle of what a single one stands for."""
        fired = (spikes != 0).to(raised(spikes).dtype)
        first = Latency.first(fired)
        rest = fired * (torch.arange(len(fired), device=fired.device).view(-1, *[1] * (fired.dim() - 1)) > first)
        interval = Latency.first(rest) - first
        longest = max(self.t_min, len(spikes) if self.t_max is None else self.t_max)
        known = ((longest - interval + 0.5) / max(1, longest - self.t_min)).clamp(0, 1)
        alone = torch.full_like(known, 0.5 / self.most)
        return torch.where(fired.sum(0) > 1, known, torch.where(fired.any(0), alone, 0.0))


@dataclass(frozen=True)
class BurstWeights(Encoder):
    """Burst spikes (Park et al. 2019): an IF neuron charged by x whose threshold and spike grow within a burst.

    v += x; if v >= g v_th it hands on g v_th, v -= g v_th and g <- beta g; else g <- 1.

    Args:
        v_th: threshold and weight of a burst's first spike.
        beta: growth within a burst.
    """

    v_th: float = 0.125
    beta: float = 2.0

    def __post_init__(self) -> None:
        positive("BurstWeights", "v_th", self.v_th, "threshold")
        if not 1 <= self.beta < math.inf:
            raise ConfigError(f"BurstWeights: beta is {self.beta}, expected a finite growth of at least 1")

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        expect_unit("BurstWeights", x)
        current = raised(x)
        v, g, out = torch.zeros_like(current), torch.ones_like(current), []
        for t in range(stop):
            v = v + current
            sent = torch.where(v >= g * self.v_th, g * self.v_th, 0.0)
            v = v - sent
            g = torch.where(sent > 0, g * self.beta, 1.0)
            if t >= start:
                out.append(sent)
        return torch.stack(out).to(x.dtype)

    def decode(self, spikes: Tensor) -> Tensor:
        return spikes.mean(0)
