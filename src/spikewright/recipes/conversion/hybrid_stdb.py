"""Hybrid training: a converted network, trained on by spike-timing-dependent backpropagation (STDB)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from spikewright.convert import Method, Spiking
from spikewright.data import Dataset
from spikewright.engine.optim import Adam, Milestones
from spikewright.losses import CrossEntropy
from spikewright.phases import Fit, Phase
from spikewright.recipes import recipe
from spikewright.recipes.conversion.scaled_threshold import ScaledThreshold
from spikewright.recipes.conversion.sengupta import PRESETS
from spikewright.snn import SNN
from spikewright.surrogate import STDB, ScaledTriangle


@recipe(
    paper="Rathi, Srinivasan, Panda, Roy 2020, and the study after it",
    reports={"mnist": 98.88, "cifar10": 92.03},
    presets={**PRESETS, "digits": {**PRESETS["digits"], "tune_epochs": 2, "steps": 50}},
)
@dataclass
class HybridSTDB(ScaledThreshold):
    """The scaled conversion as a starting point, then a few epochs of backpropagation through its spikes.

    The spike's derivative is alpha exp(-beta dt) / v_th, dt the steps since the neuron's last spike (`stdb`), or the
    tent 0.3 max(0, 1 - |u/v_th - 1|) / v_th (`linear`), the default of the released code: STDB's never vanishes for an
    active neuron, and its authors advise the other where it is unstable. Cross-entropy of the output's potential after
    the last step; Adam 1e-4 with amsgrad; dropout's mask is held over the steps; thresholds stay fixed; the reset's
    gradient is cut, as in the released code. (The paper prints the loss without its minus and a leak on the output that
    its equation does not have.)
    """

    surrogate: Literal["linear", "stdb"] = "linear"
    """Derivative of the spike while training on."""
    alpha: float = 0.3
    """Height of the derivative."""
    beta: float = 0.01
    """Decay of STDB's derivative per step since the last spike."""
    tune_epochs: int = 10
    """Passes over the training set by STDB."""
    tune_batch: int = 64
    """Samples a step of these."""
    tune_lr: float = 1e-4
    """Adam's learning rate of these; divided by 5 after 60, 80 and 90 % of them."""
    weight_decay: float = 5e-4
    """L2 penalty of these."""

    def neuron(self) -> Spiking:
        scaled = STDB(self.alpha, self.beta, scale_by_threshold=True)
        return replace(super().neuron(), surrogate=scaled if self.surrogate == "stdb" else ScaledTriangle(self.alpha))

    def method(self) -> Method:
        return replace(super().method(), dropout="hold")

    def after(self, snn: SNN, data: Dataset) -> Iterator[Phase]:
        optimizer = Adam(self.tune_lr, self.weight_decay, amsgrad=True)
        schedule = Milestones(at=(0.6, 0.8, 0.9), factor_each=0.2)
        yield Fit(
            snn, CrossEntropy(), self.tune_epochs, self.tune_batch, optimizer, schedule, augment=self.augment(data)
        )
