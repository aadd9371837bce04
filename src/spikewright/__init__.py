"""Spikewright: train spiking neural networks for classification by every family of methods, and see what each costs.

import spikewright as sw

data = sw.load("mnist")
snn = sw.SNN(sw.arch("15C5-P2-40C5-P2-300-10", neuron=sw.LIF(tau=2.0)), steps=5, encode=sw.encode.Direct())
sw.fit(snn, data, loss=sw.losses.RateMSE(), epochs=5)
print(sw.evaluate(snn, data.test))
"""

__version__ = "0.1.0"

from spikewright import data, encode, errors, fronts, losses, measure, neurons, plasticity, readout, surrogate, times
from spikewright.arch import arch
from spikewright.clock import Clock, Temporal
from spikewright.conversion import conversion, convert
from spikewright.data import Augment, Dataset, load
from spikewright.engine import optim
from spikewright.measure import Evaluation, evaluate
from spikewright.model_file import load_model
from spikewright.neurons import (
    IF,
    LIF,
    PLIF,
    DoubleExponential,
    Euler,
    EulerJump,
    Exact,
    ExactJump,
    Factor,
    HardReset,
    HeldDropout,
    NoReset,
    Subtract,
    Synapse,
)
from spikewright.snn import SNN, Run, Stream
from spikewright.training import fit, resume, train

__all__ = [
    "IF",
    "LIF",
    "PLIF",
    "SNN",
    "Augment",
    "Clock",
    "Dataset",
    "DoubleExponential",
    "Euler",
    "EulerJump",
    "Evaluation",
    "Exact",
    "ExactJump",
    "Factor",
    "HardReset",
    "HeldDropout",
    "NoReset",
    "Run",
    "Stream",
    "Subtract",
    "Synapse",
    "Temporal",
    "arch",
    "conversion",
    "convert",
    "data",
    "encode",
    "errors",
    "evaluate",
    "fit",
    "fronts",
    "load",
    "load_model",
    "losses",
    "measure",
    "neurons",
    "optim",
    "plasticity",
    "readout",
    "resume",
    "surrogate",
    "times",
    "train",
]
