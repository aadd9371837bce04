"""Encoders: values -> what the body receives at every step.

An encoder is a pure function `run(x, start, stop, steps, seed)`: x [B, ...] -> [stop - start, B, ...], the block
start .. stop of a sequence of `steps`. Random ones draw by `noise.uniform`, so a block, a batch and a device never
change what a sample gets. Values are expected in 0..1 where the encoder says so.
"""

from __future__ import annotations

from spikewright.encode.base import Direct, Encoder, Frames
from spikewright.encode.burst import Burst, BurstWeights
from spikewright.encode.latency import Latency, LinearLatency, LogLatency, RampLatency, RankOrder, TwoTimes
from spikewright.encode.phase import FiringPhase, WeightedPhase
from spikewright.encode.population import Population
from spikewright.encode.rate import Bernoulli, Normalized, Poisson
from spikewright.errors import ConfigError

__all__ = [
    "Bernoulli",
    "Burst",
    "BurstWeights",
    "Direct",
    "Encoder",
    "FiringPhase",
    "Frames",
    "Latency",
    "LinearLatency",
    "LogLatency",
    "Normalized",
    "Poisson",
    "Population",
    "RampLatency",
    "RankOrder",
    "TwoTimes",
    "WeightedPhase",
    "scheme",
]

_SCHEMES: dict[str, Encoder] = {
    "bernoulli": Bernoulli(),
    "burst": Burst(),
    "burst-weights": BurstWeights(),
    "direct": Direct(),
    "firing-phase": FiringPhase(),
    "latency": LinearLatency(),
    "log-latency": LogLatency(),
    "poisson": Poisson(),
    "population": Population(),
    "rank-order": RankOrder(),
    "weighted-phase": WeightedPhase(),
}


def scheme(name: str) -> Encoder:
    """The encoder of still images with this name on the command line; ConfigError lists them."""
    if name not in _SCHEMES:
        raise ConfigError(f"there is no encoding scheme {name!r}; there are {', '.join(_SCHEMES)}")
    return _SCHEMES[name]
