"""Soft LIF: an ANN of smoothed LIF rate curves, trained with the noise of spikes, run with LIF neurons."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from spikewright.arch import arch
from spikewright.convert import Filtered, Method, SoftLIF, Trained
from spikewright.data import Dataset
from spikewright.errors import ConfigError
from spikewright.neurons import Exact, ExactRateLIF
from spikewright.readout import Recent
from spikewright.recipes import recipe
from spikewright.recipes.conversion import ConversionRecipe


@recipe(
    paper="Hunsberger & Eliasmith 2015",
    reports={"mnist": 98.37, "cifar10": 82.95},
    presets={
        "digits": {"arch": "16C3-P2-32C3-P2-100-10", "epochs": 20, "batch": 32, "lr": 2e-3, "steps": 120},
    },
)
@dataclass
class SoftLIFRecipe(ConversionRecipe):
    """LIF neurons with a refractory time behind the very curve their rates follow, smoothed at threshold for training.

    Spikes pass a synapse of two equal time constants on the way to the next layer; the mean of the outputs over the
    last milliseconds decides, once the filters have settled. A step is 1 ms. The paper's constants differ from
    experiment to experiment; the defaults here are a simulator's usual ones, with an amplitude that makes activations
    of the order of 1 and currents that begin at threshold. Optimiser, batch norm (none) and the size of the noise are
    free choices as well.
    """

    steps: int = 200
    """Time steps T of 1 ms."""
    tau_ref: float = 2.0
    """Refractory time, ms."""
    tau_rc: float = 20.0
    """Membrane time constant, ms."""
    sigma: float = 0.02
    """Width of the smoothing at threshold."""
    gain: float = 1.0
    """Current per unit of a layer's output."""
    bias: float = 1.0
    """Current at an output of 0; 1 is the threshold."""
    amplitude: float = 0.01
    """What a rate of 1 Hz hands on."""
    jitter: float = 10.0
    """Standard deviation of the noise on rates in training, Hz."""
    tau_s: float = 5.0
    """Both time constants of a synapse, ms."""
    window: int = 20
    """The outputs of so many last steps decide."""

    def network(self, data: Dataset) -> nn.Module:
        unit = SoftLIF(self.tau_ref, self.tau_rc, self.sigma, self.gain, self.bias, self.amplitude, self.jitter)
        return arch(self.arch, data, unit, spiking_output=False, normalize=(data.mean, data.std))

    def method(self) -> Method:
        return Method(
            estimate=Trained(),
            form="spikes",
            neuron=_spiking,
            readout=Recent(self.window),
            correct=(Filtered(Exact(self.tau_s)),),
        )


def _spiking(v_th: float, size: float, activation: nn.Module) -> nn.Module:
    """The neuron whose rate a soft LIF unit follows; each spike carries the amplitude of a step's worth of rate."""
    if not isinstance(activation, SoftLIF):
        raise ConfigError(
            f"soft-lif takes networks trained with its own units (SoftLIF), found {type(activation).__name__}: train "
            "by the recipe, or convert by another method"
        )
    a = activation
    return ExactRateLIF(a.tau_ref, a.tau_rc, 1.0, a.gain, a.bias, 1000 * a.amplitude)
