"""What an input spike is worth to an event some steps later (or earlier): kernel(lag), lag = event - input."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from spikewright.errors import ConfigError, positive
from spikewright.neurons.parts import UnitPeak, psp

__all__ = ["Alphas", "Exponential", "Kernel", "Potential", "TwoSided"]


class Kernel:
    """Base of the kernels; time constants are in steps."""

    def __call__(self, lag: np.ndarray) -> np.ndarray:
        """Worth at whole lags, positive where the input came first: float64 of the same shape."""
        raise NotImplementedError


def _positive(part: object, *names: str) -> None:
    for name in names:
        positive(type(part).__name__, name, getattr(part, name))


@dataclass(frozen=True)
class Exponential(Kernel):
    """A exp(-lag / tau) for inputs before the event; with `now` those of the same step count too.

    ReSuMe's window W (Ponulak & Kasinski 2010, eq. 2.5), strictly earlier inputs only; with `now` the synaptic current
    of Chronotron's I-learning.
    """

    tau: float
    amplitude: float = 1.0
    now: bool = False

    def __post_init__(self) -> None:
        _positive(self, "tau", "amplitude")

    def __call__(self, lag: np.ndarray) -> np.ndarray:
        earlier = lag >= 0 if self.now else lag > 0
        return np.where(earlier, self.amplitude * np.exp(-np.abs(lag) / self.tau), 0.0)


@dataclass(frozen=True)
class TwoSided(Kernel):
    """plus exp(-lag / tau_plus) for inputs before the event, -minus exp(lag / tau_minus) for those at it or after it.

    Multi-ReSuMe (Sporea & Gruening 2013): the two integrals a_post and a_pre of its weight change.
    """

    tau_plus: float
    tau_minus: float
    plus: float = 1.0
    minus: float = 1.0

    def __post_init__(self) -> None:
        _positive(self, "tau_plus", "tau_minus", "plus")
        if not 0 <= self.minus < math.inf:
            raise ConfigError(f"TwoSided: minus is {self.minus}, expected a finite number of at least 0")

    def __call__(self, lag: np.ndarray) -> np.ndarray:
        size = np.abs(lag)
        return np.where(
            lag > 0, self.plus * np.exp(-size / self.tau_plus), -self.minus * np.exp(-size / self.tau_minus)
        )


@dataclass(frozen=True)
class Alphas(Kernel):
    """(e / 2)^2 (|lag| + tau) exp(-|lag| / tau) / (4 tau) (SPAN, Mohemmed et al. 2012).

    1 / (4 tau) of the integral of the product of two alpha functions (e / tau) t exp(-t / tau), one on the input and
    one on the event: inputs after the event count as much as those before it.
    """

    tau: float

    def __post_init__(self) -> None:
        _positive(self, "tau")

    def __call__(self, lag: np.ndarray) -> np.ndarray:
        size = np.abs(lag) / self.tau
        return (math.e / 4) ** 2 * (1 + size) * np.exp(-size)


@dataclass(frozen=True)
class Potential(Kernel):
    """The neuron's own post-synaptic potential, resets aside: the response of `ExactJump(tau_s)` into `UnitPeak(tau,
    tau_s)` (Chronotron's lambda_i)."""

    tau: float
    tau_s: float

    def __call__(self, lag: np.ndarray) -> np.ndarray:
        decay, gain = UnitPeak(self.tau, self.tau_s).coefficients()
        causal = np.maximum(lag, 0).astype(float)
        shape = psp(causal, decay, math.exp(-1 / self.tau_s))
        return np.where(lag >= 0, gain * shape, 0.0)
