"""Competition and homeostasis: who may fire, who may learn, and how thresholds keep everybody in the game."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from spikewright.errors import ConfigError, whole

__all__ = ["AdaptiveThreshold", "KWinners", "OneToAll", "TargetRate", "Winner", "earliest", "pointwise"]

Array = np.ndarray[Any, Any]


class Winner(NamedTuple):
    """A neuron that may learn: its map, its place, and the step of its first spike."""

    feature: int
    row: int
    column: int
    step: int


def pointwise(times: Array, potentials: Array, never: int) -> Array:
    """Point-wise inhibition: at each place only the map that fires first remains, of equals the one with the larger
    potential at that moment, of these the first. times, potentials [F, H, W] -> times, the others' `never`."""
    first = times.min(0)
    best = np.where(times == first, potentials, -np.inf).argmax(0)
    alone = (np.arange(len(times))[:, None, None] == best) & (times < never)
    return np.where(alone, times, never)


def earliest(times: Array, never: int) -> Array:
    """Point-wise inhibition of a layer that only hands on spikes: of equally early maps the first one remains."""
    return pointwise(times, np.zeros(times.shape), never)


@dataclass(frozen=True)
class KWinners:
    """k winners an image: the earliest spike, of equals the larger potential, of these the first neuron; each winner
    excludes its map, and the square of `radius` around it in all maps."""

    k: int = 5
    radius: int = 2

    def __post_init__(self) -> None:
        whole("KWinners", "k", self.k)
        whole("KWinners", "radius", self.radius, 0)

    def pick(self, times: Array, potentials: Array, never: int) -> list[Winner]:
        """times and potentials at the first spike [F, H, W] -> at most k winners, the first one first. The definition:
        it looks through all neurons once a winner."""
        found: list[Winner] = []
        open_ = times < never
        rows, columns = np.indices(times.shape[1:])
        while len(found) < self.k and open_.any():
            step = times[open_].min()
            score = np.where(open_ & (times == step), potentials, -np.inf)
            f, y, x = (int(i) for i in np.unravel_index(score.argmax(), score.shape))
            found.append(Winner(f, y, x, int(step)))
            open_[f] = False
            open_[:, (abs(rows - y) <= self.radius) & (abs(columns - x) <= self.radius)] = False
        return found


@dataclass(frozen=True)
class OneToAll:
    """A spike inhibits all others of its group by `strength`, itself excepted: in a dense layer all neurons, in a local
    one those at the same place."""

    strength: float

    def __post_init__(self) -> None:
        if not 0 <= self.strength < math.inf:
            raise ConfigError(f"OneToAll: strength is {self.strength}, expected a finite number of at least 0")

    def current(self, spikes: Array) -> Array:
        """spikes [P, F] -> the inhibition every neuron receives [P, F]."""
        return self.strength * (spikes.sum(-1, keepdims=True) - spikes)


@dataclass(frozen=True)
class AdaptiveThreshold:
    """theta <- theta exp(-h / tau) + plus at each own spike: who fires often becomes harder to please."""

    plus: float = 0.05
    tau: float = 1e7

    def __post_init__(self) -> None:
        if not (math.isfinite(self.plus) and self.tau > 0):
            raise ConfigError(f"AdaptiveThreshold: plus {self.plus}, tau {self.tau}: expected finite, and above 0")

    def step(self, theta: Array, spikes: Array, h: float = 1.0) -> Array:
        """theta [...] and this step's spikes -> theta."""
        return theta * math.exp(-h / self.tau) + self.plus * spikes


@dataclass(frozen=True)
class TargetRate:
    """threshold <- threshold + rate (count - target), after each presentation: all neurons come to fire equally often
    (Tavanaei 2016)."""

    target: float
    rate: float = 0.01

    def __post_init__(self) -> None:
        if not (math.isfinite(self.target) and math.isfinite(self.rate)):
            raise ConfigError(f"TargetRate: target {self.target}, rate {self.rate}: expected finite numbers")

    def step(self, threshold: Array, count: Array) -> Array:
        """Thresholds and what each neuron fired in this presentation -> thresholds."""
        return threshold + self.rate * (count - self.target)
