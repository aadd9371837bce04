"""Kheradpisheh et al.: two convolutional layers of STDP on contrasts, and a linear SVM on which neurons fired."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from spikewright.arch.first_spike import Block, first_spike_layers
from spikewright.data import Dataset
from spikewright.encode import RankOrder
from spikewright.fronts import DoG
from spikewright.neurons import Factor, Synapse
from spikewright.phases import FitReadout, LearnLocally, Phase
from spikewright.plasticity import Growth, KWinners, Order
from spikewright.plasticity.first_spike import Cascade
from spikewright.readout import LastMembrane
from spikewright.recipes import Recipe, recipe
from spikewright.snn import SNN


@recipe(
    paper="Kheradpisheh, Ganjtabesh, Thorpe, Masquelier 2018",
    reports={"mnist": 98.40},
    presets={"digits": {"maps_2": 60, "v_th_1": 3.0, "every": 50, "first_epochs": 8, "epochs": 10}},
)
@dataclass
class Kheradpisheh(Recipe):
    """DoG contrasts in 15 steps of equal count, 32 maps of 5x5 and 150 of 2x2, each neuron fires once.

    Sizes, thresholds and rates are those of the public re-implementations, not the paper's (30 maps of 5x5 with
    threshold 15, 100 of 5x5 with 10, a global maximum at the end), which gives no figures for MNIST's layers. The
    first layer's rate doubles every 500 images. The second layer learns from the earliest spike of each place only,
    and sees all of them afterwards. The features are the neurons that fired behind the last pool.
    """

    steps: int = 15
    """Time steps T."""
    maps_1: int = 32
    """Maps of the first layer."""
    maps_2: int = 150
    """Maps of the second layer."""
    v_th_1: float = 10.0
    """Threshold of the first layer."""
    v_th_2: float = 1.0
    """Threshold of the second layer."""
    ltp: float = 0.004
    """Potentiation."""
    ltd: float = 0.003
    """Depression."""
    every: int = 500
    """Images after which both double in the first layer, up to a potentiation of 0.15."""
    first_epochs: int = 2
    """Passes over the training set for the first layer."""
    epochs: int = 20
    """Passes for the second layer."""
    c: float = 2.4
    """C of the linear SVM."""

    def plan(self, data: Dataset) -> Iterator[Phase]:
        encode = RankOrder(DoG(), even=True)
        blocks = (
            Block(self.maps_1, 5, 2, self.v_th_1, (2, 2, 1)),
            Block(self.maps_2, 2, 1, self.v_th_2, (2, 2, 1)),
        )
        layers = first_spike_layers(len(DoG().filters), blocks)
        layers |= {"fired": Synapse(Factor(1.0)), "flat": nn.Flatten()}
        features = Cascade.features(nn.Sequential(layers), encode, data.shape)
        layers["svm"] = nn.Linear(features, data.num_classes)
        snn = SNN(nn.Sequential(layers), self.steps, encode, LastMembrane(Factor(0.0)))
        rule, doubling = Order(self.ltp, self.ltd), Growth(2.0, self.every, 0.15)
        yield LearnLocally(snn, "conv1", rule, KWinners(5, 2), doubling, epochs=self.first_epochs)
        yield LearnLocally(snn, "conv2", rule, KWinners(8, 1), epochs=self.epochs, inhibit_input=True)
        yield FitReadout(snn, self.c)
