"""How synaptic delays learn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from spikewright.errors import ConfigError, positive
from spikewright.teaching.kernels import Exponential
from spikewright.teaching.pairs import spikes_of, sums

__all__ = ["Align", "Correlate", "DelayRule"]


class DelayRule(Protocol):
    """Moves the delays of a layer's synapses."""

    def __call__(
        self, delays: Tensor, longest: int, weight: Tensor, inputs: Tensor, out: Tensor, desired: Tensor
    ) -> Tensor:
        """New delays [K, N] in steps, 0 .. longest.

        Args:
            delays, weight: [K, N].
            inputs: the delayed inputs [T, B, K * N].
            out, desired: output and desired spikes [T, B, K].
        """


@dataclass(frozen=True)
class Correlate:
    """d += rate (sum at desired spikes - sum at actual ones) of x_i / tau, x_i the trace of the delayed input.

    x_i / tau is how fast the trace at a spike grows with the delay, so the delayed input's correlation with the desired
    train rises and that with the actual one falls (CCDS). Mean over the batch.
    """

    rate: float
    tau: float

    def __post_init__(self) -> None:
        for name in ("rate", "tau"):
            positive("Correlate", name, getattr(self, name))

    def __call__(
        self, delays: Tensor, longest: int, weight: Tensor, inputs: Tensor, out: Tensor, desired: Tensor
    ) -> Tensor:
        outputs, fan_in = delays.shape
        moved = delays.clone()
        for k in range(outputs):
            events = spikes_of((desired - out)[..., k : k + 1])
            mine = spikes_of(inputs[..., k * fan_in : (k + 1) * fan_in])
            slope = sums(events, mine, Exponential(self.tau, 1 / self.tau), (1, fan_in))[0]
            moved[k] += self.rate / inputs.shape[1] * torch.from_numpy(slope).to(delays)
        return moved.clamp(0, longest)


@dataclass(frozen=True)
class Align:
    """Each delay is set once: DL-ReSuMe (Taherkhani et al. 2015).

    At a desired spike without an actual one, of the excitatory synapses (w > 0) whose delay is still 0 the one whose
    last spike is closest before it gets the delay that puts its potential's peak there; at an actual spike without a
    desired one, an inhibitory synapse (w < 0) in the same way.

    Args:
        lead: from a spike's arrival to the peak of its potential, steps.
    """

    lead: float

    def __post_init__(self) -> None:
        if not 0 <= self.lead < math.inf:
            raise ConfigError(f"Align: lead is {self.lead}, expected steps, a finite number of at least 0")

    def __call__(
        self, delays: Tensor, longest: int, weight: Tensor, inputs: Tensor, out: Tensor, desired: Tensor
    ) -> Tensor:
        moved, fan_in = delays.clone(), delays.shape[1]
        for t, b, k in (events := desired - out).nonzero().tolist():
            before = inputs[:t, b, k * fan_in : (k + 1) * fan_in] != 0
            late = t - self.lead - _last(before)  # how much later it should have come, [N]
            open_to_change = (weight[k] * events[t, b, k] > 0) & (moved[k] == 0) & (late > 0.5) & (late <= longest)
            if open_to_change.any():
                chosen = torch.where(open_to_change, late, math.inf).argmin()
                moved[k, chosen] = late[chosen]
        return moved


def _last(spikes: Tensor) -> Tensor:
    """Step of the last spike of each input, -infinity for none: [T, N] -> [N]."""
    if not len(spikes):
        return torch.full(spikes.shape[1:], -math.inf)
    back = spikes.flip(0).float().argmax(0)
    return torch.where(spikes.any(0), (len(spikes) - 1 - back).float(), -math.inf)
