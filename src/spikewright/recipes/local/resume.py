"""ReSuMe: remote supervision by the difference of two spike trains."""

from __future__ import annotations

from dataclasses import dataclass

from spikewright.recipes import recipe
from spikewright.recipes.taught import IMAGES, Taught
from spikewright.teaching import Exponential, Rule


@recipe(paper="Ponulak & Kasinski 2010", presets={"digits": IMAGES | {"tau": 100.0, "a": 0.0, "lr": 0.03}})
@dataclass
class ReSuMe(Taught):
    """ReSuMe: weights go up at desired spikes and down at actual ones, by a trace of the input.

    dw_i/dt = [S_d(t) - S_o(t)] [a + integral of W(s) S_i(t - s) ds], W(s) = A exp(-s / tau), over inputs strictly
    earlier than the spike; where desired and actual spikes coincide nothing changes. The rule needs no neuron model and
    no gradient; signs of weights are free.
    """

    a: float = 0.05
    """Non-Hebbian term, which adjusts the mean rate."""
    tau: float = 7.0
    """Time constant of the learning window, ms."""
    amplitude: float = 1.0
    """Amplitude A of the learning window."""
    lr: float = 0.01
    """Learning rate."""

    def rule(self) -> Rule:
        return Rule(kernel=Exponential(self.tau / self.dt, self.amplitude), bias=self.a)
