"""Traces: what a neuron's spikes leave behind for a rule to read.

A trace is a pure step: `step(x, spikes, h) -> x`, first the decay over h, then the spikes of this step. NumPy arrays
of any shape, one value a neuron. Rules that must read a trace before this step's spikes call the two halves,
`decayed` and `struck`, themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikewright.errors import ConfigError, positive

__all__ = ["Double", "Exponential", "FirstSpike", "Trace"]

Array = np.ndarray[Any, Any]


class Trace:
    """Base of the traces."""

    def rest(self, shape: tuple[int, ...], dtype: Any = np.float64) -> Any:
        """The trace of neurons that have not fired."""
        return np.zeros(shape, dtype)

    def decayed(self, x: Any, h: float = 1.0) -> Any:
        """The trace h later, without spikes."""
        raise NotImplementedError

    def struck(self, x: Any, spikes: Array) -> Any:
        """The trace after these spikes (bool, or 0 and 1)."""
        raise NotImplementedError

    def step(self, x: Any, spikes: Array, h: float = 1.0) -> Any:
        """One step: decay over h, then the spikes."""
        return self.struck(self.decayed(x, h), spikes)


@dataclass(frozen=True)
class Exponential(Trace):
    """x <- x exp(-h / tau); at a spike x <- 1 (saturating, nearest neighbour) or x <- x + 1 (additive, all to all).

    Args:
        tau: time constant, in the unit of h.
        saturating: := 1 at a spike instead of += 1.
    """

    tau: float = 20.0
    saturating: bool = True

    def __post_init__(self) -> None:
        positive("Exponential", "tau", self.tau, "time constant")

    def factor(self, h: float = 1.0) -> float:
        """What remains after h."""
        return math.exp(-h / self.tau)

    def decayed(self, x: Array, h: float = 1.0) -> Array:
        return x * self.factor(h)

    def struck(self, x: Array, spikes: Array) -> Array:
        return np.where(spikes, 1.0, x) if self.saturating else x + spikes


@dataclass(frozen=True)
class Double(Trace):
    """Two filters in a row, (q, p): p <- p exp(-h / slow) + q, then q <- q exp(-h / fast) + spike.

    What a spike leaves in p rises with the fast constant and falls with the slow one (DECOLLE's Q and P).
    """

    fast: float = 5.0
    slow: float = 20.0

    def __post_init__(self) -> None:
        if not (0 < self.fast < math.inf and 0 < self.slow < math.inf):
            raise ConfigError(f"Double: time constants are {self.fast} and {self.slow}, expected finite ones above 0")

    def rest(self, shape: tuple[int, ...], dtype: Any = np.float64) -> tuple[Array, Array]:
        return np.zeros(shape, dtype), np.zeros(shape, dtype)

    def decayed(self, x: tuple[Array, Array], h: float = 1.0) -> tuple[Array, Array]:
        q, p = x
        return q * math.exp(-h / self.fast), p * math.exp(-h / self.slow) + q

    def struck(self, x: tuple[Array, Array], spikes: Array) -> tuple[Array, Array]:
        return x[0] + spikes, x[1]


@dataclass(frozen=True)
class FirstSpike(Trace):
    """Order only: the time since the first spike, -1 before it. Rules that compare it ask who was first."""

    def rest(self, shape: tuple[int, ...], dtype: Any = np.float64) -> Array:
        return np.full(shape, -1.0, dtype)

    def decayed(self, x: Array, h: float = 1.0) -> Array:
        return np.where(x >= 0, x + h, x)

    def struck(self, x: Array, spikes: Array) -> Array:
        return np.where((x < 0) & np.asarray(spikes, bool), 0.0, x)
