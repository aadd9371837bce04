"""Linear LIF: a ReLU network as leaky neurons that reset by subtraction, the leak made good by a current."""

from __future__ import annotations

from dataclasses import dataclass

from spikewright.convert import Method, Percentile, Spiking
from spikewright.errors import ConfigError
from spikewright.recipes import recipe
from spikewright.recipes.conversion import ConversionRecipe


@recipe(
    paper="Lu & Xu 2022",
    presets={"digits": {"arch": "16C3-P2-32C3-P2-100-10", "epochs": 20, "batch": 32, "lr": 2e-3}},
)
@dataclass
class LinearLIF(ConversionRecipe):
    """Leaky integrate-and-fire with a linear reset: a ReLU unit whose bias is lower by what leaks away.

    Over T steps, theta N = sum z - (1 - leak) sum v - (v[T] - v[0]); a neuron that fires regularly has v of about
    theta/2 on average, so (1 - leak) theta / 2 is lost a step, and that much current is added (`compensate`). Neurons
    whose current stays below (1 - leak) theta never fire. The paper's own closed forms could not be had; the map here
    is derived from the identity above. Everything else is as in `rueckauer`.
    """

    leak: float = 0.95
    """What the membrane keeps from step to step; 1 does not leak."""
    compensate: bool = True
    """Add the current that leaks away on average."""
    percentile: float = 99.9
    """Percentile of a layer's nonzero activations that a rate of 1 stands for; 100 is the maximum."""

    def method(self) -> Method:
        if not 0 < self.leak <= 1:
            raise ConfigError(f"linear-lif: leak is {self.leak}, expected a factor above 0 and at most 1")
        return Method(
            estimate=Percentile(self.percentile),
            form="spikes",
            neuron=Spiking(leak=self.leak),
            shift=(1 - self.leak) / 2 if self.compensate else 0.0,
        )
