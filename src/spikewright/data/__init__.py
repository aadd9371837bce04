"""Data sets as train and test splits of images or events, from checked sources."""

from spikewright.data.augment import Augment
from spikewright.data.catalogue import describe, load, names
from spikewright.data.dataset import Dataset
from spikewright.data.events import EventSplit
from spikewright.data.folder import FolderSplit
from spikewright.data.patterns import PatternSplit
from spikewright.data.split import Split, TensorSplit

__all__ = [
    "Augment",
    "Dataset",
    "EventSplit",
    "FolderSplit",
    "PatternSplit",
    "Split",
    "TensorSplit",
    "describe",
    "load",
    "names",
]
