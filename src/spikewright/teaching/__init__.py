"""Local rules that teach neurons when to fire: dw = sum over events of (value) x (trace of the input at that time)."""

from spikewright.teaching.delays import Align, Correlate, DelayRule
from spikewright.teaching.events import Difference, Edits, Events, Triplet
from spikewright.teaching.kernels import Alphas, Exponential, Kernel, Potential, TwoSided
from spikewright.teaching.phase import Pupil, Scaling, Teach
from spikewright.teaching.rule import Rule

__all__ = [
    "Align",
    "Alphas",
    "Correlate",
    "DelayRule",
    "Difference",
    "Edits",
    "Events",
    "Exponential",
    "Kernel",
    "Potential",
    "Pupil",
    "Rule",
    "Scaling",
    "Teach",
    "Triplet",
    "TwoSided",
]
