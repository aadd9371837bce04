"""From a trained ANN to a spiking network, as a chain of small passes over a graph.

trace -> drop, fold, order pools -> estimate thresholds -> place them in one of three equal forms -> swap activations
for neurons -> correct on calibration data. `Method` says which choice each link makes; `Report` what came of it.
"""

from spikewright.convert.activations import Activation, Clip, RateNorm
from spikewright.convert.calibration import Calibration
from spikewright.convert.correct import BiasCalibration, ChargeCalibration, Correction, Filtered, WeightCalibration
from spikewright.convert.curves import QCFS, Scheduled, Sharpening, SoftLIF
from spikewright.convert.estimate import MMSE, Estimator, Given, Largest, ModelBased, Percentile, SpikeFed, Trained
from spikewright.convert.few_spikes import Curve, OneAfterAnother, fitted
from spikewright.convert.graph import Add, Affine, Concat, Graph
from spikewright.convert.method import Converted, Method, Spiking, converted
from spikewright.convert.report import LayerReport, Report, examined
from spikewright.convert.trace import trace

__all__ = [
    "MMSE",
    "QCFS",
    "Activation",
    "Add",
    "Affine",
    "BiasCalibration",
    "Calibration",
    "ChargeCalibration",
    "Clip",
    "Concat",
    "Converted",
    "Correction",
    "Curve",
    "Estimator",
    "Filtered",
    "Given",
    "Graph",
    "Largest",
    "LayerReport",
    "Method",
    "ModelBased",
    "OneAfterAnother",
    "Percentile",
    "RateNorm",
    "Report",
    "Scheduled",
    "Sharpening",
    "SoftLIF",
    "SpikeFed",
    "Spiking",
    "Trained",
    "WeightCalibration",
    "converted",
    "examined",
    "fitted",
    "trace",
]
