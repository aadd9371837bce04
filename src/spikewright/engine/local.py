"""The loop of local learning: one layer of a first-spike network, one sample after the other, no gradients.

What the frozen layers in front hand on is computed once and kept as events if it fits, or else a block ahead on another
thread while this one learns. Everything random is a function of (seed, phase, epoch), so a checkpoint holds weights and
counters only, and a run that is stopped anywhere goes on bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from spikewright.engine.session import Interrupted, Session, mixed_seed
from spikewright.errors import ConfigError, DataError, ModelFileError
from spikewright.plasticity import loops
from spikewright.plasticity.first_spike import Cascade, Events
from spikewright.plasticity.rules import Order

if TYPE_CHECKING:
    from spikewright.phases import Local

__all__ = ["LocalTrainer", "cascade_of"]

BLOCK = 1000  # images between two looks at the clock: a checkpoint can be written after each
ENOUGH = 1000  # images after which a layer that has not fired is called silent
KEPT_BYTES = 6e9  # events of frozen layers kept in memory at most


@dataclass
class _Progress:
    """Where the learning stands: all of it goes into a checkpoint."""

    epoch: int = 0  # finished passes
    done: int = 0  # images of this pass
    seen: int = 0  # of all passes
    winners: int = 0  # in this pass; by reward: answers
    right: int = 0
    reward: float = 1.0  # what multiplies the rates of reward and punishment
    punish: float = 1.0
    seconds: float = 0.0
    total_seconds: float = 0.0


def cascade_of(session: Session, snn: Any) -> Cascade:
    """The layers of `snn` for the session's images; DataError when there are none to learn from."""
    if not len(session.train):
        raise DataError("there are no training images, expected at least 1: check the data set's subset or --limit")
    if session.data.frames is not None:
        raise DataError("local learning by first spikes takes still images, found recordings in frames")
    return Cascade.of(snn, session.train.batch(torch.arange(1)))


class _Source:
    """What the frozen layers hand on, block by block."""

    def __init__(self, cascade: Cascade, session: Session, phase: Local, upto: int, keep: bool):
        self.cascade, self.session, self.phase, self.upto = cascade, session, phase, upto
        self.pool = ThreadPoolExecutor(1)
        self.kept = self._kept() if keep else None

    def blocks(self, order: Tensor) -> Iterator[tuple[Events, Any]]:
        """(events, which of them are the samples of this block) for `order` in blocks."""
        parts = list(order.split(BLOCK))
        if self.kept is not None:
            yield from ((self.kept, part.numpy()) for part in parts)
            return
        coming = self.pool.submit(self._made, parts[0]) if parts else None
        for following in [*parts[1:], None]:
            made = coming.result()  # type: ignore[union-attr]
            coming = None if following is None else self.pool.submit(self._made, following)
            yield made, np.arange(len(made))

    def close(self) -> None:
        """End the thread."""
        self.pool.shutdown(cancel_futures=True)

    def _made(self, indices: Tensor) -> Events:
        phase = self.phase
        return self.cascade.events(self.session.train.batch(indices), self.upto, phase.inhibit_input, phase.timeless)

    def _kept(self) -> Events | None:
        """All samples' events, None if they would not fit."""
        parts: list[Events] = []
        every = torch.arange(len(self.session.train)).split(BLOCK)
        for n, indices in enumerate(every):
            parts.append(self._made(indices))
            if sum(p.bytes for p in parts) / (n + 1) * len(every) > KEPT_BYTES:
                return None
        return Events.joined(parts)


