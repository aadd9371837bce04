"""Spikewright: train spiking neural networks for classification by every family of methods."""

__version__ = "0.1.0"
