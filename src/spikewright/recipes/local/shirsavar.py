"""Shirsavar et al.: one pass of convolutional STDP over contrasts of three scales, spike times, PCA and an SVM."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from torch import nn

from spikewright.arch.first_spike import Block, first_spike_layers
from spikewright.classifiers import SVM
from spikewright.data import Dataset
from spikewright.encode import RankOrder
from spikewright.fronts import LoG
from spikewright.neurons import Factor, LatencyCode
from spikewright.phases import FitReadout, LearnLocally, Phase
from spikewright.plasticity import Growth, KWinners, Order
from spikewright.plasticity.first_spike import Cascade
from spikewright.readout import LastMembrane
from spikewright.recipes import Recipe, recipe
from spikewright.snn import SNN


@recipe(
    paper="Shirsavar, Vahabie, Dehaqani 2022",
    reports={"mnist": 99.42},
    presets={
        "digits": {"pool_1": 1, "pool_2": 2, "v_th_1": 20.0, "v_th_2": 30.0, "every": 15, "components": 80},
    },
)
@dataclass
class Shirsavar(Recipe):
    """Three LoG scales, rank order over 15 steps, two layers of one-spike neurons, each trained by one pass of STDP.

    The rate starts small and grows by half every 2000 images, which makes the weights almost binary in one pass. The
    features are 15 minus the first spike's time behind the last pool; PCA, then an RBF or a linear SVM (the paper's
    99.42 and 99.01; here the linear one does better with --components 800 --c 1e-4 than with its 200 and 2.4: 98.89
    and 98.58 %). Potentials are always those of the current weights, where the released code computes a batch of 64
    before it updates (tried: 98.56 % with the linear SVM, 98.58 % without). The paper binarises weights afterwards, its
    released code does not, and neither do we.
    """

    steps: int = 15
    """Time steps T."""
    maps_1: int = 100
    """Maps of the first layer."""
    maps_2: int = 200
    """Maps of the second layer."""
    v_th_1: float = 16.0
    """Threshold of the first layer."""
    v_th_2: float = 5.0
    """Threshold of the second layer."""
    pool_1: int = 2
    """Side of the max pool behind the first layer."""
    pool_2: int = 3
    """Side of the max pool behind the second layer."""
    ltp: float = 4e-4
    """Potentiation at the start."""
    ltd: float = 3e-4
    """Depression at the start."""
    every: int = 2000
    """Images after which both grow by half, up to a potentiation of 1.5."""
    epochs: int = 1
    """Passes over the training set, for each layer."""
    svm: Literal["rbf", "linear"] = "rbf"
    """The classifier."""
    components: int = 200
    """Principal components it sees."""
    c: float = 2.4
    """Its C."""

    def plan(self, data: Dataset) -> Iterator[Phase]:
        encode = RankOrder(LoG())
        blocks = (
            Block(self.maps_1, 5, 2, self.v_th_1, (self.pool_1, self.pool_1, 0), 0.5, 0.02),
            Block(self.maps_2, 3, 1, self.v_th_2, (self.pool_2, self.pool_2, 0), 0.5, 0.02),
        )
        layers = first_spike_layers(2 * len(LoG().sigmas), blocks)
        layers |= {"code": LatencyCode(self.steps), "flat": nn.Flatten()}
        features = Cascade.features(nn.Sequential(layers), encode, data.shape)
        layers["pca"] = nn.Linear(features, self.components)
        many = data.num_classes
        layers["svm"] = SVM(self.components, many) if self.svm == "rbf" else nn.Linear(self.components, many)
        snn = SNN(nn.Sequential(layers), self.steps, encode, LastMembrane(Factor(0.0)))
        rule, growth = Order(self.ltp, self.ltd), Growth(1.5, self.every, 1.5)
        yield LearnLocally(snn, "conv1", rule, KWinners(5, 3), growth, epochs=self.epochs)
        yield LearnLocally(snn, "conv2", rule, KWinners(8, 1), growth, epochs=self.epochs)
        yield FitReadout(snn, self.c)
