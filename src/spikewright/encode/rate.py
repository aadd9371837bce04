"""Rate codes: the larger a value, the more spikes, drawn at random."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright import noise
from spikewright.encode.base import Encoder, expect_unit
from spikewright.errors import ConfigError, expect
from spikewright.events import bernoulli

__all__ = ["Bernoulli", "Normalized", "Poisson"]


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
        expect_unit("Bernoulli", x, -1.0 if self.signed else 0.0)
        fired = bernoulli(x, self.gain * x.abs(), seed, start, stop)
        return fired * x.sign() if self.signed else fired

    def decode(self, spikes: Tensor) -> Tensor:
        return spikes.mean(0) / self.gain


@dataclass(frozen=True)
class Normalized(Encoder):
    """Another encoder of normalised values, (x - mean) / std by channel for x in 0..1: what a network that begins by
    normalising gets when spikes take the place of its input.

    Args:
        encode: what makes spikes of the normalised values.
        mean, std: one number per channel each, std above 0.
        clip: keep the values within -1..1, which is all that signed spikes can say.
    """

    encode: Encoder = Bernoulli(signed=True)
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)
    clip: bool = True

    def __post_init__(self) -> None:
        expect("Normalized", "encode", self.encode, Encoder)
        numbers = [*self.mean, *self.std]
        if len(self.mean) != len(self.std) or not all(map(math.isfinite, numbers)) or min(self.std) <= 0:
            raise ConfigError(
                f"Normalized: mean is {self.mean}, std is {self.std}, expected one of each per channel, std above 0"
            )

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        expect_unit("Normalized", x)
        shape = (-1,) + (1,) * (x.dim() - 2)
        mean, std = (torch.tensor(v, dtype=x.dtype, device=x.device).view(shape) for v in (self.mean, self.std))
        value = (x - mean) / std
        return self.encode.run(value.clamp(-1, 1) if self.clip else value, start, stop, steps, seed)


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
        expect_unit("Poisson", x)
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

    def decode(self, spikes: Tensor) -> Tensor:
        return spikes.mean(0) / self.rate
