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

from spikewright import noise
from spikewright.errors import ConfigError, expect, positive, whole
from spikewright.kernels import block_of
from spikewright.neurons.filters import low_pass
from spikewright.neurons.parts import Factor, Leak
from spikewright.times.signal import first_spikes

__all__ = [
    "FirstSpike",
    "FirstSpikeZ",
    "LastMembrane",
    "MaxMembrane",
    "MeanMembrane",
    "NHot",
    "NearestTime",
    "NearestTrain",
    "Rate",
    "Readout",
    "Recent",
    "SpikingSoftmax",
    "Threshold",
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

    def steady(self, out: Tensor) -> Tensor:
        """Scores [B, C] of outputs [B, F] that do not change in time, as those of an ANN."""
        scores: Tensor = self.run(out[None])[0][-1]
        return scores


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
class Recent(Readout):
    """Mean of the outputs of the last `steps` steps, or of all as long as there are fewer."""

    steps: int = 20

    def __post_init__(self) -> None:
        whole("Recent", "steps", self.steps)

    def run(self, out: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        kept, before = state or (out.new_zeros(self.steps - 1, *out.shape[1:]), 0)
        seen = torch.cat([kept, out])
        count = torch.arange(before + 1, before + len(out) + 1, device=out.device).clamp(max=self.steps)
        mean = seen.unfold(0, self.steps, 1).sum(-1) / count.to(out.dtype).view(-1, 1, 1)
        return mean, (seen[len(out) :], before + len(out))


@dataclass(frozen=True)
class NHot(Readout):
    """A code word of several outputs for each class: scores (2 rate - 1) . (2 word - 1) (Severa et al. 2019).

    Each class has D // classes of the D outputs, drawn at random; the same output may serve several classes.

    Args:
        classes: how many.
        disjoint: no output serves two classes.
        seed: of the draw.
    """

    classes: int = 10
    disjoint: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        whole("NHot", "classes", self.classes)
        whole("NHot", "seed", self.seed, 0)

    def words(self, outputs: int) -> Tensor:
        """The code, 0 or 1: [C, D]."""
        each = outputs // self.classes
        if not each:
            raise ConfigError(f"NHot: the body hands on {outputs} outputs, fewer than one for each of {self.classes}")
        draw = torch.Generator().manual_seed(self.seed)
        if self.disjoint:
            chosen = torch.randperm(outputs, generator=draw)[: each * self.classes].view(self.classes, each)
        else:
            chosen = torch.stack([torch.randperm(outputs, generator=draw)[:each] for _ in range(self.classes)])
        return torch.zeros(self.classes, outputs).scatter_(1, chosen, 1.0)

    def run(self, out: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        rate, state = _running_mean(out, state)
        return (2 * rate - 1) @ (2 * self.words(out.shape[-1]) - 1).to(out).T, state


@dataclass(frozen=True)
class LastMembrane(Readout):
    """Potential of a neuron that integrates the outputs and never fires: v[t] = decay v[t-1] + gain out[t]."""

    leak: Leak = field(default_factory=lambda: Factor(1.0))
    spikes = False

    def __post_init__(self) -> None:
        expect(type(self).__name__, "leak", self.leak, Leak)

    def run(self, out: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        decay, gain = self.leak.coefficients()
        return low_pass(out, state, decay=decay, gain=gain)


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
class Leading(Readout):
    """The first `size` outputs, read by `then`: for bodies that hand on more than scores, for a loss to see."""

    size: int = 10
    then: Readout = Rate()

    def __post_init__(self) -> None:
        whole("Leading", "size", self.size)
        expect("Leading", "then", self.then, Readout)

    def run(self, out: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        return self.then.run(out[..., : self.size], state)


@dataclass(frozen=True)
class SpikingSoftmax(Readout):
    """Spikes drawn by a softmax of the accumulated outputs, counted (Rueckauer et al. 2017): at every step each class
    emits one with probability softmax(sum of the outputs so far), independently.

    Draws have no gradient. The numbers drawn are a function of (seed, step, class) and the same for all samples, so
    that a sample's result does not depend on its batch.
    """

    seed: int = 0
    spikes = False

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise ConfigError(f"SpikingSoftmax: seed is {self.seed!r}, expected a whole number")

    def run(self, out: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        total, count, before = state or (torch.zeros_like(out[0]), torch.zeros_like(out[0]), 0)
        total = torch.cat([total[None], out]).cumsum(0)[1:]
        key = torch.zeros(1, dtype=torch.long, device=out.device)
        drawn = noise.uniform(key, self.seed, before, before + len(out), tuple(out.shape[2:]))
        fired = (drawn < total.softmax(-1)).to(out.dtype)
        count = torch.cat([count[None], fired]).cumsum(0)[1:]
        return count, (total[-1], count[-1], before + len(out))

    def steady(self, out: Tensor) -> Tensor:
        return out


@dataclass(frozen=True)
class Vote(Readout):
    """Groups of `size` outputs vote for one class by their mean (Wu et al. 2019; PLIF), read by `then`."""

    size: int = 10
    then: Readout = Rate()

    def __post_init__(self) -> None:
        whole("Vote", "size", self.size)
        expect("Vote", "then", self.then, Readout)

    def run(self, out: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        if out.shape[-1] % self.size:
            raise ConfigError(
                f"Vote: the body hands on {out.shape[-1]} outputs, no multiple of the group size {self.size}"
            )
        return self.then.run(out.unflatten(-1, (-1, self.size)).mean(-1), state)


@dataclass(frozen=True)
class Threshold(Readout):
    """Two classes told apart by one neuron: 1 if its potential ever reached `v_th`, else 0 (tempotron).

    The scores are (v_th, highest potential so far): out [T, B, F] -> [T, B, 2]; of several neurons one suffices.
    """

    v_th: float = 1.0
    spikes = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.v_th):
            raise ConfigError(f"Threshold: v_th is {self.v_th}, expected a finite potential")

    def run(self, out: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        highest, state = MaxMembrane(Factor(0.0)).run(out.amax(-1, keepdim=True), state)
        return torch.cat([torch.full_like(highest, self.v_th), highest], -1), state


@dataclass(frozen=True)
class NearestTrain(Readout):
    """The class whose target spike trains the outputs are closest to, by van Rossum's distance.

    scores[t] = -D of the trains up to step t, D = 1/tau sum over neurons of the integral of (f - g)^2, f and g the
    trains filtered by exp(-t / tau) and let run out: one spike too many or too few costs 1/2. With `reach` there is one
    class more, "none of them", which wins when all distances are above `reach`.

    Args:
        trains: spike steps by class and neuron: trains[c][k] = (5, 17, ...). One neuron stands for all outputs.
        tau: time constant of the filter, steps.
        reach: largest distance that counts as that train; None: the nearest wins, however far.
    """

    trains: tuple[tuple[tuple[int, ...], ...], ...] = (((0,),),)
    tau: float = 10.0
    reach: float | None = None

    def __post_init__(self) -> None:
        positive("NearestTrain", "tau", self.tau, "time constant", unit="steps")
        if not self.trains or len({len(train) for train in self.trains}) != 1:
            raise ConfigError("NearestTrain: trains must give every class a train for every neuron, at least one")
        if any(step < 0 for train in self.trains for times in train for step in times):
            raise ConfigError("NearestTrain: trains have a spike before step 0")
        if self.reach is not None and not 0 < self.reach < math.inf:
            raise ConfigError(f"NearestTrain: reach is {self.reach}, expected a finite distance above 0, or none")

    @property
    def neurons(self) -> int:
        """How many output neurons the trains are for."""
        return len(self.trains[0])

    def raster(self, start: int, stop: int, like: Tensor) -> Tensor:
        """Target spikes of the steps start .. stop, [T, classes, neurons], of the dtype and device of `like`."""
        spikes = [
            (step - start, c, k)
            for c, train in enumerate(self.trains)
            for k, times in enumerate(train)
            for step in times
            if start <= step < stop
        ]
        out = torch.zeros(stop - start, len(self.trains), self.neurons)
        if spikes:
            out[tuple(torch.tensor(spikes).T)] = 1
        return out.to(like)

    def run(self, out: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        if self.neurons not in (1, out.shape[-1]):
            raise ConfigError(f"NearestTrain: the body hands on {out.shape[-1]} outputs, the trains {self.neurons}")
        x = block_of(out)
        at, filtered, passed = state or (0, None, x.new_zeros(x.shape[1], len(self.trains)))
        wanted = self.raster(at, at + len(x), x)
        decay = math.exp(-1 / self.tau)
        f, filtered = low_pass(x[:, :, None] - wanted[:, None], filtered, decay=decay, gain=1.0)
        energy = f.square().sum(-1)  # [T, B, C]
        total = torch.cat([passed[None], energy * ((1 - decay**2) / 2)]).cumsum(0)
        scores = -(total[:-1] + energy / 2)
        if self.reach is not None:
            scores = torch.cat([scores, torch.full_like(scores[..., :1], -self.reach)], -1)
        return scores.to(out.dtype), (at + len(x), filtered, total[-1])


class Timing(Readout):
    """Base of the readouts that go by when the outputs first fired, in a body of times or in a raster.

    Subclasses write `of`. An output that has not fired after a step counts as one that fires right then; but with
    `late`, after the last step, as one that fires when its time says.
    """

    late = False

    def of(self, times: Tensor) -> Tensor:
        """Scores of spike times: [..., B, F] -> [..., B, C]."""
        raise NotImplementedError

    def at(self, times: Tensor, start: int, stop: int, steps: int | None = None) -> Tensor:
        """Scores after the steps start .. stop of `steps`: times [B, F], infinity for none -> [stop - start, B, C]."""
        after = torch.arange(start + 1, stop + 1, device=times.device, dtype=times.dtype).view(-1, 1, 1)
        known = (times < after) | (self.late & (after == steps))
        return self.of(torch.where(known, times, after))

    def run(self, out: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        times, start = state or (torch.full_like(out[0], math.inf), 0)
        fresh = first_spikes(out, start).to(times)
        scores = self.at(torch.minimum(times, fresh), start, start + len(out))
        return scores, (torch.minimum(times, fresh), start + len(out))


@dataclass(frozen=True)
class FirstSpike(Timing):
    """-t / tau: the output that fires first wins; a softmax of it is one over -t / tau.

    Args:
        tau: scale of the times, steps.
        late: when the last step has passed and none has fired, the outputs' times behind it decide (with
            `InstantIF(late=True)` the potentials, as in S4NN's authors' code).
    """

    tau: float = 1.0
    late: bool = False

    def __post_init__(self) -> None:
        positive(type(self).__name__, "tau", self.tau, "time", unit="steps")

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
