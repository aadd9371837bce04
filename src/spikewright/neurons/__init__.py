"""Neurons: the modules that see time. Each is a pure function over a block of steps, `run(current, state)`."""

from spikewright.neurons.delay import Delay
from spikewright.neurons.dropout import HeldDropout
from spikewright.neurons.integrate_and_fire import IF, LIF, PLIF, IntegrateAndFire
from spikewright.neurons.parts import (
    Euler,
    EulerJump,
    Exact,
    ExactJump,
    Factor,
    HardReset,
    Leak,
    NoReset,
    Reset,
    Subtract,
    UnitPeak,
)
from spikewright.neurons.synapse import DoubleExponential, Synapse
from spikewright.neurons.tssl import TSSLNeuron

__all__ = [
    "IF",
    "LIF",
    "PLIF",
    "Delay",
    "DoubleExponential",
    "Euler",
    "EulerJump",
    "Exact",
    "ExactJump",
    "Factor",
    "HardReset",
    "HeldDropout",
    "IntegrateAndFire",
    "Leak",
    "NoReset",
    "Reset",
    "Subtract",
    "Synapse",
    "TSSLNeuron",
    "UnitPeak",
]
