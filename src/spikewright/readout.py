"""Readouts: what the body hands on over the steps -> class scores, at every step.

A readout is a pure function `run(out, state)`: out [T, B, F] -> (scores [T, B, C], state). scores[t] is what the
network would answer if it stopped after step t, so accuracy at every step comes from one pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from spikewright import kernels
from spikewright.errors import ConfigError, expect
from spikewright.neurons.parts import Factor, Leak
from spikewright.times.signal import first_spikes

__all__ = [
    "FirstSpike",
    "FirstSpikeZ",
    "LastMembrane",
    "MaxMembrane",
    "MeanMembrane",
    "NearestTime",
    "Rate",
    "Readout",
    "Timing",
    "Vote",
    "hits",
]


class Readout:
    """Base of the readouts. `spikes`: whether the body is meant to end in spikes (else in a layer without neuron)."""

    spikes = True

    def run(self, out: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """out [T, B, F] -> (scores [T, B, C], state to hand on)."""
        raise NotImplementedError


def hits(scores: Tensor, target: Tensor) -> Tensor:
    """Whether the true class scores above all others (a tie is a miss): scores [..., B, C], target [B] -> [..., B]."""
    true = scores.gather(-1, target.expand(scores.shape[:-1])[..., None])
    return (scores >= true).sum(-1) == 1


def _running_mean(x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Mean over the steps so far: x [T, B, F], state (sum [B, F], steps)."""
    total, before = state or (torch.zeros_like(x[0]), 0)
    total = torch.cat([total[None], x]).cumsum(0)[1:]
    count = torch.arange(before + 1, before + len(x) + 1, device=x.device, dtype=x.dtype)
    return total / count.view(-1, 1, 1), (total[-1], before + len(x))


@dataclass(frozen=True)
class Rate(Readout):
    """Mean of the outputs so far: firing rates of spiking outputs, mean logits of a body that ends in a plain layer."""

    def run(self, out: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return _running_mean(out, state)


@dataclass(frozen=True)
class LastMembrane(Readout):
    """Potential of a neuron that integrates the outputs and never fires: v[t] = decay v[t-1] + gain out[t]."""

    leak: Leak = field(default_factory=lambda: Factor(1.0))
    spikes = False

    def __post_init__(self) -> None:
        expect(type(self).__name__, "leak", self.leak, Leak)

    def run(self, out: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        decay, gain = self.leak.coefficients()
        return kernels.low_pass(out, state, decay=decay, gain=gain)


@dataclass(frozen=True)
class MeanMembrane(LastMembrane):
    """Mean over the steps so far of that potential."""

    def run(self, out: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        v_state, mean_state = state or (None, None)
        v, v_state = super().run(out, v_state)
        mean, mean_state = _running_mean(v, mean_state)
        return mean, (v_state, mean_state)


@dataclass(frozen=True)
class MaxMembrane(LastMembrane):
    """Highest value so far of that potential."""

    def run(self, out: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        v_state, top = state or (None, torch.full_like(out[0], -torch.inf))
        v, v_state = super().run(out, v_state)
        highest = torch.cat([top[None], v]).cummax(0).values[1:]
        return highest, (v_state, highest[-1])


@dataclass(frozen=True)
class Vote(Readout):
    """Groups of `size` outputs vote for one class by their mean (Wu et al. 2019; PLIF), read by `then`."""

    size: int = 10
    then: Readout = Rate()

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ConfigError(f"Vote: size is {self.size}, expected a whole number of outputs a class, at least 1")
        expect("Vote", "then", self.then, Readout)

    def run(self, out: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        if out.shape[-1] % self.size:
            raise ConfigError(
                f"Vote: the body hands on {out.shape[-1]} outputs, no multiple of the group size {self.size}"
            )
        return self.then.run(out.unflatten(-1, (-1, self.size)).mean(-1), state)


class Timing(Readout):
    """Base of the readouts that go by when the outputs first fired, in a body of times or in a raster.

    Subclasses write `of`. An output that has not fired after a step counts as one that fires right then.
    """

    def of(self, times: Tensor) -> Tensor:
        """Scores of spike times: [..., B, F] -> [..., B, C]."""
        raise NotImplementedError

    def at(self, times: Tensor, start: int, stop: int) -> Tensor:
        """Scores after each of the steps start .. stop: times [B, F], infinity for none -> [stop - start, B, C]."""
        after = torch.arange(start + 1, stop + 1, device=times.device, dtype=times.dtype).view(-1, 1, 1)
        return self.of(torch.where(times < after, times, after))

    def run(self, out: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        times, start = state or (torch.full_like(out[0], math.inf), 0)
        fresh = first_spikes(out, start).to(times)
        scores = self.at(torch.minimum(times, fresh), start, start + len(out))
        return scores, (torch.minimum(times, fresh), start + len(out))


@dataclass(frozen=True)
class FirstSpike(Timing):
    """-t / tau: the output that fires first wins; a softmax of it is one over -t / tau."""

    tau: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.tau < math.inf:
            raise ConfigError(f"{type(self).__name__}: tau is {self.tau}, expected a finite time above 0 steps")

    def of(self, times: Tensor) -> Tensor:
        return -times / self.tau


@dataclass(frozen=True)
class FirstSpikeZ(FirstSpike):
    """-exp(t / tau): the output that fires first wins; a softmax of it is one over -z (Mostafa 2017)."""

    def of(self, times: Tensor) -> Tensor:
        return -torch.exp(times / self.tau)


@dataclass(frozen=True)
class NearestTime(Timing):
    """Every class has a time at which all outputs should fire; the nearest, by the sum of squares, wins (SpikeProp)."""

    times: tuple[float, ...] = (16.0, 10.0)

    def __post_init__(self) -> None:
        if not (self.times and all(math.isfinite(t) and t >= 0 for t in self.times)):
            raise ConfigError(
                f"NearestTime: times are {self.times}, expected a finite time of at least 0 for each class"
            )

    def of(self, times: Tensor) -> Tensor:
        return -torch.stack([(times - t).square().sum(-1) for t in self.times], -1)
