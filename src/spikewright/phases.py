"""What a plan is made of. A recipe yields phases; each turns a network, and the last one's network is the result."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from spikewright.data import Augment
from spikewright.engine.optim import AdamW, Constant, Optimizer, Schedule
from spikewright.engine.session import Session
from spikewright.engine.trainer import Trainer
from spikewright.engine.upkeep import Upkeep
from spikewright.errors import ConfigError
from spikewright.losses import CrossEntropy, Loss
from spikewright.measure.memory import peak_memory_mb
from spikewright.snn import SNN

__all__ = ["Fit", "Phase"]


class Phase:
    """One stretch of a plan. After `run`, `snn` has the weights that validation chose; where those are not the last
    epoch's, `last` has these."""

    snn: SNN
    last: dict[str, Tensor]

    def run(self, session: Session) -> dict[str, Any]:
        """Do the work in this session; returns figures for the run's summary."""
        raise NotImplementedError


@dataclass
class Fit(Phase):
    """Train a network by gradients.

    Args:
        snn: the network (an ANN is one with ReLU for neurons and steps=1).
        loss: what to minimise.
        epochs: passes over the training set.
        batch: samples a step, over all processes.
        optimizer, schedule: how.
        clip: largest global norm of the gradient, None for no clipping.
        weight_clamp: every parameter is kept within -weight_clamp .. weight_clamp.
        augment: random changes of the training images.
        clip_rows: largest norm of the gradient of each row of a weight matrix, one neuron's inputs.
        weight_floor: every parameter is kept at this or above.
        upkeep: what is done to the network after every epoch.
        stop_below: training ends with the first epoch whose mean loss is below this.
    """

    snn: SNN
    loss: Loss = field(default_factory=CrossEntropy)
    epochs: int = 10
    batch: int = 64
    optimizer: Optimizer = field(default_factory=AdamW)
    schedule: Schedule = field(default_factory=Constant)
    clip: float | None = None
    weight_clamp: float | None = None
    augment: Augment | None = None
    clip_rows: float | None = None
    weight_floor: float | None = None
    upkeep: Upkeep | None = None
    stop_below: float | None = None
    last: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} is {value!r}, expected a whole number of at least 1")
        for name in ("clip", "weight_clamp", "clip_rows", "stop_below"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {value}, expected a finite number above 0, or none")

    def run(self, session: Session) -> dict[str, Any]:
        trainer = Trainer(self, session)
        trainer.run()
        at = trainer.at
        if trainer.best and at.best_epoch != at.epoch:
            self.last = {k: v.detach().clone() for k, v in self.snn.state_dict().items()}
            self.snn.load_state_dict(trainer.best)
        return {
            "epochs": at.epoch,
            "chosen_epoch": at.best_epoch if at.best_epoch > 0 else at.epoch,
            "validation_accuracy": at.best_accuracy if at.best_epoch > 0 else None,
            "train_seconds": at.total_seconds,
            "train_images_per_second": at.total_seen / max(at.total_seconds, 1e-9),
            "train_peak_memory_mb": peak_memory_mb(trainer.device),
        }
