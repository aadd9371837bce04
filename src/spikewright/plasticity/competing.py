"""Training of a layer of competing cells by STDP: one image after the other, every spike an event.

The network is one that evaluates like any other: a front that only picks pixels, the synapses (`nn.Linear`, or a
grouped `nn.Conv1d` for receptive fields of their own), `Competition`, `LabelVote`. Training runs it in the compiled
loops of `driven_loops`, which fire the very spikes that the network fires (see the tests), and lets weights and
thresholds change meanwhile. Labels are used only to name the neurons, once the rest is done.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from spikewright import noise
from spikewright.data import Split
from spikewright.encode import Bernoulli
from spikewright.engine.session import Interrupted, Session, mixed_seed
from spikewright.errors import ConfigError, DataError, ModelFileError
from spikewright.neurons import Competition, ConductanceLIF, LabelVote
from spikewright.plasticity.driven_loops import NEVER, Constants, State, present
from spikewright.plasticity.rules import STDP
from spikewright.readout import hits
from spikewright.snn import SNN

if TYPE_CHECKING:
    from spikewright.phases import LearnCompeting

__all__ = ["CompetingLayer", "Learner"]

BLOCK = 100  # images a call of the loops
SILENT = 1e-12  # traces below it are 0


@dataclass
class CompetingLayer:
    """The parts of a network of this kind, and its compiled run.

    Args:
        snn: [front...], synapses, `Competition`, `LabelVote`, with a `Bernoulli` encoder.
        shape: of an image, [C, H, W].
        rule: what the synapses learn by; None to run the network as it is.

    Raises ConfigError for a network of another build, or a rule these loops do not know.
    """

    snn: SNN
    shape: tuple[int, ...]
    rule: STDP | None = None

    def __post_init__(self) -> None:
        layers = list(self.snn.body.named_children())
        kinds = [isinstance(layer, Competition) for _, layer in layers]
        at = kinds.index(True) if any(kinds) else 0
        made = [k for k, (_, layer) in enumerate(layers[:at]) if isinstance(layer, (nn.Linear, nn.Conv1d))]
        fits = len(made) == 1 and isinstance(self.snn.encode, Bernoulli) and len(layers) == at + 2
        if not (fits and isinstance(layers[-1][1], LabelVote)):
            raise ConfigError(
                "competitive learning trains [front], nn.Linear or nn.Conv1d, Competition, LabelVote, behind a "
                f"Bernoulli encoder; found {', '.join(type(layer).__name__ for _, layer in layers)} behind "
                f"{type(self.snn.encode).__name__}"
            )
        self.name: str = layers[at][0]
        self.cells: Any = layers[at][1]
        self.synapses: Any = layers[made[0]][1]
        self.vote: Any = layers[-1][1]
        numbers: Any = torch.arange(math.prod(self.shape), dtype=torch.float64).view(1, *self.shape)
        for _, layer in layers[: made[0]]:
            numbers = layer(numbers)
        self.inputs = numbers.reshape(self.cells.places, -1).long().numpy()
        rows = self.inputs.reshape(-1)
        order = np.argsort(rows, kind="stable")
        self.reach_row = order.astype(np.int64)
        self.reach_start = np.searchsorted(rows[order], np.arange(math.prod(self.shape) + 1)).astype(np.int64)

    # ---- weights between the network and the loops

    def weights(self) -> np.ndarray:
        """The synapses as the loops want them: [places * synapses, cells of a place]."""
        w = self.synapses.weight.detach().reshape(self.cells.places, -1, self.inputs.shape[1])
        return np.ascontiguousarray(w.transpose(1, 2).reshape(self.inputs.size, -1).numpy())

    def fields(self) -> np.ndarray:
        """What each cell has learned to look at, in the space of the image: [cells, 1, H, W], channels averaged."""
        w = self.weights().reshape(*self.inputs.shape, -1)
        places, _, cells = w.shape
        found = np.zeros((places, cells, math.prod(self.shape)))
        for place in range(places):
            found[place, :, self.inputs[place]] = w[place]
        return found.reshape(places * cells, *self.shape).mean(1, keepdims=True)

    def put(self, state: State) -> None:
        """Weights and thresholds of the loops into the network."""
        w = torch.from_numpy(state.weights).unflatten(0, self.inputs.shape).transpose(1, 2)
        with torch.no_grad():
            self.synapses.weight.copy_(w.reshape(self.synapses.weight.shape))
            self.cells.theta_now.copy_(torch.from_numpy(state.theta))

    def rest(self) -> State:
        """The layer as it is, at rest."""
        w = self.weights()
        n, kind, never = self.cells.neurons, w.dtype, NEVER
        cell, partner = self.cells.cell, self.cells.partner
        return State(
            now=np.zeros(1, np.int64),
            weights=w,
            theta=self.cells.theta_now.numpy().astype(kind),
            v=np.full(n, cell.v_rest, kind),
            g_e=np.zeros(n, kind),
            g_i=np.zeros(n, kind),
            y=np.zeros(n, kind),
            last_post=np.full(n, never),
            last_pre=np.full(math.prod(self.shape), never),
            inh_v=np.full(n, partner.v_rest if partner else 0.0),
            inh_g=np.zeros(n),
            inh_seen=np.zeros(n, np.int64),
            inh_last=np.full(n, never),
            pending=np.zeros(n, np.int64),
        )

    # ---- running

    def constants(self, **schedule: float) -> Constants:
        """The numbers of cell, partner and rule for the loops."""
        cell, partner, rule = self.cells.cell, self.cells.partner, self.rule or STDP()
        traces = (rule.pre, rule.post, rule.post_slow)
        if rule.ltd3 or not rule.coincident or not all(trace.saturating for trace in traces):
            raise ConfigError(
                "competitive learning knows rules with saturating traces, coincident spikes and no ltd3; found "
                f"{rule}: choose another rule"
            )
        if self.rule is not None:
            rule.bounds.check(self.name, self.synapses.weight.detach().numpy())
        conductance = isinstance(cell, ConductanceLIF)
        mean_e, mean_i = cell.means() if conductance else (1.0, 1.0)
        if conductance and (partner is None or (partner.tau_e, partner.h) != (cell.tau_e, cell.h)):
            raise ConfigError(
                "competitive learning of conductance cells needs inhibitory partners of the same tau_e and h; found "
                f"{partner}"
            )
        inhibitory = partner or ConductanceLIF()
        h = cell.h
        steps = {"steps": self.snn.steps, "rest": 0, "least": 0, "attempts": 1, "stronger": 0.0}
        numbers: dict[str, Any] = {"theta_plus": 0.0, "theta_decay": 1.0, "norm": 0.0} | steps | schedule
        return Constants(
            conductance=conductance,
            gain=h / cell.tau if conductance else math.exp(-h / cell.tau),
            decay_e=math.exp(-h / inhibitory.tau_e),  # the same constant for cells and partners
            decay_i=math.exp(-h / (cell.tau_i if conductance else 1.0)),
            mean_e=mean_e,
            mean_i=mean_i,
            v_rest=cell.v_rest,
            v_reset=cell.v_reset,
            v_th=cell.v_th,
            e_exc=cell.e_exc if conductance else 0.0,
            e_inh=cell.e_inh if conductance else 0.0,
            refractory=round(cell.refractory / h),
            to_inhibitory=self.cells.to_partner,
            inhibition=self.cells.inhibition * (1.0 if conductance else -1.0),
            inh_gain=h / inhibitory.tau,
            inh_rest=inhibitory.v_rest,
            inh_reset=inhibitory.v_reset,
            inh_th=inhibitory.v_th,
            inh_e_exc=inhibitory.e_exc,
            inh_refractory=round(inhibitory.refractory / h),
            rule=rule.numbers(),
            target_down=rule.target_down,
            decay_post=rule.post.factor(h),
            **numbers,
        )

    def show(
        self, x: Tensor, seeds: np.ndarray, state: State, constants: Constants, learn: bool
    ) -> tuple[Tensor, np.ndarray]:
        """Present images x [B, C, H, W] one after the other: (spike counts int32 [B, cells], attempts int64 [B])."""
        rule, h = self.rule or STDP(), self.cells.cell.h
        encode: Any = self.snn.encode
        levels = (encode.gain * x).flatten(1).to(torch.float32).numpy()
        keys = noise.sample_keys(x).numpy()
        tables = [_table(trace.tau, h) for trace in (rule.pre, rule.post_slow)]
        counts = np.zeros((len(x), self.cells.neurons), np.int32)
        shown = np.zeros(len(x), np.int64)
        reach = (self.inputs, self.reach_start, self.reach_row)
        run: Any = present
        run(levels, keys, seeds, *reach, *tables, constants, state, learn, counts, shown)
        return torch.from_numpy(counts), shown

    def answers(self, split: Split, indices: Tensor, seed: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """(spike counts [B, cells], labels [B]) of the network as it is, from rest, as `SNN.run` gives them."""
        state, constants = self.rest(), self.constants()
        for part in indices.split(BLOCK):
            seeds = np.full(len(part), seed, np.int64)
            yield self.show(split.batch(part), seeds, state, constants, learn=False)[0], split.labels[part]


def _table(tau: float, h: float) -> np.ndarray:
    """A trace after 0, 1, ... steps, as long as there is something left of it."""
    return np.exp(-np.arange(math.ceil(-math.log(SILENT) * tau / h)) * h / tau)


@dataclass
class _Progress:
    """Where the training stands: all of it goes into a checkpoint."""

    epoch: float = 0.0  # passes at the last line of the records
    images: int = 0
    presentations: int = 0
    spikes: int = 0
    seconds: float = 0.0
    right: int = 0  # of the images since the last line
    judged: int = 0


class Learner:
    """Runs one `LearnCompeting` in a session."""

    def __init__(self, phase: LearnCompeting, session: Session):
        if not len(session.train):
            raise DataError(f"{session.data.name} has no training images: there is nothing to learn from")
        self.phase, self.session = phase, session
        self.layer = CompetingLayer(phase.snn, session.train.shape, phase.rule)
        h = self.layer.cells.cell.h
        self.constants = self.layer.constants(
            norm=phase.norm.total if phase.norm else 0.0,
            theta_plus=phase.threshold.plus,
            theta_decay=math.exp(-h / phase.threshold.tau),
            rest=-1 if math.isinf(phase.rest) else round(phase.rest / h),
            least=phase.least,
            attempts=phase.attempts,
            stronger=phase.stronger,
        )
        self.state = self.layer.rest()
        self.at = _Progress()
        classes, cells = session.data.num_classes, self.layer.cells.neurons
        self.sums = torch.zeros(classes, cells, dtype=torch.long)  # spikes on each class since the last line
        self.seen = torch.zeros(classes, dtype=torch.long)
        self.running = torch.full((cells,), -1)  # labels from the images before the last line
        self._saved = time.monotonic()

    def run(self) -> None:
        """Train to the last image, from the session's checkpoint if there is one."""
        if self.session.resumed is not None:
            self._restore(*self.session.resumed)
        size = len(self.session.train)
        total = self.phase.epochs * size
        with self.session.listening(), self._bar(total) as bar:
            task = bar.add_task("learning", total=total, now="")
            while self.at.images < total:
                epoch, begin = divmod(self.at.images, size)
                order = torch.randperm(size, generator=self._generator("order", epoch))
                self._block(epoch, begin, order[begin : begin + self._room(begin)])
                bar.update(task, completed=self.at.images, now=self._now())
                if self.at.images % self.phase.every == 0 or self.at.images == total:
                    self._line()
                self._maybe_save()
        self.layer.put(self.state)

    def _room(self, begin: int) -> int:
        """Images of a block: never past a line of the records."""
        return min(BLOCK, self.phase.every - self.at.images % self.phase.every)

    def _block(self, epoch: int, begin: int, indices: Tensor) -> None:
        started = time.monotonic()
        x, y = self.session.train.batch(indices), self.session.train.labels[indices]
        names = (self.session.seed, self.session.phase, "encode", epoch)
        seeds = np.array([mixed_seed(*names, begin + i) for i in range(len(indices))], np.int64)
        counts, shown = self.layer.show(x, seeds, self.state, self.constants, learn=True)
        at = self.at
        if (self.running >= 0).any():
            at.right += int(hits(_vote(counts, self.running, len(self.seen)), y).sum())
            at.judged += len(y)
        self.sums.index_add_(0, y, counts.long())
        self.seen += y.bincount(minlength=len(self.seen))
        at.images += len(indices)
        at.presentations += int(shown.sum())
        at.spikes += int(counts.sum())
        at.seconds += time.monotonic() - started
        self.session.ticks += 1
        if at.images >= 10 * BLOCK and at.spikes == 0:
            raise ConfigError(
                f"layer {self.layer.name!r} did not fire once on {at.images} images, each shown up to "
                f"{self.phase.attempts} times: raise the weights' sum or the intensity, or lower the threshold"
            )

    def _line(self) -> None:
        at = self.at
        mean = self.sums.double() / self.seen.clamp(min=1)[:, None]
        self.running = torch.where(self.sums.sum(0) > 0, mean.argmax(0), -1)
        at.epoch = round(at.images / len(self.session.train), 6)
        images = int(self.seen.sum())
        line: dict[str, Any] = {"phase": self.session.phase, "epoch": at.epoch, "images": at.images}
        line["running_accuracy"] = at.right / at.judged if at.judged else None
        line["spikes_per_image"] = float(self.sums.sum()) / images
        line["presentations_per_image"] = at.presentations / at.images
        line["theta"] = float(self.state.theta.mean())
        line["silent_neurons"] = int((self.running < 0).sum())
        line["images_per_second"] = round(at.images / max(at.seconds, 1e-9), 1)
        self.session.record(line)
        self.session.console.print(
            f"{at.images:,} images  {self._now()}  {line['spikes_per_image']:.1f} spikes an image  "
            f"{line['silent_neurons']} silent neurons",
            highlight=False,
            soft_wrap=True,
        )
        self.sums.zero_(), self.seen.zero_()
        at.right = at.judged = 0
        self._save()

    def _now(self) -> str:
        at = self.at
        right = f"running accuracy {100 * at.right / at.judged:.1f} %  " if at.judged else ""
        return f"{right}{at.images / max(at.seconds, 1e-9):,.0f} images/s"

    def _bar(self, total: int) -> Progress:
        shown = not self.session.console.quiet and self.session.console.is_terminal
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[now]}"))
        return Progress(
            *columns, TimeRemainingColumn(), console=self.session.console, transient=True, disable=not shown
        )

    def _generator(self, *parts: int | str) -> torch.Generator:
        return torch.Generator().manual_seed(mixed_seed(self.session.seed, self.session.phase, *parts))

    # ---- checkpoints

    def _maybe_save(self) -> None:
        late = time.monotonic() - self._saved > 60 * self.session.checkpoint_minutes
        if late or self.session.signal is not None:
            self._save()

    def _save(self) -> None:
        """Write a checkpoint; then stop, if a signal has come by now."""
        self._saved = time.monotonic()
        if self.session.folder is not None and self.session.checkpoints is not None:
            tensors = {f"state.{k}": torch.from_numpy(v) for k, v in self.state._asdict().items()}
            tensors |= {"sums": self.sums, "seen": self.seen, "running": self.running}
            progress = {"phase": self.session.phase, "progress": vars(self.at)}
            self.session.checkpoints.save(self.session.ticks, tensors, progress)
        if self.session.signal is not None:
            raise Interrupted(self.session.signal)

    def _restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        try:
            for name, array in self.state._asdict().items():
                torch.from_numpy(array).copy_(tensors[f"state.{name}"])
            self.sums, self.seen, self.running = (tensors[name].clone() for name in ("sums", "seen", "running"))
            self.at = _Progress(**state["progress"])
        except (RuntimeError, KeyError, TypeError) as error:
            raise ModelFileError(f"the checkpoint does not belong to this run: {str(error).splitlines()[0]}") from error


def _vote(counts: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Mean count over each class's neurons: counts [B, cells] -> [B, classes]; -1 for a class without any."""
    vote = LabelVote(len(labels), classes)
    vote.labels_now.copy_(labels)
    return vote(counts.double())


def loud_enough(snn: SNN, split: Split, least: int, share: float, images: int = 1000) -> Bernoulli:
    """The network's encoder, its gain raised by a quarter at a time until at most that share of the split's first
    images gets fewer than `least` spikes (or a white pixel would fire at every other step)."""
    base: Any = snn.encode
    some = torch.arange(min(images, len(split)))
    factor = 1.0
    try:
        while True:
            counts = [c for c, _ in CompetingLayer(snn, split.shape).answers(split, some)]
            quiet = float((torch.cat(counts).sum(1) < least).double().mean())
            if quiet <= share or base.gain * factor * 1.25 > 0.5:
                return Bernoulli(base.gain * factor)
            factor *= 1.25
            snn.encode = Bernoulli(base.gain * factor)
    finally:
        snn.encode = base
