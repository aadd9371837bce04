"""Han, Srinivasan, Roy 2020: SPIKE-NORM with the residual membrane potential kept."""

from __future__ import annotations

from dataclasses import dataclass

from spikewright.neurons import Reset, Subtract
from spikewright.recipes import recipe
from spikewright.recipes.conversion.sengupta import PRESETS, Sengupta


@recipe(paper="Han, Srinivasan, Roy 2020", reports={"cifar10": 93.63}, presets=PRESETS)
@dataclass
class RMP(Sengupta):
    """Residual membrane potential: as SPIKE-NORM, with reset by subtraction, so that the overshoot is not lost.

    The paper's own rule for a layer's threshold between the largest current and one small enough for high rates could
    not be verified; `k` scales them all, and 0.6 to 1 is the range to look in.
    """

    steps: int = 256
    """Time steps T."""
    k: float = 1.0
    """Factor on all thresholds."""

    def reset(self) -> Reset:
        return Subtract()
