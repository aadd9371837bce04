"""Encoders: values -> what the body receives at every step.

An encoder is a pure function `run(x, start, stop, steps, seed)`: x [B, ...] -> [stop - start, B, ...], the block
start .. stop of a sequence of `steps`. Random ones draw by `noise.uniform`, so a block, a batch and a device never
change what a sample gets. Values are expected in 0..1 where the encoder says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright import noise
from spikewright.errors import ConfigError, DataError
from spikewright.kernels import raised
from spikewright.times.signal import raster

__all__ = [
    "Bernoulli",
    "Direct",
    "Encoder",
    "Frames",
    "Latency",
    "LinearLatency",
    "LogLatency",
    "Poisson",
    "RampLatency",
    "TwoTimes",
]


class Encoder:
    """Base of the encoders. `spikes`: whether it hands on spikes (0, 1, or signed) rather than analog values."""

    spikes = True

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        """x [B, ...] -> [stop - start, B, ...]."""
        raise NotImplementedError

    def stream(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        """The same for a caller who streams and holds x for these steps alone."""
        return self.run(x, start, stop, steps, seed)


def _expect_unit(name: str, x: Tensor, low: float = 0.0) -> None:
    if x.numel():
        least, most = x.min().item(), x.max().item()
        if not (low <= least and most <= 1):
            raise DataError(
                f"{name} takes values in {low:g}..1, found {least:.4g}..{most:.4g}: scale the input (pixels / 255) and "
                "leave normalisation out in front of this encoder"
            )


@dataclass(frozen=True)
class Direct(Encoder):
    """The values themselves as a constant current at every step; the first layer does the encoding."""

    spikes = False

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        return x.expand(stop - start, *x.shape)


@dataclass(frozen=True)
class Frames(Encoder):
    """Input that already has a time axis: x [B, T, ...] (binned events) with T = steps."""

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        if x.dim() < 2 or x.shape[1] != steps:
            found = x.shape[1] if x.dim() > 1 else "no time axis"
            raise DataError(
                f"Frames: the input has {found} frames, the network runs {steps} steps: "
                f"bin the events by data.with_steps({steps})"
            )
        return x[:, start:stop].transpose(0, 1)

    def stream(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        return self.run(x, 0, stop - start, stop - start, seed)


@dataclass(frozen=True)
class Bernoulli(Encoder):
    """Independent spikes with probability gain * x at every step (called Poisson in much deep-learning code).

    Args:
        gain: probability of a spike per step at x = 1, in 0..1.
        signed: take x in -1..1 and hand on sign(x) with probability gain * |x|.
    """

    gain: float = 1.0
    signed: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.gain <= 1:
            raise ConfigError(f"Bernoulli: gain is {self.gain}, expected a probability above 0 and at most 1")

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        _expect_unit("Bernoulli", x, -1.0 if self.signed else 0.0)
        u = noise.uniform(noise.sample_keys(x), seed, start, stop, tuple(x.shape[1:]))
        fired = (u < self.gain * x.abs()).to(x.dtype)
        return fired * x.sign() if self.signed else fired


@dataclass(frozen=True)
class Poisson(Encoder):
    """True Poisson counts: the number of spikes in each step has mean rate * x (so it can exceed 1; Fano factor 1).

    Args:
        rate: expected spikes per step at x = 1, > 0; with h ms a step and f Hz that is f h / 1000.
    """

    rate: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 16:
            raise ConfigError(f"Poisson: rate is {self.rate}, expected spikes per step above 0 and at most 16")

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        _expect_unit("Poisson", x)
        u = noise.uniform(noise.sample_keys(x), seed, start, stop, tuple(x.shape[1:])).double()
        mean = self.rate * x.double()
        term = torch.exp(-mean)  # inversion: count the cumulative probabilities below u
        below = term.clone()
        count = torch.zeros_like(u)
        for k in range(1, 80):
            count += u >= below
            term = term * mean / k
            below = below + term
        return count.to(x.dtype)


class Latency(Encoder):
    """Time to first spike: each input fires once, the stronger the earlier. Subclasses give the times.

    It speaks both kinds of signal: a raster of the times' whole steps, or to a body of `Timed` layers the times.
    """

    def times(self, x: Tensor, steps: int) -> Tensor:
        """Spike time of every value, from 0 to below `steps`, infinity for none: x [B, ...] in 0..1 -> [B, ...].

        Raises DataError for other values.
        """
        _expect_unit(type(self).__name__, x)
        times = self.of(x, steps)
        return torch.where(times < steps, times, math.inf)

    def of(self, x: Tensor, steps: int) -> Tensor:
        """The times themselves, which is what a subclass writes."""
        raise NotImplementedError

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        return raster(self.times(raised(x), steps), start, stop).to(x.dtype)


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
        if not 0 < self.tau < math.inf:
            raise ConfigError(f"LogLatency: tau is {self.tau}, expected a finite time constant above 0 steps")
        if not 0 < self.theta < 1:
            raise ConfigError(f"LogLatency: theta is {self.theta}, expected a threshold between 0 and 1")

    def of(self, x: Tensor, steps: int) -> Tensor:
        # Counted from the first possible spike, that of x = 1, so that the strongest input fires at step 0.
        first = self.tau * math.log(1 / (1 - self.theta))
        t = self.tau * torch.log(x / (x - self.theta)) - first
        t = torch.floor(t.clamp(min=0))
        return torch.where(x > self.theta, t, math.inf)


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
        if not 0 < self.window < math.inf:
            raise ConfigError(f"RampLatency: window is {self.window}, expected a finite number of steps above 0")
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
        if not 0 < self.late < math.inf:
            raise ConfigError(f"TwoTimes: late is {self.late}, expected a finite number of steps above 0")
        if not 0 <= self.threshold < 1:
            raise ConfigError(f"TwoTimes: threshold is {self.threshold}, expected a value from 0 to below 1")

    def of(self, x: Tensor, steps: int) -> Tensor:
        return torch.where(x > self.threshold, 0.0, float(self.late)).to(x.dtype)


@dataclass(frozen=True)
class PopulationLatency(Latency):
    """Overlapping Gaussian receptive fields (Bohte et al. 2002): x [B, C, ...] -> [B, C * fields, ...].

    Field k of n has its centre at (2k - 3) / (2 (n - 2)), k = 1 .. n, and the width 1 / (gamma (n - 2)); a response r
    fires at window (1 - r), one below `least` never.

    Args:
        fields: n, at least 3.
        window: steps over which the responses are spread.
        gamma: how narrow the fields are.
        least: weakest response that fires.
    """

    fields: int = 12
    window: float = 20.0
    gamma: float = 1.5
    least: float = 0.1

    def __post_init__(self) -> None:
        if isinstance(self.fields, bool) or not isinstance(self.fields, int) or self.fields < 3:
            raise ConfigError(f"PopulationLatency: fields is {self.fields!r}, expected a whole number of at least 3")
        for name in ("window", "gamma"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(
                    f"PopulationLatency: {name} is {getattr(self, name)}, expected a finite number above 0"
                )
        if not 0 <= self.least <= 1:
            raise ConfigError(f"PopulationLatency: least is {self.least}, expected a response between 0 and 1")

    def of(self, x: Tensor, steps: int) -> Tensor:
        k = torch.arange(1, self.fields + 1, device=x.device, dtype=x.dtype)
        centres = ((2 * k - 3) / (2 * (self.fields - 2))).view(-1, *[1] * (x.dim() - 2))
        away = (x.unsqueeze(2) - centres) * (self.gamma * (self.fields - 2))
        response = torch.exp(-0.5 * away.square()).flatten(1, 2)
        return torch.where(response >= self.least, self.window * (1 - response), math.inf)
