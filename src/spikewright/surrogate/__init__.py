"""Surrogate derivatives: a hard spike forward, the slope of a smooth step backward.

A spike is s = H(x), x = u - theta (potential less threshold), and H has no useful derivative. Each entry below supplies
one, g(x), in a line or two, with the formula, the source of its default parameters, its area (the integral of g over x)
and its peak (g at x = 0), both at theta = 1. Only an entry of area 1 is the true derivative of a step from 0 to 1; the
others also scale the learning rate.

A new entry is a frozen dataclass below `Surrogate` with float fields, a `curve` and, where there is one, a `step`; the
law tests find it by listing `catalogue()`.

Choices that sources leave open, made here: a spike at exactly the threshold by default (x >= 0; `strict` asks for
x > 0); x absolute by default (`scale_by_threshold` divides it by theta); no normalisation of the area; a NaN potential
gives a NaN derivative wherever g depends on x; a second derivative through a hard spike raises.
"""

from __future__ import annotations

from spikewright.surrogate.at_spikes import STDB, SpikeOnly, SpikeOnlyPotential, SpikeOnlyThreshold
from spikewright.surrogate.base import Surrogate
from spikewright.surrogate.endless import S2NN, LeakyReLULike, LogGate, StraightThrough, TSSLLogistic
from spikewright.surrogate.piecewise import Polynomial, QuadraticGate, Rectangle, ScaledTriangle, Triangle
from spikewright.surrogate.smooth import (
    ATan,
    Erf,
    Exponential,
    FastSigmoid,
    Gaussian,
    PiecewiseExponential,
    Sigmoid,
    SoftSign,
    SuperSpike,
)
from spikewright.surrogate.wrappers import Learnable, Smooth

__all__ = [
    "S2NN",
    "STDB",
    "ATan",
    "Erf",
    "Exponential",
    "FastSigmoid",
    "Gaussian",
    "LeakyReLULike",
    "Learnable",
    "LogGate",
    "PiecewiseExponential",
    "Polynomial",
    "QuadraticGate",
    "Rectangle",
    "ScaledTriangle",
    "Sigmoid",
    "Smooth",
    "SoftSign",
    "SpikeOnly",
    "SpikeOnlyPotential",
    "SpikeOnlyThreshold",
    "StraightThrough",
    "SuperSpike",
    "Surrogate",
    "TSSLLogistic",
    "Triangle",
    "catalogue",
    "names",
]


def catalogue() -> list[type[Surrogate]]:
    """Every surrogate there is, in order of definition; each can be built without arguments."""

    def below(parent: type[Surrogate]) -> list[type[Surrogate]]:
        return [entry for child in parent.__subclasses__() for entry in (child, *below(child))]

    return [entry for entry in below(Surrogate) if entry is not Smooth]


def names() -> list[str]:
    """The entries' class names, as the command line spells them."""
    return [entry.__name__ for entry in catalogue()]
