"""Layers that map spike times to spike times, `[B, ...]` with infinity for none, by exact or approximate gradients."""

from spikewright.times.integrate import InstantIF
from spikewright.times.layer import Dense, Timed
from spikewright.times.signal import first_spikes, raster

__all__ = ["Dense", "InstantIF", "Timed", "first_spikes", "raster"]
