"""Corrections: what mends a spiking network on calibration data, layer by layer. (Calibration, Li et al. 2021.)"""

from __future__ import annotations

from spikewright.convert.calibration import Calibration
from spikewright.convert.graph import Graph
from spikewright.convert.place import Placed
from spikewright.encode import Encoder

__all__ = ["Correction"]


class Correction:
    """Base of the corrections, each a small frozen dataclass."""

    def __call__(
        self, ann: Graph, spiking: Graph, placed: Placed, encode: Encoder, data: Calibration, steps: int, seed: int
    ) -> Graph:
        """The mended spiking graph."""
        raise NotImplementedError
