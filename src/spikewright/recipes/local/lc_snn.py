"""LC-SNN: Diehl & Cook's competition inside each receptive field of a locally connected layer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from spikewright.arch import Patches
from spikewright.data import Dataset
from spikewright.encode import Bernoulli
from spikewright.errors import ConfigError
from spikewright.neurons import Competition, LabelVote, RefractoryLIF
from spikewright.phases import AssignLabels, LearnCompeting, Phase
from spikewright.plasticity import STDP, AdaptiveThreshold, SumTo
from spikewright.recipes import Recipe, recipe
from spikewright.snn import SNN


@recipe(
    paper="Saunders et al. 2019",
    reports={"mnist": 95.07},
    presets={"digits": {"kernel": 6, "stride": 1, "crop": 0, "steps": 100, "epochs": 2}},
)
@dataclass
class LCSNN(Recipe):
    """Locally connected STDP: every place of the image has its own kernels, and those of a place compete.

    Poisson pixels (128 Hz for white) of the middle of the image, adaptive LIF cells (-65 / -60 / -52 mV, 100 ms), pair
    STDP with saturating traces at both events, each kernel's weights scaled to a sum of a fifth of its pixels, direct
    inhibition between the kernels of a place, thresholds that rise by 0.05 mV a spike. Labels only name the neurons.

    Constants are those of the authors' experiments (16 x 16 fields two pixels apart, 25 kernels, inhibition 250 mV);
    their figure is remembered for 12 x 12, stride 4 and up to 1000 kernels. Every presentation starts from rest, as in
    the code. Decided here: 250 ms an image; one with fewer than 5 spikes is shown up to three times more, each time
    brighter by its own brightness (the code doubles it each time); neurons vote by their mean count (their "all"; the
    2-gram vote is not here); any number of cells fire in a step (the library's `one_spike` would let one in the
    whole layer).
    """

    kernels: int = 25
    """Kernels at each place."""
    kernel: int = 16
    """Side of a receptive field, pixels."""
    stride: int = 2
    """From one field to the next, pixels."""
    crop: int = 4
    """Border of the image that is left out, pixels."""
    steps: int = 250
    """Time steps T of a presentation, 1 ms each."""
    rate: float = 128.0
    """Rate of a white pixel, Hz."""
    inhibition: float = 250.0
    """What a spike takes from the membranes of its place, mV."""
    theta_plus: float = 0.05
    """What a spike adds to its cell's threshold, mV."""
    norm: float = 0.2
    """Sum of a kernel's weights, per pixel."""
    epochs: int = 1
    """Passes over the training set."""
    label_images: int = 10_000
    """Labelled training images that name the neurons; 0: all."""

    def plan(self, data: Dataset) -> Iterator[Phase]:
        if data.frames:
            raise ConfigError(f"lc-snn takes still images, {data.name} is event data: choose another --data")
        if self.kernels < 2:
            raise ConfigError(f"kernels is {self.kernels}, expected at least 2 that can compete")
        if not 0 < self.rate <= 250:
            raise ConfigError(f"rate is {self.rate}, expected above 0 and at most 250 Hz")
        patches = Patches(self.kernel, self.stride, self.crop)
        places, pixels = patches.places(data.shape), data.shape[0] * self.kernel**2
        synapses = nn.Conv1d(places * pixels, places * self.kernels, 1, groups=places, bias=False)
        nn.init.uniform_(synapses.weight, 0.003, 0.303)
        cell = RefractoryLIF(100.0, -65.0, -60.0, -52.0, refractory=5.0, h=1.0, jump=True)
        neurons = places * self.kernels
        body = nn.Sequential()
        body.add_module("patches", patches)
        body.add_module("synapses", synapses)
        body.add_module("flatten", nn.Flatten())
        body.add_module("cells", Competition(neurons, places, cell, inhibition=self.inhibition, theta=0.0))
        body.add_module("vote", LabelVote(neurons, data.num_classes))
        snn = SNN(body, self.steps, Bernoulli(self.rate / 1000))
        yield LearnCompeting(
            snn,
            STDP(ltp2=1e-2, ltd2=1e-4),
            self.epochs,
            norm=SumTo(self.norm * pixels),
            threshold=AdaptiveThreshold(self.theta_plus, 1e7),
            rest=math.inf,
            least=5,
            attempts=4,
            stronger=1.0,
        )
        yield AssignLabels(snn, self.label_images)
