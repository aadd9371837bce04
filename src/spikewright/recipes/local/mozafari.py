"""Mozafari et al.: two layers of STDP, a third that learns by reward and punishment; the decision is the network's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from spikewright.arch.first_spike import Block, first_spike_layers
from spikewright.data import Dataset
from spikewright.encode import RankOrder
from spikewright.fronts import DoG
from spikewright.neurons import Factor
from spikewright.phases import LearnByReward, LearnLocally, Phase
from spikewright.plasticity import Additive, Bounds, ErrorShare, Growth, KWinners, Order
from spikewright.readout import LastMembrane
from spikewright.recipes import Recipe, recipe
from spikewright.snn import SNN

SCALES = tuple((n, a, b) for n in (3, 7, 13) for a, b in ((n / 9, 2 * n / 9), (2 * n / 9, n / 9)))


@recipe(
    paper="Mozafari, Ganjtabesh, Nowzari-Dalini, Thorpe, Masquelier 2019",
    reports={"mnist": 97.20},
    presets={
        "digits": {
            "maps_2": 60, "v_th_1": 4.0, "v_th_2": 2.0, "pool_1": 1, "pool_2": 2, "every": 50, "block": 100,
            "first_epochs": 8, "second_epochs": 8, "epochs": 60,
        }
    },
)  # fmt: skip
@dataclass
class Mozafari(Recipe):
    """Six DoG contrasts in 15 steps of equal count; the strongest potential of the last layer names the class.

    20 maps of the last layer belong to each class. After each image the one neuron with the largest potential over all
    maps and places learns: STDP if its class is right, anti-STDP if not, weighed by the share of errors among the 1000
    images before. A network without a positive potential gives no answer, which counts as wrong. The paper's dropout of
    maps is left out, as in the released code; that code cuts all weights of the layer to its bounds 0.2 .. 0.8 at the
    first update, here they are cut at the start.
    """

    steps: int = 15
    """Time steps T."""
    maps_1: int = 30
    """Maps of the first layer."""
    maps_2: int = 250
    """Maps of the second layer."""
    per_class: int = 20
    """Maps of the third layer for each class."""
    v_th_1: float = 15.0
    """Threshold of the first layer."""
    v_th_2: float = 10.0
    """Threshold of the second layer."""
    pool_1: int = 2
    """Side of the max pool behind the first layer."""
    pool_2: int = 3
    """Side of the max pool behind the second layer."""
    ltp: float = 0.004
    """Potentiation."""
    ltd: float = 0.003
    """Depression."""
    punish: float = 0.004
    """Weakening of those that brought a wrong answer about."""
    spare: float = 0.0005
    """Strengthening of those that did not."""
    every: int = 500
    """Images after which the rates of the first two layers double, up to a potentiation of 0.15."""
    block: int = 1000
    """Images whose errors weigh reward and punishment in the next ones."""
    first_epochs: int = 2
    """Passes over the training set for the first layer."""
    second_epochs: int = 4
    """Passes for the second layer."""
    epochs: int = 680
    """Passes for the third layer."""

    def plan(self, data: Dataset) -> Iterator[Phase]:
        bounds = Bounds(0.2, 0.8)
        blocks = (
            Block(self.maps_1, 5, 2, self.v_th_1, (self.pool_1, self.pool_1, 0)),
            Block(self.maps_2, 3, 1, self.v_th_2, (self.pool_2, self.pool_2, 0)),
            Block(self.per_class * data.num_classes, 5, 2, None, low=bounds.low, high=bounds.high),
        )
        layers = first_spike_layers(len(SCALES), blocks)
        layers |= {"place": nn.AdaptiveMaxPool2d(1), "flat": nn.Flatten(), "map": nn.MaxPool1d(self.per_class)}
        encode = RankOrder(DoG(SCALES), even=True)
        snn = SNN(nn.Sequential(layers), self.steps, encode, LastMembrane(Factor(0.0)))
        rule, doubling = Order(self.ltp, self.ltd), Growth(2.0, self.every, 0.15)
        yield LearnLocally(snn, "conv1", rule, KWinners(5, 3), doubling, epochs=self.first_epochs)
        yield LearnLocally(snn, "conv2", rule, KWinners(8, 1), doubling, epochs=self.second_epochs)
        reward = Order(self.ltp, self.ltd, Additive(), bounds)
        punish = Order(-self.punish, -self.spare, Additive(), bounds)
        yield LearnByReward(snn, "conv3", self.per_class, reward, punish, ErrorShare(self.block), epochs=self.epochs)
