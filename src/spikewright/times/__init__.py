"""Layers that map spike times to spike times, `[B, ...]` with infinity for none, by exact or approximate gradients."""

from spikewright.times.integrate import BinaryIF, ExponentialIF, InstantIF, RampIF
from spikewright.times.layer import Dense, Timed
from spikewright.times.lif import Delays, EventLIF, Potential, Reference
from spikewright.times.signal import first_spikes, raster

__all__ = [
    "BinaryIF",
    "Delays",
    "Dense",
    "EventLIF",
    "ExponentialIF",
    "InstantIF",
    "Potential",
    "RampIF",
    "Reference",
    "Timed",
    "first_spikes",
    "raster",
]
