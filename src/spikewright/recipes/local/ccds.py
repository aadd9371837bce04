"""CCDS: cross-correlated delay shift."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spikewright.data import Dataset
from spikewright.phases import Phase
from spikewright.recipes import recipe
from spikewright.recipes.taught import IMAGES, Taught
from spikewright.teaching import Correlate, Exponential, Rule


@recipe(
    paper="Yu et al. 2016 (CCDS, as remembered)",
    presets={"digits": IMAGES | {"tau": 100.0, "a": 0.0, "lr": 0.03, "longest": 20.0}},
)
@dataclass
class CCDS(Taught):
    """CCDS: ReSuMe-like weights on delayed inputs, and delays that climb the correlation with the desired train.

    dd_i = delay_lr [sum at desired spikes - sum at actual ones] of x_i / tau, x_i the trace of the delayed input: the
    slope of the trace in the delay. Delays stay within 0 .. longest. The method's axonal delay of the output is left
    out: our source gives no rule for it.
    """

    a: float = 0.05
    """Non-Hebbian term, which adjusts the mean rate."""
    tau: float = 7.0
    """Time constant of the learning window, ms."""
    longest: float = 40.0
    """Longest delay, ms."""
    delay_lr: float = 1.0
    """Learning rate of the delays, ms^2."""
    lr: float = 0.01
    """Learning rate."""

    def rule(self) -> Rule:
        tau = self.tau / self.dt
        return Rule(kernel=Exponential(tau), bias=self.a, delays=Correlate(self.delay_lr / self.dt**2, tau))

    def plan(self, data: Dataset) -> Iterator[Phase]:
        yield self.teach(self.network(data, longest=self.longest))
