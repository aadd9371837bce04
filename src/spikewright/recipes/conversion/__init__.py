"""Conversion: train an ANN under the method's constraints, convert it, and perhaps train on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from spikewright.arch import arch
from spikewright.convert import Method
from spikewright.data import Dataset
from spikewright.engine.optim import AdamW, Cosine
from spikewright.errors import ConfigError
from spikewright.model_file import load_model
from spikewright.phases import Convert, Fit, Phase
from spikewright.readout import Rate, Readout
from spikewright.recipes import Augmented
from spikewright.snn import SNN

__all__ = ["ConversionRecipe"]


@dataclass
class ConversionRecipe(Augmented):
    """What the recipes of the family share: an ANN (an `SNN` of ReLU neurons and one step), trained and converted.

    A recipe says which ANN (`network`), how it is trained (`training`) and which parts the conversion is made of
    (`method`, which also serves `sw.convert` for networks from elsewhere).
    """

    arch: str = "lenet"
    """Network, in the papers' notation or by name."""
    steps: int = 100
    """Time steps T."""
    epochs: int = 10
    """Passes over the training set, of the ANN."""
    batch: int = 64
    """Samples a step."""
    lr: float = 1e-3
    """Highest learning rate of the ANN's training."""
    samples: int = 1000
    """Training samples that thresholds are estimated on."""
    ann: str = ""
    """Folder of a trained ANN (a run has it in `ann`) to convert instead of training one."""

    def method(self) -> Method:
        """The parts of the conversion."""
        raise NotImplementedError

    def network(self, data: Dataset) -> nn.Module:
        """The ANN's body under the method's constraints."""
        return arch(self.arch, data, nn.ReLU(), spiking_output=False)

    def decoder(self) -> Readout:
        """What makes scores of the ANN's outputs."""
        return Rate()

    def training(self, ann: SNN, data: Dataset) -> Fit:
        """How the ANN is trained."""
        return Fit(
            ann,
            epochs=self.epochs,
            batch=self.batch,
            optimizer=AdamW(self.lr),
            schedule=Cosine(),
            augment=self.augment(data),
        )

    def plan(self, data: Dataset) -> Iterator[Phase]:
        if data.frames:
            raise ConfigError(f"recipe {self.name!r} takes images, but {data.name} has frames of events")
        if self.ann:
            ann = load_model(Path(self.ann))
        else:
            ann = SNN(self.network(data), steps=1, readout=self.decoder())
            yield self.training(ann, data)
            yield from self.before(ann, data)
        phase = Convert(ann, self.method(), self.steps, self.samples)
        yield phase
        yield from self.after(phase.snn, data)

    def before(self, ann: SNN, data: Dataset) -> Iterator[Phase]:
        """Phases between the ANN's training and its conversion; none by default."""
        return iter(())

    def after(self, snn: SNN, data: Dataset) -> Iterator[Phase]:
        """Phases that train the converted network on; none by default."""
        return iter(())
