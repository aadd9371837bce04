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
from spikewright.errors import ConfigError, DataError, expect
from spikewright.events import bernoulli
from spikewright.fronts import Front
from spikewright.kernels import raised
from spikewright.times.signal import raster

__all__ = [
    "Bernoulli",
    "Burst",
    "BurstWeights",
    "Direct",
    "Encoder",
    "FiringPhase",
    "Frames",
    "Latency",
    "LinearLatency",
    "LogLatency",
    "Normalized",
    "Poisson",
    "Population",
    "RampLatency",
    "RankOrder",
    "TwoTimes",
    "WeightedPhase",
    "scheme",
]


class Encoder:
    """Base of the encoders. `spikes`: whether it hands on spikes (0, 1, or signed) rather than analog values."""

    spikes = True

    @property
    def cells(self) -> int:
        """Spike trains a value becomes: [B, C, ...] is handed on as [T, B, C cells, ...]."""
        return 1

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        """x [B, ...] -> [stop - start, B, ...]."""
        raise NotImplementedError

    def stream(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        """The same for a caller who streams and holds x for these steps alone."""
        return self.run(x, start, stop, steps, seed)

    def decode(self, spikes: Tensor) -> Tensor:
        """The values that a whole sequence stands for: spikes [T, B, ...] -> [B, ...], as far as the code lets know.

        Raises ConfigError for an encoder without a decoder.
        """
        raise ConfigError(f"{type(self).__name__} has no decoder: its spikes do not tell the values")


def _expect_whole(owner: str, name: str, value: int, least: int, most: float = math.inf) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        limit = f" and at most {most:g}" if most < math.inf else ""
        raise ConfigError(f"{owner}: {name} is {value!r}, expected a whole number of at least {least}{limit}")


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
        _expect_unit("Normalized", x)
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

    def decode(self, spikes: Tensor) -> Tensor:
        return spikes.mean(0) / self.rate


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
        _expect_whole("WeightedPhase", "bits", self.bits, 1, 23)

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        _expect_unit("WeightedPhase", x)
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
        _expect_whole("FiringPhase", "period", self.period, 2)

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        _expect_unit("FiringPhase", x)
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
        _expect_whole("Burst", "most", self.most, 1)
        _expect_whole("Burst", "t_min", self.t_min, 1)
        if self.t_max is not None:
            _expect_whole("Burst", "t_max", self.t_max, self.t_min)

    def _interval(self, x: Tensor, steps: int) -> Tensor:
        longest = max(self.t_min, steps if self.t_max is None else self.t_max)
        return torch.ceil(longest - (longest - self.t_min) * x)

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        _expect_unit("Burst", x)
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
        if not 0 < self.v_th < math.inf:
            raise ConfigError(f"BurstWeights: v_th is {self.v_th}, expected a finite threshold above 0")
        if not 1 <= self.beta < math.inf:
            raise ConfigError(f"BurstWeights: beta is {self.beta}, expected a finite growth of at least 1")

    def run(self, x: Tensor, start: int, stop: int, steps: int, seed: int = 0) -> Tensor:
        _expect_unit("BurstWeights", x)
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


@dataclass(frozen=True)
class Population(Latency):
    """Gaussian receptive fields (Bohte et al. 2002): each value drives m cells that fire the earlier the nearer it is.

    Centres mu_i = (2 i - 3) / (2 (m - 2)), i = 1 .. m, width 1 / (beta (m - 2)) over 0..1; a_i = exp(-(x - mu_i)^2 /
    (2 sigma^2)), t_i = round((T - 1)(1 - a_i)), never from `cut` of the sequence on (classically 9 of 10 steps).
    [B, C, ...] becomes [B, C m, ...], the cells of a channel next to each other.

    Args:
        m: cells a value, above 2.
        beta: how narrow the fields are.
        cut: share of the sequence (or window) from which a cell stays silent.
        window: spread the times over so many steps, t_i = window (1 - a_i), and do not round them.
    """

    m: int = 6
    beta: float = 1.5
    cut: float = 0.9
    window: float | None = None

    def __post_init__(self) -> None:
        _expect_whole("Population", "m", self.m, 3)
        if self.window is not None and not 0 < self.window < math.inf:
            raise ConfigError(
                f"Population: window is {self.window}, expected a finite number of steps above 0, or none"
            )
        if not 0 < self.beta < math.inf:
            raise ConfigError(f"Population: beta is {self.beta}, expected a finite number above 0")
        if not 0 < self.cut <= 1:
            raise ConfigError(f"Population: cut is {self.cut}, expected a share above 0 and at most 1")

    @property
    def cells(self) -> int:
        return self.m

    @property
    def centres(self) -> list[float]:
        """mu_1 .. mu_m; the first lies half a spacing below 0."""
        return [(2 * i - 3) / (2 * (self.m - 2)) for i in range(1, self.m + 1)]

    def activity(self, x: Tensor) -> Tensor:
        """a_i, how near each value is to each centre: [B, C, ...] -> [B, C m, ...]."""
        mu = torch.tensor(self.centres, dtype=x.dtype, device=x.device).view(-1, *[1] * (x.dim() - 2))
        sigma = 1 / (self.beta * (self.m - 2))
        return torch.exp(-((x[:, :, None] - mu) ** 2) / (2 * sigma**2)).flatten(1, 2)

    def of(self, x: Tensor, steps: int) -> Tensor:
        if self.window is not None:
            t = self.window * (1 - self.activity(x))
            return torch.where(t < self.cut * self.window, t, math.inf)
        t = torch.round((steps - 1) * (1 - self.activity(x)))
        return torch.where(t < max(self.cut * (steps - 1), 0.5), t, math.inf)

    def decode(self, spikes: Tensor) -> Tensor:
        """Mean of the centres, weighed by how early each cell fires: [T, B, C m, ...] -> [B, C, ...]."""
        a = (1 - self.first(spikes) / max(1, len(spikes) - 1)).clamp(min=0).unflatten(1, (-1, self.m))
        mu = torch.tensor(self.centres, dtype=a.dtype, device=a.device).view(-1, *[1] * (a.dim() - 3))
        return (a * mu).sum(2) / a.sum(2).clamp(min=1e-9)


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


_SCHEMES: dict[str, Encoder] = {
    "bernoulli": Bernoulli(),
    "burst": Burst(),
    "burst-weights": BurstWeights(),
    "direct": Direct(),
    "firing-phase": FiringPhase(),
    "latency": LinearLatency(),
    "log-latency": LogLatency(),
    "poisson": Poisson(),
    "population": Population(),
    "rank-order": RankOrder(),
    "weighted-phase": WeightedPhase(),
}


def scheme(name: str) -> Encoder:
    """The encoder of still images with this name on the command line; ConfigError lists them."""
    if name not in _SCHEMES:
        raise ConfigError(f"there is no encoding scheme {name!r}; there are {', '.join(_SCHEMES)}")
    return _SCHEMES[name]
