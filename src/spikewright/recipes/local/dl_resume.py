"""DL-ReSuMe: ReSuMe that also learns synaptic delays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spikewright.data import Dataset
from spikewright.neurons.parts import time_to_peak
from spikewright.phases import Phase
from spikewright.recipes import recipe
from spikewright.recipes.taught import IMAGES, Taught
from spikewright.teaching import Align, Exponential, Rule


@recipe(
    paper="Taherkhani, Belatreche, Li, Maguire 2015",
    presets={"digits": IMAGES | {"tau": 100.0, "a": 0.0, "lr": 0.03, "longest": 20.0}},
)
@dataclass
class DLReSuMe(Taught):
    """DL-ReSuMe: delays bring input spikes to where they are needed, once each; ReSuMe's weights follow.

    At a missing spike the excitatory synapse with the latest input before it, and no delay yet, is delayed so that its
    potential peaks there; at an extra spike an inhibitory one. A delay is set once and is at most `longest`. The trace
    of the weight rule is that of the delayed input. Details that our source leaves open: which spikes count as missing
    (those without an actual spike in the same step), and that a synapse whose input is already nearer than the
    potential's rise time is passed over.
    """

    a: float = 0.05
    """Non-Hebbian term, which adjusts the mean rate."""
    tau: float = 7.0
    """Time constant of the learning window, ms."""
    longest: float = 40.0
    """Longest delay, ms."""
    lr: float = 0.01
    """Learning rate."""

    def rule(self) -> Rule:
        lead = time_to_peak(self.tau_m / self.dt, self.tau_s / self.dt)
        return Rule(kernel=Exponential(self.tau / self.dt), bias=self.a, delays=Align(lead))

    def plan(self, data: Dataset) -> Iterator[Phase]:
        yield self.teach(self.network(data, longest=self.longest))
