"""Chronotron: weights descend the cost of editing the output train into the desired one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from spikewright.data import Dataset
from spikewright.phases import Phase
from spikewright.recipes import recipe
from spikewright.recipes.taught import IMAGES, Taught
from spikewright.teaching import Edits, Exponential, Potential, Rule


@recipe(paper="Florian 2012", presets={"digits": IMAGES | {"tau_q": 100.0, "gamma_r": 10.0, "lr": 0.03}})
@dataclass
class Chronotron(Taught):
    """Chronotron: E-learning along a Victor-Purpura distance, or the simpler I-learning.

    E-learning: E = removed + added + (gamma_r / tau_q^2) sum of (t - t~)^2 / 2 over moved spikes, the cheapest edits
    found anew at every step; dw_i = lr [sum of L_i at spikes to be added - at those to be removed + (gamma_r / tau_q^2)
    sum of (t - t~) L_i(t)], L_i the post-synaptic potential of input i without resets. I-learning: dw_i = lr sign(w_i)
    [sum of I_i at desired spikes - at actual ones], I_i the synaptic current; weights keep their signs.
    """

    learning: Literal["e", "i"] = "e"
    """E-learning or I-learning."""
    tau_q: float = 10.0
    """A spike may be moved by this for half the cost of a new one, ms (E-learning)."""
    gamma_r: float = 10.0
    """Weight of the spikes to be moved, ms (E-learning)."""
    inhibitory: float = 0.2
    """Fraction of synapses that start and stay inhibitory (I-learning)."""
    lr: float = 0.01
    """Learning rate."""

    def rule(self) -> Rule:
        tau_m, tau_s = self.tau_m / self.dt, self.tau_s / self.dt
        if self.learning == "i":
            return Rule(kernel=Exponential(tau_s, now=True), signed=True)
        return Rule(Edits(self.tau_q / self.dt, self.gamma_r / self.dt), Potential(tau_m, tau_s))

    def plan(self, data: Dataset) -> Iterator[Phase]:
        yield self.teach(self.network(data, inhibitory=self.inhibitory if self.learning == "i" else 0.0))
