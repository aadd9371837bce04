"""Local learning: traces, rules, weight dependence, modulation, competition, over one view of every connection.

A method is a chain of these parts. Each part's own method is the definition, in NumPy; the compiled loops beside it do
the same in work proportional to the spikes.
"""

from spikewright.plasticity.competition import (
    AdaptiveThreshold,
    KWinners,
    OneToAll,
    TargetRate,
    Winner,
    earliest,
    pointwise,
)
from spikewright.plasticity.connections import Connection, convolution, dense, local
from spikewright.plasticity.modulation import ClassCorrect, Constant, ErrorShare, Growth, Modulation, Reward
from spikewright.plasticity.rules import STDP, Order, Rewarded, STDPState, anti, pair, target_trace, triplet
from spikewright.plasticity.traces import Double, Exponential, FirstSpike, Trace
from spikewright.plasticity.weights import (
    Additive,
    Bounds,
    Dependence,
    ExponentialWeight,
    LinearWeight,
    PowerLaw,
    Quantise,
    SaturatingWeight,
    Stabiliser,
    SumTo,
)

__all__ = [
    "STDP",
    "AdaptiveThreshold",
    "Additive",
    "Bounds",
    "ClassCorrect",
    "Connection",
    "Constant",
    "Dependence",
    "Double",
    "ErrorShare",
    "Exponential",
    "ExponentialWeight",
    "FirstSpike",
    "Growth",
    "KWinners",
    "LinearWeight",
    "Modulation",
    "OneToAll",
    "Order",
    "PowerLaw",
    "Quantise",
    "Reward",
    "Rewarded",
    "STDPState",
    "SaturatingWeight",
    "Stabiliser",
    "SumTo",
    "TargetRate",
    "Trace",
    "Winner",
    "anti",
    "convolution",
    "dense",
    "earliest",
    "local",
    "pair",
    "pointwise",
    "target_trace",
    "triplet",
]
