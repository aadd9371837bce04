"""Phase codes: what a spike stands for depends on where in a period it comes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.encode.base import Encoder, expect_unit
from spikewright.errors import ConfigError, whole
from spikewright.kernels import raised

__all__ = ["FiringPhase", "WeightedPhase"]


@dataclass(frozen=True)
class WeightedPhase(Encoder):
    """Weighted spikes (Kim et al. 2018): the bits of x, the most significant first, over and over.

    q = floor(2^bits x), at most 2^bits - 1; in phase k = t mod bits the spike is bit k of q. It stands for 2^-(1+k).

    Args:
        bits: K, steps of a period.
        weighted: hand on 2^-(1+k) in place of 1, for a body that does not know the phase.
    """

    bits: int = 8
    weighted: bool = False

    def __post_init__(self) -> None:
        whole("WeightedPhase", "bits", self.bits, 1, 23)

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        expect_unit("WeightedPhase", x)
        q = torch.floor(raised(x) * 2**self.bits).clamp(max=2**self.bits - 1).long()
        k = (torch.arange(start, stop, device=x.device) % self.bits).view(-1, *[1] * x.dim())
        bit = ((q >> (self.bits - 1 - k)) & 1).to(x.dtype)
        return bit * torch.exp2(-1.0 - k).to(x.dtype) if self.weighted else bit

    def decode(self, spikes: Tensor) -> Tensor:
        """x rounded down to `bits` bits, from the whole periods among the steps."""
        if (periods := len(spikes) // self.bits) == 0:
            raise ConfigError(f"WeightedPhase: {len(spikes)} steps are no whole period of {self.bits}: run more steps")
        weight = torch.exp2(-1.0 - torch.arange(self.bits, device=spikes.device))
        whole = (spikes[: periods * self.bits] != 0).unflatten(0, (periods, self.bits)).to(raised(spikes).dtype)
        return torch.einsum("pk...,k->...", whole, weight.to(whole.dtype)) / periods


@dataclass(frozen=True)
class FiringPhase(Encoder):
    """Phase of firing: one spike a period of P steps, at its step floor((1 - x) P), the strongest first; 0 is silent.

    Args:
        period: P, steps.
    """

    period: int = 8

    def __post_init__(self) -> None:
        whole("FiringPhase", "period", self.period, 2)

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        expect_unit("FiringPhase", x)
        phase = torch.floor((1 - raised(x)) * self.period).clamp(max=self.period - 1)
        at = (torch.arange(start, stop, device=x.device) % self.period).view(-1, *[1] * x.dim())
        return ((phase == at) & (x > 0)).to(x.dtype)

    def decode(self, spikes: Tensor) -> Tensor:
        """By the circular mean of the spikes' phases, within half a step of x; 0 for none."""
        angle = torch.arange(len(spikes), device=spikes.device, dtype=raised(spikes).dtype) * (
            2 * math.pi / self.period
        )
        fired = (spikes != 0).to(angle.dtype)
        y, x = (torch.einsum("t...,t->...", fired, f(angle)) for f in (torch.sin, torch.cos))
        turn = torch.remainder(torch.atan2(y, x) / (2 * math.pi) + 1e-9, 1.0)
        return torch.where(fired.any(0), 1 - turn - 0.5 / self.period, 0.0)
