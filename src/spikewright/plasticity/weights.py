"""How an update depends on the weight, and what keeps weights where they belong.

A dependence gives the two factors of the rules, F+(w) for potentiation and F-(w) for depression. Each formula is one
plain function of numbers or arrays; the compiled loops call the very same functions, told apart by `code`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numba import njit

from spikewright.errors import ConfigError, positive

__all__ = [
    "Additive",
    "Bounds",
    "Dependence",
    "ExponentialWeight",
    "LinearWeight",
    "PowerLaw",
    "Quantise",
    "SaturatingWeight",
    "Stabiliser",
    "SumTo",
    "factor",
]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Bounds:
    """Hard bounds of a weight."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(f"Bounds: {self.low}..{self.high} is no range, expected finite numbers, low below high")

    def clip(self, w: Array) -> Array:
        """w within the bounds."""
        return np.clip(w, self.low, self.high)

    def check(self, layer: str, w: Array) -> None:
        """Raise ConfigError naming the layer if a weight lies outside."""
        if w.size and not (self.low <= w.min() and w.max() <= self.high):
            raise ConfigError(
                f"layer {layer!r}: weights {w.min():.4g}..{w.max():.4g} lie outside the rule's bounds "
                f"{self.low:g}..{self.high:g}: widen the bounds or initialise the weights within them"
            )


@dataclass(frozen=True)
class SumTo:
    """Scale each neuron's incoming weights to a constant sum (Diehl & Cook: 78 for 784 inputs)."""

    total: float

    def __post_init__(self) -> None:
        positive("SumTo", "total", self.total, "sum")

    def __call__(self, w: Array) -> Array:
        """w [..., S], S synapses of a neuron, with each row's sum `total`; a row of zeros stays."""
        sums = w.sum(-1, keepdims=True)
        return w * np.where(sums != 0, self.total / np.where(sums != 0, sums, 1), 1.0)


@dataclass(frozen=True)
class Quantise:
    """Weights below the middle of the bounds become the lower one, the others the upper one (Shirsavar 2022)."""

    bounds: Bounds = Bounds()

    def __call__(self, w: Array) -> Array:
        """w of any shape, every value a bound."""
        middle = (self.bounds.low + self.bounds.high) / 2
        return np.where(w < middle, self.bounds.low, self.bounds.high).astype(w.dtype)


# ---- the formulas: w within low..high, p the dependence's own number


def _additive(w: Any, low: float, high: float, p: float, up: bool) -> Any:
    return 1.0


def _power(w: Any, low: float, high: float, p: float, up: bool) -> Any:
    return (high - w) ** p if up else (w - low) ** p


def _stabiliser(w: Any, low: float, high: float, p: float, up: bool) -> Any:
    return (w - low) * (high - w)


def _exponential(w: Any, low: float, high: float, p: float, up: bool) -> Any:
    return np.exp(-p * (w - low)) if up else np.exp(-p * (high - w))


def _saturating(w: Any, low: float, high: float, p: float, up: bool) -> Any:
    return np.exp(-w) - np.exp(-1.0) if up else p * (np.exp(w) - 1.0)


def _linear(w: Any, low: float, high: float, p: float, up: bool) -> Any:
    return 1.0 - w * (1.0 + p) if up else 0.75 * w * (1.0 + p)


_FORMULAS = (_additive, _power, _stabiliser, _exponential, _saturating, _linear)
_F0, _F1, _F2, _F3, _F4, _F5 = (njit(inline="always")(f) for f in _FORMULAS)


@njit(cache=True)
def factor(code: int, w: float, low: float, high: float, p: float, up: bool) -> float:
    """F+(w) (up) or F-(w) of the dependence with this code, for compiled loops."""
    if code == 0:
        return 1.0
    if code == 1:
        return _F1(w, low, high, p, up)
    if code == 2:
        return _F2(w, low, high, p, up)
    if code == 3:
        return _F3(w, low, high, p, up)
    if code == 4:
        return _F4(w, low, high, p, up)
    return _F5(w, low, high, p, up)


class Dependence:
    """Base of the weight dependences: `code` and the number `p` are what the compiled loops know them by."""

    code: ClassVar[int]

    @property
    def p(self) -> float:
        """The formula's own number."""
        return 0.0

    def up(self, w: Array, bounds: Bounds) -> Array:
        """F+(w), the factor of potentiation."""
        return np.broadcast_to(_FORMULAS[self.code](w, bounds.low, bounds.high, self.p, True), np.shape(w))

    def down(self, w: Array, bounds: Bounds) -> Array:
        """F-(w), the factor of depression."""
        return np.broadcast_to(_FORMULAS[self.code](w, bounds.low, bounds.high, self.p, False), np.shape(w))


@dataclass(frozen=True)
class Additive(Dependence):
    """F+ = F- = 1; only the bounds stop a weight."""

    code = 0


@dataclass(frozen=True)
class PowerLaw(Dependence):
    """F+ = (high - w)^mu, F- = (w - low)^mu. mu = 1 is the soft bound, mu = 0 additive; Guetig's with A- = alpha A+."""

    mu: float = 1.0
    code = 1

    def __post_init__(self) -> None:
        if not 0 <= self.mu < math.inf:
            raise ConfigError(f"PowerLaw: mu is {self.mu}, expected a finite exponent of at least 0")

    @property
    def p(self) -> float:
        return self.mu


@dataclass(frozen=True)
class Stabiliser(Dependence):
    """F+ = F- = (w - low)(high - w): slows down at both bounds, which alone are stable (Kheradpisheh 2018)."""

    code = 2


@dataclass(frozen=True)
class ExponentialWeight(Dependence):
    """F+ = exp(-beta (w - low)), F- = exp(-beta (high - w)) (Querlioz; Diehl & Cook's second rule)."""

    beta: float = 1.0
    code = 3

    def __post_init__(self) -> None:
        if not math.isfinite(self.beta):
            raise ConfigError(f"ExponentialWeight: beta is {self.beta}, expected a finite number")

    @property
    def p(self) -> float:
        return self.beta


@dataclass(frozen=True)
class SaturatingWeight(Dependence):
    """F+ = exp(-w) - exp(-1), F- = ratio (exp(w) - 1), for weights in 0..1 (Tavanaei 2016)."""

    ratio: float = 0.75
    code = 4

    def __post_init__(self) -> None:
        if not 0 <= self.ratio < math.inf:
            raise ConfigError(f"SaturatingWeight: ratio is {self.ratio}, expected a finite number of at least 0")

    @property
    def p(self) -> float:
        return self.ratio


@dataclass(frozen=True)
class LinearWeight(Dependence):
    """F+ = 1 - w (1 + lam), F- = 0.75 w (1 + lam) (Tavanaei 2018). With pre spikes of probability q at a post spike and
    lam = 0 the fixed point is q / (q + 0.75 (1 - q))."""

    lam: float = 0.0
    code = 5

    def __post_init__(self) -> None:
        if not math.isfinite(self.lam):
            raise ConfigError(f"LinearWeight: lam is {self.lam}, expected a finite number")

    @property
    def p(self) -> float:
        return self.lam
