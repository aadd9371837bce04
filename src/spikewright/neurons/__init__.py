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
from spikewright.neurons.delay import Charge, Delay, Once
from spikewright.neurons.dropout import HeldDropout
from spikewright.neurons.exact_rate import ExactRateLIF
from spikewright.neurons.few_spikes import FewSpikes
from spikewright.neurons.gate import MaxPoolGate
from spikewright.neurons.integrate_and_fire import IF, LIF, PLIF, IntegrateAndFire
from spikewright.neurons.noisy import NoisyLIF
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
    UnitPeak,
)
from spikewright.neurons.synapse import DoubleExponential, Synapse
from spikewright.neurons.synaptic_delay import SynapticDelay
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
    "ExactRateLIF",
    "Factor",
    "FewSpikes",
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
    "NoisyLIF",
    "Once",
    "OnceIF",
    "RefractoryLIF",
    "Reset",
    "Subtract",
    "Synapse",
    "SynapticDelay",
    "TSSLNeuron",
    "TunableLIF",
    "UnitPeak",
]
