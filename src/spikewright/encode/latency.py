"""Latency codes: one spike a value, the larger the earlier."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.encode.base import Encoder, expect_unit
from spikewright.errors import ConfigError, expect, positive
from spikewright.fronts import Front
from spikewright.kernels import raised
from spikewright.times.signal import raster

__all__ = ["Latency", "LinearLatency", "LogLatency", "RampLatency", "RankOrder", "TwoTimes"]


class Latency(Encoder):
    """Time to first spike: each input fires once, the stronger the earlier. Subclasses give the times.

    It speaks both kinds of signal: a raster of the times' whole steps, or to a body of `Timed` layers the times.
    """

    def times(self, x: Tensor, steps: int) -> Tensor:
        """Spike time of every value, from 0 to below `steps`, infinity for none: x [B, ...] in 0..1 -> [B, ...].

        Raises DataError for other values.
        """
        expect_unit(type(self).__name__, x)
        times = self.of(x, steps)
        return torch.where(times < steps, times, math.inf)

    def of(self, x: Tensor, steps: int) -> Tensor:
        """The times themselves, which is what a subclass writes."""
        raise NotImplementedError

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        return raster(self.times(raised(x), steps), start, stop).to(x.dtype)

    @staticmethod
    def first(spikes: Tensor) -> Tensor:
        """Step of the first spike, infinity for none: spikes [T, B, ...] -> [B, ...]."""
        at = (spikes != 0).to(torch.uint8).argmax(0).to(raised(spikes).dtype)
        return torch.where((spikes != 0).any(0), at, math.inf)


@dataclass(frozen=True)
class LinearLatency(Latency):
    """t = floor((1 - x) (T - 1)): linear time to first spike (S4NN; the thesis' eq. 11 with t_max = T - 1).

    Args:
        silent_zero: values of exactly 0 never fire instead of firing at the last step.
    """

    silent_zero: bool = True

    def of(self, x: Tensor, steps: int) -> Tensor:
        t = torch.floor((1 - x) * (steps - 1))
        return torch.where(x > 0, t, math.inf) if self.silent_zero else t

    def decode(self, spikes: Tensor) -> Tensor:
        return (1 - self.first(spikes) / max(1, len(spikes) - 1)).clamp(min=0)


@dataclass(frozen=True)
class LogLatency(Latency):
    """t = tau ln(x / (x - theta)) for x > theta, else never: the first spike of an LIF charged by x (logarithmic TTFS).

    Args:
        tau: time constant in steps.
        theta: values up to it never fire. A time past the last step is never either.
    """

    tau: float = 5.0
    theta: float = 0.2

    def __post_init__(self) -> None:
        positive("LogLatency", "tau", self.tau, "time constant", unit="steps")
        if not 0 < self.theta < 1:
            raise ConfigError(f"LogLatency: theta is {self.theta}, expected a threshold between 0 and 1")

    def of(self, x: Tensor, steps: int) -> Tensor:
        # Counted from the first possible spike, that of x = 1, so that the strongest input fires at step 0.
        first = self.tau * math.log(1 / (1 - self.theta))
        t = self.tau * torch.log(x / (x - self.theta)) - first
        t = torch.floor(t.clamp(min=0))
        return torch.where(x > self.theta, t, math.inf)

    def decode(self, spikes: Tensor) -> Tensor:
        t = self.first(spikes) - self.tau * math.log(1 - self.theta)
        return torch.where(t.isinf(), 0.0, self.theta / -torch.expm1(-t / self.tau))


@dataclass(frozen=True)
class RankOrder(Latency):
    """Intensity to latency by rank: a sample's values above 0, sorted over all channels together, fire the strongest
    first, as many at each step; of equal ones the first. Zeros never fire.

    Args:
        front: what turns images into channels before; None ranks the values themselves.
        even: bins of floor(N / T) of the N values each, of which the N mod T weakest are dropped (Kheradpisheh,
            Mozafari), instead of step floor(rank T / N) (Shirsavar).
    """

    front: Front | None = None
    even: bool = False

    def __post_init__(self) -> None:
        if self.front is not None:
            expect("RankOrder", "front", self.front, Front)

    def of(self, x: Tensor, steps: int) -> Tensor:
        x = x if self.front is None else self.front(x)
        values, order = x.flatten(1).sort(dim=1, descending=True, stable=True)
        firing = values > 0
        count = firing.sum(1, keepdim=True)
        rank = torch.arange(values.shape[1], device=x.device).expand_as(order)
        step = rank // (count // steps).clamp(min=1) if self.even else rank * steps // count.clamp(min=1)
        at = torch.where(firing & (step < steps), step.to(x.dtype), math.inf)
        return torch.empty_like(at).scatter_(1, order, at).view(x.shape)


@dataclass(frozen=True)
class RampLatency(Latency):
    """t = window (1 - x), not rounded to steps, for x >= least; else never.

    Args:
        window: steps over which the values are spread.
        least: values below it never fire; 0: all fire.
    """

    window: float = 20.0
    least: float = 0.0

    def __post_init__(self) -> None:
        positive("RampLatency", "window", self.window, "number of steps")
        if not 0 <= self.least <= 1:
            raise ConfigError(f"RampLatency: least is {self.least}, expected a value between 0 and 1")

    def of(self, x: Tensor, steps: int) -> Tensor:
        return torch.where(x >= self.least, self.window * (1 - x), math.inf)


@dataclass(frozen=True)
class TwoTimes(Latency):
    """t = 0 for x above the threshold, `late` for the others (Mostafa 2017: late = tau_s ln 6).

    Args:
        late: steps.
        threshold: of the values.
    """

    late: float = 17.9
    threshold: float = 0.5

    def __post_init__(self) -> None:
        positive("TwoTimes", "late", self.late, "number of steps")
        if not 0 <= self.threshold < 1:
            raise ConfigError(f"TwoTimes: threshold is {self.threshold}, expected a value from 0 to below 1")

    def of(self, x: Tensor, steps: int) -> Tensor:
        return torch.where(x > self.threshold, 0.0, float(self.late)).to(x.dtype)
