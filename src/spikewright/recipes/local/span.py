"""SPAN: the Widrow-Hoff rule on spike trains made analog by alpha functions."""

from __future__ import annotations

from dataclasses import dataclass

from spikewright.recipes import recipe
from spikewright.recipes.taught import IMAGES, Taught
from spikewright.teaching import Alphas, Rule


@recipe(paper="Mohemmed, Schliebs, Matsuda, Kasabov 2012", presets={"digits": IMAGES | {"tau": 50.0, "lr": 0.03}})
@dataclass
class SPAN(Taught):
    """SPAN: desired, actual and input trains are filtered by an alpha function and fitted by Widrow-Hoff.

    dw_i = lambda integral of x~_i (y~_d - y~_o) dt, in closed form lambda (e / 2)^2 (|t - t_i| + tau)
    exp(-|t - t_i| / tau) summed over desired spikes t and input spikes t_i, minus the same over actual spikes. The
    kernel looks both ways in time: inputs just after a spike are credited too. Here lambda = lr / (4 tau).
    """

    tau: float = 5.0
    """Time constant of the alpha function, ms."""
    lr: float = 0.01
    """Learning rate."""

    def rule(self) -> Rule:
        return Rule(kernel=Alphas(self.tau / self.dt))