class LocalTrainer:
    """Runs one phase of local learning in a session; afterwards the layer's module has the weights."""

    def __init__(self, phase: Local, session: Session):
        self.phase, self.session = phase, session
        self.cascade = cascade_of(session, phase.snn)
        self.number = self.cascade.index(phase.layer)
        self.layer = self.cascade.layers[self.number]
        self.at = _Progress()
        self._saved = time.monotonic()

    def run(self) -> None:
        """Learn to the last pass, from the session's checkpoint if there is one."""
        if self.session.resumed is not None:
            self._restore(*self.session.resumed)
        self.w = self.layer.weights()
        for rule in self.phase.rules:
            rule.bounds.check(self.phase.layer, self.w)
        started = time.monotonic()
        with self.session.listening(), _bar(self.session, self.phase.layer) as tell:
            several = self.phase.epochs - self.at.epoch > 1
            source = _Source(self.cascade, self.session, self.phase, self.number, several)
            self.at.total_seconds += time.monotonic() - started
            try:
                for epoch in range(self.at.epoch, self.phase.epochs):
                    self._epoch(epoch, source, tell)
            finally:
                source.close()

    def _epoch(self, epoch: int, source: _Source, tell: Callable[..., None]) -> None:
        generator = torch.Generator().manual_seed(mixed_seed(self.session.seed, self.session.phase, "order", epoch))
        order = torch.randperm(len(self.session.train), generator=generator)
        labels = self.session.train.labels[order].numpy()
        started = time.monotonic()
        for events, which in source.blocks(order[self.at.done :]):
            self.phase.block(self, events, which, labels[self.at.done : self.at.done + len(which)])
            self.at.done += len(which)
            self.at.seen += len(which)
            now = time.monotonic()
            self.at.seconds, self.at.total_seconds, started = (
                self.at.seconds + now - started,
                self.at.total_seconds + now - started,
                now,
            )
            self.session.ticks += 1
            tell(self.at, len(order), self.phase.epochs)
            if self.at.done >= min(ENOUGH, len(order)) and not self.at.winners:
                raise ConfigError(
                    f"layer {self.phase.layer!r} did not fire once on {self.at.done:,} training images: lower its "
                    "neurons' v_th, or raise its initial weights"
                )
            self._maybe_save()
        self._finish_epoch(epoch)

    def _finish_epoch(self, epoch: int) -> None:
        self.layer.put(self.w)
        at, bounds = self.at, self.phase.rules[0].bounds
        w = (self.w - bounds.low) / (bounds.high - bounds.low)
        line: dict[str, Any] = {
            "phase": self.session.phase,
            "epoch": epoch + 1,
            "layer": self.phase.layer,
            **self.phase.figures(at),
            "convergence": float((w * (1 - w)).mean()),
            "seconds": round(at.seconds, 3),
            "images_per_second": round(at.done / max(at.seconds, 1e-9), 1),
        }
        self.session.record(line)
        told = "  ".join(f"{k} {v:.4g}" for k, v in line.items() if isinstance(v, float))
        where = f"{self.phase.layer} pass {epoch + 1}/{self.phase.epochs}"
        self.session.console.print(f"{where}  {told}", highlight=False, soft_wrap=True)
        at.epoch, at.done, at.winners, at.right, at.seconds = epoch + 1, 0, 0, 0, 0.0
        self._maybe_save()

    # ---- checkpoints

    def _maybe_save(self) -> None:
        late = time.monotonic() - self._saved > 60 * self.session.checkpoint_minutes
        if not late and self.session.signal is None:
            return
        self._saved = time.monotonic()
        self.layer.put(self.w)
        if self.session.folder is not None and self.session.checkpoints is not None:
            tensors = {f"model.{k}": v for k, v in self.phase.snn.state_dict().items()}
            state = {"phase": self.session.phase, "progress": vars(self.at)}
            self.session.checkpoints.save(self.session.ticks, tensors, state)
        if self.session.signal is not None:
            raise Interrupted(self.session.signal)

    def _restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        try:
            self.phase.snn.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items()})
            self.at = _Progress(**state["progress"])
        except (RuntimeError, KeyError, TypeError) as error:
            raise ModelFileError(f"the checkpoint does not belong to this run: {str(error).splitlines()[0]}") from error

    # ---- what phases do with a block

    def compete(self, events: Events, which: Any, k: int, radius: int, rule: Order, rates: Any) -> None:
        """Winners learn by the order rule."""
        found = np.empty((len(which), k, 4), np.int64)
        g, layer = self.layer.geometry_arguments, self.layer
        loops.learn(*events, which, self.w, *g, layer.threshold, k, radius, _numbers(rule), rates, found)
        self.at.winners += int((found[:, :, 3] >= 0).sum())

    def decide(
        self, events: Events, which: Any, labels: Any, per_class: int, rules: tuple[Order, Order]
    ) -> tuple[int, int]:
        """The strongest neuron answers and learns by the first rule if right, by the second if wrong: how many were."""
        rates = (self.at.reward, self.at.punish)
        reward, punish = (_numbers(rule) for rule in rules)
        g = self.layer.geometry_arguments
        right, wrong = loops.learn_by_reward(*events, which, labels, per_class, self.w, *g, reward, punish, rates)
        self.at.right += right
        self.at.winners += right + wrong
        return right, wrong


def _numbers(rule: Order) -> tuple[float, float, int, float, float, float]:
    """An order rule as the loops take it."""
    return (
        float(rule.ltp),
        float(rule.ltd),
        rule.weight.code,
        float(rule.weight.p),
        float(rule.bounds.low),
        float(rule.bounds.high),
    )


class _bar:
    """A progress bar on standard error, on a terminal only: layer, pass, images/s, time left."""

    def __init__(self, session: Session, layer: str):
        self.layer = layer
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[now]}"),
            TimeRemainingColumn(),
        )
        shown = not session.console.quiet and session.console.is_terminal
        self.bar = Progress(*columns, console=session.console, transient=True, disable=not shown)

    def __enter__(self) -> Callable[..., None]:
        self.bar.start()
        self.task = self.bar.add_task(self.layer, total=None, now="")
        return self.tell

    def tell(self, at: _Progress, images: int, epochs: int) -> None:
        """Show where it stands."""
        now = f"{at.done / max(at.seconds, 1e-9):,.0f} images/s  eta"
        done = at.epoch * images + at.done
        what = f"{self.layer} pass {at.epoch + 1}/{epochs}"
        self.bar.update(self.task, completed=done, total=images * epochs, description=what, now=now)

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
