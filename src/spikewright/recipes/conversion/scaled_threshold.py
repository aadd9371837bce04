"""Conversion with scaled thresholds: k times the largest current, for a hundred steps instead of thousands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spikewright.convert import Spiking
from spikewright.data import Dataset
from spikewright.errors import ConfigError
from spikewright.neurons import Reset, Subtract
from spikewright.phases import Convert, Phase
from spikewright.recipes import recipe
from spikewright.recipes.conversion.sengupta import PRESETS, Sengupta


@recipe(
    paper="the hybrid conversion-and-STDB study after Rathi et al. 2020",
    reports={"mnist": 98.82, "cifar10": 91.13},
    presets=PRESETS,
)
@dataclass
class ScaledThreshold(Sengupta):
    """SPIKE-NORM with soft reset and all thresholds times k: rates rise, and fewer steps are enough.

    The factor depends on network and T (the paper says 0.2 to 0.4, the released code 0.6 to 0.8 above 100 steps), so
    it is searched for: the k of `search` with the most validation samples right; an empty `search` takes `k`. The
    spike is strict (u > v). In the released code every layer answers one step late (`delay`), which the paper's
    algorithm does not have; so by default it is off. Thresholds are found with k = 1 and scaled together afterwards.
    """

    steps: int = 100
    """Time steps T."""
    search: str = "0.2,0.3,0.4,0.5,0.6,0.7,0.8,1"
    """Factors k to choose from by validation accuracy; empty takes k as given."""
    k: float = 1.0
    """Factor on all thresholds where none is searched for."""
    leak: float = 1.0
    """Factor of the membrane kept each step; 1 does not leak."""
    delay: bool = False
    """Each layer's spikes reach the next one step later."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.factors()

    def factors(self) -> tuple[float, ...]:
        """The factors to choose from."""
        try:
            found = tuple(float(word) for word in self.search.split(",")) if self.search else ()
        except ValueError:
            found = (0.0,)
        if any(not 0 < k < float("inf") for k in found):
            raise ConfigError(f"search is {self.search!r}, expected factors above 0 with commas, like 0.2,0.4,1")
        return found

    def reset(self) -> Reset:
        return Subtract()

    def neuron(self) -> Spiking:
        return Spiking(self.reset(), strict=True, leak=self.leak, delay=self.delay)

    def plan(self, data: Dataset) -> Iterator[Phase]:
        for phase in super().plan(data):
            if isinstance(phase, Convert):
                phase.search = self.factors()
            yield phase
