"""What a network does and what it costs: accuracy at every step, spikes, operations, energy, speed, memory."""

from spikewright.measure.energy import TABLES, CostTable
from spikewright.measure.evaluation import Evaluation, evaluate
from spikewright.measure.operations import Counts, LayerCount, Operations, counting
from spikewright.measure.spikes import SpikeCount, firing_rates, silent_layers, watching

__all__ = [
    "TABLES",
    "CostTable",
    "Counts",
    "Evaluation",
    "LayerCount",
    "Operations",
    "SpikeCount",
    "counting",
    "evaluate",
    "firing_rates",
    "silent_layers",
    "watching",
]
