"""What a plan is made of. A recipe yields phases; each turns a network, and the last one's network is the result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from spikewright.convert import Calibration, Converted, Given, Method, converted, examined
from spikewright.data import Augment
from spikewright.engine.local import LocalTrainer
from spikewright.engine.optim import AdamW, Constant, Optimizer, Schedule
from spikewright.engine.readout import ReadoutFitter
from spikewright.engine.session import Session
from spikewright.engine.trainer import Trainee, Trainer
from spikewright.engine.upkeep import Upkeep
from spikewright.errors import ConfigError, positive, whole
from spikewright.losses import CrossEntropy, Loss
from spikewright.measure.memory import peak_memory_mb
from spikewright.neurons import LabelVote
from spikewright.plasticity import STDP, AdaptiveThreshold, ErrorShare, Growth, KWinners, Order, SumTo
from spikewright.plasticity.competing import CompetingLayer, Learner
from spikewright.readout import hits
from spikewright.snn import SNN, inference
from spikewright.storage import write_json

__all__ = [
    "AssignLabels",
    "Convert",
    "Fit",
    "FitReadout",
    "LearnByReward",
    "LearnCompeting",
    "LearnLocally",
    "Local",
    "Phase",
]

CHUNK = 32  # steps run at a time while factors are compared


class Phase:
    """One stretch of a plan. After `run`, `snn` has the weights that validation chose; where those are not the last
    epoch's, `last` has these. `repeats`: quick and exact to repeat, so a resumed run does it again. `precise`: its
    thresholds and winners were found with float32 sums, so precision "auto" tests the network with these."""

    repeats: ClassVar[bool] = False
    precise: ClassVar[bool] = False
    snn: SNN
    last: dict[str, Tensor]

    @property
    def origin(self) -> SNN | None:
        """The ANN a result was made from, to be tested beside it."""
        return None

    def run(self, session: Session) -> dict[str, Any]:
        """Do the work in this session; returns figures for the run's summary."""
        raise NotImplementedError

    def picture(self, folder: Path) -> None:
        """Draw what was learned into the run's folder, where there is something to see."""


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
        steps: T to train at; None: the network's own.
        validate_steps: T to validate at; None: that of training.
        until: stop after the epoch whose validation accuracy (a fraction of 1) is that high; None: after `epochs`.
        during: called before every step with the network and the epochs done (a fraction), to change it by schedule.
        clip_rows: largest norm of the gradient of each row of a weight matrix, one neuron's inputs.
        weight_floor: every parameter is kept at this or above.
        upkeep: what is done to the network between epochs.
        average: share by which an average of the weights moves towards them at every step; the average is what is
            validated and kept (Polyak & Juditsky 1992, with forgetting). None: the weights themselves.
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
    steps: int | None = None
    validate_steps: int | None = None
    until: float | None = None
    during: Callable[[nn.Module, float], None] | None = None
    clip_rows: float | None = None
    weight_floor: float | None = None
    upkeep: Upkeep | None = None
    average: float | None = None
    stop_below: float | None = None
    last: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "steps", "validate_steps"):
            value = getattr(self, name)
            if value is not None or not name.endswith("steps"):
                whole("", name, value)
        for name in ("clip", "weight_clamp", "clip_rows", "stop_below"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ConfigError(f"{name} is {value}, expected a finite number above 0, or none")
        if self.average is not None and not 0 < self.average <= 1:
            raise ConfigError(f"average is {self.average}, expected a share above 0 and at most 1, or none")

    def trainee(self, recompute: bool) -> Trainee:
        """What the trainer moves: the network under its loss."""
        return Trainee(self.snn, self.loss, self.steps, recompute, self.weight_clamp, self.weight_floor)

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


@dataclass
class Convert(Phase):
    """Turn a trained ANN into a spiking network; writes conversion.json and the ANN (in `ann/`) into the run folder.

    Args:
        ann: the ANN, an `SNN` of ReLU neurons and one step; it stays as it is.
        method: which parts.
        steps: T of the result.
        samples: training samples that thresholds are estimated on.
        looked_at: of these, how many the report compares layer by layer.
        batch: samples at a time.
        search: factors k among which the accuracy after `steps` on the validation part (the calibration samples, if
            there is none) decides; of equals the largest. Empty: the method's own.
    """

    ann: SNN
    method: Method
    steps: int
    samples: int = 1000
    looked_at: int = 256
    batch: int = 100
    search: tuple[float, ...] = ()
    snn: SNN = field(init=False, repr=False)
    last: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    repeats: ClassVar[bool] = True
    precise: ClassVar[bool] = True

    @property
    def origin(self) -> SNN:
        return self.ann

    def run(self, session: Session) -> dict[str, Any]:
        self.ann.to(session.accelerator.device)
        data = Calibration.of(session.train, self.ann, self.samples, self.batch, session.seed)

        def say(text: str) -> None:
            session.console.print(text, style="dim", soft_wrap=True)

        started = time.monotonic()
        say(f"converting with {len(data)} samples ...")
        found = converted(self.ann, data, self.method, self.steps, seed=session.seed, progress=say)
        k = self.method.k
        if self.search:
            k, found = self._best(found, data, session, say)
        report = examined(found, data, self.steps, samples=self.looked_at, seed=session.seed)
        self.snn = found.snn
        if report.warning:
            session.console.print(f"[yellow]warning:[/] {report.warning}", highlight=False, soft_wrap=True)
        if session.folder is not None:
            write_json(session.folder.path / "conversion.json", report.to_json())
            self.ann.save(session.folder.path / "ann")
        return {
            "calibration_samples": len(data),
            "conversion_seconds": time.monotonic() - started,
            "k": k,
            "conversion_lost": report.lost,
            "loses_most": report.culprit.name,
        }

    def _best(
        self, first: Converted, data: Calibration, session: Session, say: Callable[[str], None]
    ) -> tuple[float, Converted]:
        """The factor k of the most validation samples right, and its conversion."""
        held = data
        if session.valid is not None:
            held = Calibration.of(session.valid, self.ann, self.samples, self.batch, session.seed)
        best: tuple[float, float, Converted] | None = None
        for k in sorted(self.search, reverse=True):
            method = replace(self.method, estimate=Given(first.estimated), k=k)
            found = converted(self.ann, data, method, self.steps, seed=session.seed)
            accuracy = _accuracy(found.snn, held, session.seed)
            say(f"k = {k:g}: {100 * accuracy:.2f} % of {len(held)} held out samples")
            if best is None or accuracy > best[0]:
                best = accuracy, k, found
        if best is None:
            raise ConfigError("search names no factor k")
        return best[1:]


def _accuracy(snn: SNN, data: Calibration, seed: int) -> float:
    """Share of samples right after the last step, ties wrong."""
    right, done = 0, 0
    with inference(snn):
        for x in data:
            labels = data.labels[done : done + len(x)].to(x.device)
            *_, scores = snn.blocks(x, chunk=CHUNK, generator=torch.Generator().manual_seed(seed))
            right += int(hits(scores[-1], labels).sum())
            done += len(x)
    return right / done


@dataclass
class Local(Phase):
    """What the phases of local learning share: one layer of a network, and passes over the training set."""

    snn: SNN
    layer: str
    epochs: int = field(default=1, kw_only=True)
    inhibit_input: bool = field(default=False, kw_only=True)
    timeless: ClassVar[bool] = False  # whether it asks no more of its input than who fired
    last: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    precise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        whole(f"layer {self.layer!r}", "epochs", self.epochs)

    @property
    def rules(self) -> tuple[Order, ...]:
        """The rules the layer learns by."""
        raise NotImplementedError

    def block(self, trainer: LocalTrainer, events: Any, which: Any, labels: Any) -> None:
        """Learn from a block of samples."""
        raise NotImplementedError

    def figures(self, at: Any) -> dict[str, float]:
        """Figures of a pass for the records."""
        raise NotImplementedError

    def picture(self, folder: Path) -> None:
        from spikewright.report.filters import draw_filters  # loads matplotlib

        draw_filters(self.snn.body, folder, self.layer)

    def run(self, session: Session) -> dict[str, Any]:
        trainer = LocalTrainer(self, session)
        trainer.run()
        seconds = trainer.at.total_seconds
        return {
            "epochs": self.epochs,
            "train_seconds": seconds,
            "train_images_per_second": trainer.at.seen / max(seconds, 1e-9),
            f"{self.layer}_images_per_second": trainer.at.seen / max(seconds, 1e-9),
            "train_peak_memory_mb": peak_memory_mb(session.accelerator.device),
        }


@dataclass
class LearnLocally(Local):
    """Let one layer of a first-spike network learn without labels; those in front of it stay as they are.

    Args:
        snn: the network, its body as `plasticity.first_spike.Cascade` reads it.
        layer: name of the convolution in the body.
        rule: what winners do.
        winners: who wins, after point-wise inhibition.
        growth: how the rate grows with the images seen.
        epochs: passes over the training set.
        inhibit_input: the layer sees only the earliest spike of each place.
    """

    rule: Order = field(default_factory=Order)
    winners: KWinners = field(default_factory=KWinners)
    growth: Growth = field(default_factory=Growth)

    @property
    def rules(self) -> tuple[Order, ...]:
        return (self.rule,)

    def block(self, trainer: LocalTrainer, events: Any, which: Any, labels: Any) -> None:
        rates = [self.growth.rate(self.rule.ltp, trainer.at.seen + i) for i in range(len(which))]
        trainer.compete(events, which, self.winners.k, self.winners.radius, self.rule, np.array(rates))

    def figures(self, at: Any) -> dict[str, float]:
        return {"winners_per_image": at.winners / at.done}


@dataclass
class LearnByReward(Local):
    """Let the last layer learn by whether its decision was right: the neuron with the largest potential answers with
    its map's class, and it alone learns (Mozafari 2019).

    Args:
        snn, layer, epochs, inhibit_input: as in `LearnLocally`.
        per_class: maps of one class, map // per_class is its class.
        reward: the rule after a right answer.
        punish: the rule after a wrong one.
        share: how the two are weighed by the errors of the images before; None weighs both by 1.
    """

    timeless = True
    per_class: int = 20
    reward: Order = field(default_factory=Order)
    punish: Order = field(default_factory=lambda: Order(-0.004, -0.0005))
    share: ErrorShare | None = field(default_factory=ErrorShare)

    @property
    def rules(self) -> tuple[Order, ...]:
        return self.reward, self.punish

    def block(self, trainer: LocalTrainer, events: Any, which: Any, labels: Any) -> None:
        size, at = self.share.block if self.share else len(which), trainer.at
        for i in range(0, len(which), size):
            part = slice(i, i + size)
            right, wrong = trainer.decide(events, which[part], labels[part], self.per_class, (self.reward, self.punish))
            if self.share:
                at.reward, at.punish = self.share.rates(right, wrong, len(which[part]))

    def figures(self, at: Any) -> dict[str, float]:
        return {"train_accuracy": at.right / at.done, "answered": at.winners / at.done}


@dataclass
class FitReadout(Phase):
    """Fit the classifier at the end of a first-spike network by scikit-learn: a projection by PCA, if the body has
    one, and a linear or RBF support vector machine.

    Args:
        snn: the network; its body goes on behind the last pool with LatencyCode or Synapse(Factor(1)), nn.Flatten,
            perhaps nn.Linear (PCA), and nn.Linear (linear SVM, one against the rest) or `SVM` (RBF).
        c: the machine's C.
    """

    snn: SNN
    c: float = 2.4
    last: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    precise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        positive("FitReadout", "c", self.c)

    def run(self, session: Session) -> dict[str, Any]:
        fitter = ReadoutFitter(self.snn, self.c, session)
        return fitter.run() | {"train_peak_memory_mb": peak_memory_mb(session.accelerator.device)}


@dataclass
class LearnCompeting(Phase):
    """Train a layer of competing cells by STDP, image after image (`plasticity.competing`).

    Args:
        snn: the network: [front], synapses, `Competition`, `LabelVote`.
        rule: what the synapses learn by.
        epochs: passes over the training set.
        norm: the sum to which each cell's weights are scaled before every presentation; None leaves them.
        threshold: how the cells' thresholds adapt.
        rest: ms without input after every presentation, in which everything goes on; infinity: membranes and traces
            start from rest at each.
        least: output spikes below which an image is shown again, more strongly.
        attempts: how often an image is shown at most.
        stronger: how much of the first intensity each further attempt adds.
        every: images between two lines of the records.
    """

    snn: SNN
    rule: STDP
    epochs: int = 1
    norm: SumTo | None = None
    threshold: AdaptiveThreshold = field(default_factory=AdaptiveThreshold)
    rest: float = 0.0
    least: int = 0
    attempts: int = 1
    stronger: float = 0.5
    every: int = 5000
    _shape: tuple[int, ...] = field(default=(), init=False, repr=False)
    last: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    precise: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("epochs", "attempts", "every"):
            whole("", name, getattr(self, name))
        for name in ("rest", "least", "stronger"):
            value = getattr(self, name)
            if not (value >= 0 and (math.isfinite(value) or name == "rest")):
                raise ConfigError(f"{name} is {value}, expected a number of at least 0")

    def picture(self, folder: Path) -> None:
        from spikewright.report.filters import draw_fields  # loads matplotlib

        draw_fields(CompetingLayer(self.snn, self._shape).fields(), folder, "synapses")

    def run(self, session: Session) -> dict[str, Any]:
        self._shape = session.train.shape
        learner = Learner(self, session)
        learner.run()
        at = learner.at
        return {
            "epochs": self.epochs,
            "train_seconds": at.seconds,
            "train_images_per_second": at.images / max(at.seconds, 1e-9),
            "presentations_per_image": at.presentations / at.images,
            "train_peak_memory_mb": peak_memory_mb(session.accelerator.device),
        }


@dataclass
class AssignLabels(Phase):
    """Name each neuron of a competing layer by the class on which it fires most, weights and thresholds frozen.

    Args:
        snn: the network; its `LabelVote` gets the labels.
        images: labelled training images to look at; 0: all.
    """

    snn: SNN
    images: int = 10_000
    last: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False)
    precise: ClassVar[bool] = True

    def run(self, session: Session) -> dict[str, Any]:
        layer = CompetingLayer(self.snn, session.train.shape)
        order = torch.randperm(len(session.train), generator=torch.Generator().manual_seed(session.seed))
        found = list(layer.answers(session.train, order[: self.images or None]))
        counts, labels = torch.cat([c for c, _ in found]), torch.cat([y for _, y in found])
        if not counts.any():
            raise ConfigError(
                f"layer {layer.name!r} did not fire once on {len(labels)} images, so no neuron can be named: train it "
                "longer, raise the intensity, or lower the threshold"
            )
        layer.vote.labels_now.copy_(LabelVote.assign(counts, labels, session.data.num_classes))
        unnamed = int((layer.vote.labels_now < 0).sum())
        if unnamed:
            session.console.print(
                f"[yellow]warning:[/] {unnamed} of {counts.shape[1]} neurons of layer {layer.name!r} never fired on "
                f"{len(labels)} labelled images and vote for no class: label with more images, or train longer",
                highlight=False,
                soft_wrap=True,
            )
        accuracy = None
        if session.valid is not None:
            every = torch.arange(len(session.valid))
            right = sum(int(hits(layer.vote(c.double()), y).sum()) for c, y in layer.answers(session.valid, every))
            accuracy = right / len(every)
        return {"validation_accuracy": accuracy, "unlabelled_neurons": unnamed}
