"""T-ReSuMe: ReSuMe with a triplet of spikes."""

from __future__ import annotations

from dataclasses import dataclass

from spikewright.recipes import recipe
from spikewright.recipes.taught import IMAGES, Taught
from spikewright.teaching import Exponential, Rule, Triplet


@recipe(
    paper="Lin et al. 2016 (triplet ReSuMe, as remembered)",
    presets={"digits": IMAGES | {"tau": 100.0, "a": 0.0, "lr": 0.03}},
)
@dataclass
class TReSuMe(Taught):
    """T-ReSuMe: ReSuMe whose steps grow with the spikes that came before in the same train.

    At a desired spike +(A2 + A3 o_d) [a + trace], at an actual one -(A2 + A3 o_o) [a + trace], with o the slow trace of
    the desired or actual train just before the spike. The published constants are not known to us; the defaults are
    ReSuMe's, with a triplet term of half the pair term.
    """

    a: float = 0.05
    """Non-Hebbian term, which adjusts the mean rate."""
    tau: float = 7.0
    """Time constant of the learning window, ms."""
    tau_slow: float = 40.0
    """Time constant of the slow trace, ms."""
    pair: float = 1.0
    """Pair term A2."""
    triplet: float = 0.5
    """Triplet term A3."""
    lr: float = 0.01
    """Learning rate."""

    def rule(self) -> Rule:
        events = Triplet(self.tau_slow / self.dt, self.pair, self.triplet)
        return Rule(events, Exponential(self.tau / self.dt), bias=self.a)
