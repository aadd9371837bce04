"""Neurons: the modules that see time. Each is a pure function over a block of steps, `run(current, state)`."""

from spikewright.neurons.adaptive import SRM0, AdaptiveLIF, Delta
from spikewright.neurons.biological import (
    PATTERNS,
    Biological,
    ConductanceLIF,
    HodgkinHuxley,
    Izhikevich,
    RefractoryLIF,
)
from spikewright.neurons.competition import Competition, LabelVote
from spikewright.neurons.delay import Charge, Delay
from spikewright.neurons.dropout import HeldDropout
from spikewright.neurons.gate import MaxPoolGate
from spikewright.neurons.integrate_and_fire import IF, LIF, PLIF, IntegrateAndFire
from spikewright.neurons.once import LatencyCode, OnceIF
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
)
from spikewright.neurons.synapse import DoubleExponential, Synapse
from spikewright.neurons.tssl import TSSLNeuron
from spikewright.neurons.tunable import TunableLIF

__all__ = [
    "IF",
    "LIF",
    "PATTERNS",
    "PLIF",
    "SRM0",
    "AdaptiveLIF",
    "Biological",
    "Charge",
    "Competition",
    "ConductanceLIF",
    "Delay",
    "Delta",
    "DoubleExponential",
    "Euler",
    "EulerJump",
    "Exact",
    "ExactJump",
    "Factor",
    "HardReset",
    "HeldDropout",
    "HodgkinHuxley",
    "IntegrateAndFire",
    "Izhikevich",
    "LabelVote",
    "LatencyCode",
    "Leak",
    "MaxPoolGate",
    "NoReset",
    "OnceIF",
    "RefractoryLIF",
    "Reset",
    "Subtract",
    "Synapse",
    "TSSLNeuron",
    "TunableLIF",
]
