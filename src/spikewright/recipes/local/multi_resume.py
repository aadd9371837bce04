"""Multi-ReSuMe: ReSuMe through a hidden layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spikewright.data import Dataset
from spikewright.phases import Phase
from spikewright.recipes import recipe
from spikewright.recipes.taught import IMAGES, Taught
from spikewright.teaching import Rule, Scaling, TwoSided

_IMAGES = IMAGES | {
    "tau_plus": 100.0, "minus": 0.0, "a": 0.0, "low": 0.1, "high": 3.0,
    "inhibitory": 0.45, "weight": 0.15, "lr": 5.0,
}  # fmt: skip


@recipe(paper="Sporea & Gruening 2013", presets={"digits": _IMAGES})
@dataclass
class MultiReSuMe(Taught):
    """Multi-ReSuMe: ReSuMe for networks with a hidden layer, whose errors are the outputs' through |w|.

    Output weights: dw_oh = 1 / n_h [S_h(t) integral of a_pre(s) (S_d - S_o)(t - s) ds + (S_d - S_o)(t) (a + integral of
    a_post(s) S_h(t - s) ds)], a_pre(s) = -A_minus exp(-s / tau_minus), a_post(s) = A_plus exp(-s / tau_plus); hidden
    weights: the same of the input, summed over the outputs times |w_oh| / (n_h n_i). Synaptic scaling keeps every
    neuron's spikes a sample between `low` and `high`.
    """

    hidden: int = 50
    """Hidden neurons."""
    inhibitory: float = 0.2
    """Fraction of the weights that start with a minus sign."""
    a: float = 0.05
    """Non-Hebbian term, which adjusts the mean rate."""
    tau_plus: float = 7.0
    """Time constant for inputs before the spike, ms."""
    tau_minus: float = 7.0
    """Time constant for inputs after the spike, ms."""
    plus: float = 1.0
    """Amplitude A_plus."""
    minus: float = 0.5
    """Amplitude A_minus."""
    weight: float = 0.1
    """Initial weights are uniform from 0 to this."""
    low: float = 5.0
    """Fewest spikes a sample, below which weights are scaled up."""
    high: float = 20.0
    """Most spikes a sample, above which weights are scaled down."""
    lr: float = 0.5
    """Learning rate, which fan-ins divide."""

    def rule(self) -> Rule:
        kernel = TwoSided(self.tau_plus / self.dt, self.tau_minus / self.dt, self.plus, self.minus)
        return Rule(kernel=kernel, bias=self.a, by_fan_in=True)

    def plan(self, data: Dataset) -> Iterator[Phase]:
        yield self.teach(
            self.network(data, self.hidden, inhibitory=self.inhibitory), scaling=Scaling(self.low, self.high)
        )
