"""Generated spike patterns for methods that learn precise times, a pure function of a seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spikewright.data.dataset import Dataset
from spikewright.data.split import Split
from spikewright.errors import ConfigError, positive, whole

__all__ = ["PatternSplit", "spike_classes", "spike_patterns"]

Trains = tuple[tuple[float, ...], ...]
FROZEN = "the test patterns are the training patterns: what is measured is memory"


class PatternSplit(Split):
    """Spike patterns over `inputs` channels, binned into frames `[T, 1, 1, inputs]` as batches are made.

    Args:
        patterns: of each pattern the spikes' times in ms, ascending, and their channels.
        rows: int64 `[N]`, the pattern of each sample.
        classes: int64 `[patterns]`, the class of each pattern.
        inputs: channels.
        duration: of a pattern, ms; `steps` frames cover it.
        trains: the spike train asked for by each class, ms; empty for plain classes.
    """

    duration: float

    def __init__(
        self,
        patterns: list[tuple[np.ndarray, np.ndarray]],
        rows: Tensor,
        classes: Tensor,
        *,
        inputs: int,
        duration: float,
        trains: Trains = (),
        steps: int = 100,
    ) -> None:
        whole("", "steps", steps, 1, 100_000)
        self.patterns, self.rows, self.classes = patterns, rows, classes
        self.inputs, self.duration, self.trains, self.steps = inputs, duration, trains, steps
        self.labels = classes[rows]
        self.shape = (steps, 1, 1, inputs)

    def batch(self, indices: Tensor) -> Tensor:
        frames = torch.zeros(len(indices), self.steps, self.inputs)
        for frame, row in zip(frames, self.rows[indices].tolist(), strict=True):
            frame.view(-1).index_add_(0, *self._cells(row))
        return frames.unflatten(2, (1, 1, -1))

    def _cells(self, pattern: int) -> tuple[Tensor, Tensor]:
        """Cells of a flat frame sequence that spikes fall into, and a one for each spike."""
        times, channels = self.patterns[pattern]
        step = np.minimum((times * (self.steps / self.duration)).astype(np.int64), self.steps - 1)
        return torch.from_numpy(step * self.inputs + channels), torch.ones(len(times))

    def subset(self, indices: Tensor) -> PatternSplit:
        return self._view(self.rows[indices], self.steps)

    def with_steps(self, steps: int) -> PatternSplit:
        return self._view(self.rows, steps)

    def moments(self, at_most: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of all cells, counted from the spikes."""
        total = squares = 0.0
        for row in self.rows.tolist():
            counts = self._cells(row)[0].unique(return_counts=True)[1].double()
            total, squares = total + float(counts.sum()), squares + float(counts.square().sum())
        cells = len(self.rows) * self.steps * self.inputs
        deviation = (squares / cells - (total / cells) ** 2) ** 0.5
        return (total / cells,), (deviation or 1.0,)

    def _view(self, rows: Tensor, steps: int) -> PatternSplit:
        return PatternSplit(
            self.patterns, rows, self.classes,
            inputs=self.inputs, duration=self.duration, trains=self.trains, steps=steps,
        )  # fmt: skip


@dataclass(frozen=True)
class _Numbers:
    """Checks of what a caller chose; a field out of range is one line."""

    name: str

    def whole(self, **values: int) -> None:
        for key, value in values.items():
            whole(self.name, key, value, 0 if key == "seed" else 1)

    def positive(self, **values: float) -> None:
        for key, value in values.items():
            positive(self.name, key, value)


def spike_patterns(
    data_dir: object = None,
    *,
    seed: int = 0,
    patterns: int = 1,
    classes: int = 0,
    inputs: int = 400,
    rate: float = 5.0,
    duration: float = 400.0,
    spikes: int = 5,
    gap: float = 15.0,
    copies: int = 20,
) -> Dataset:
    """Frozen Poisson patterns, each of which asks for a spike train.

    Args:
        seed: the patterns and trains are a function of it.
        patterns: how many; they take turns among the classes.
        classes: 0 gives every pattern a train of its own.
        inputs, rate, duration: Poisson trains of `rate` Hz on so many channels, for `duration` ms.
        spikes: of each target train, uniform in 10 % .. 98.75 % of the duration with at least `gap` ms between them.
        copies: how often a pattern stands in the training set, so that a few may be held out to choose the epoch.
    """
    check = _Numbers("spike-patterns")
    check.whole(seed=seed, patterns=patterns, inputs=inputs, spikes=spikes, copies=copies)
    check.positive(rate=rate, duration=duration, gap=gap)
    kinds = classes or patterns
    check.whole(classes=kinds)
    first, last = 0.1 * duration, 0.9875 * duration
    room = last - first - gap * (spikes - 1)
    if room <= 0:
        raise ConfigError(f"spike-patterns: {spikes} spikes {gap:g} ms apart do not fit into {duration:g} ms")
    source = np.random.RandomState(seed % 2**32)  # the one stream NumPy promises never to change
    made = []
    for _ in range(patterns):
        counts = source.poisson(rate * duration / 1000, inputs)
        times = source.uniform(0, duration, counts.sum())
        order = np.argsort(times, kind="stable")
        made.append((times[order], np.repeat(np.arange(inputs), counts)[order]))
    trains = tuple(
        tuple((first + np.sort(source.uniform(0, room, spikes)) + gap * np.arange(spikes)).tolist())
        for _ in range(kinds)
    )
    return _dataset("spike-patterns", made, torch.arange(patterns) % kinds, kinds, inputs, duration, trains, copies)


def spike_classes(
    data_dir: object = None,
    *,
    seed: int = 0,
    patterns: int = 100,
    inputs: int = 100,
    window: float = 500.0,
    tail: float = 45.0,
    copies: int = 20,
) -> Dataset:
    """Patterns of one spike a channel, uniform in time, with random labels 0 and 1 (Guetig & Sompolinsky 2006).

    The load is patterns / inputs. Counts of spikes tell nothing: all are 1.

    Args:
        window, tail: spikes fall into the first `window` ms; `tail` ms follow for the last potentials to peak.
        The others as in `spike_patterns`.
    """
    check = _Numbers("spike-classes")
    check.whole(seed=seed, patterns=patterns, inputs=inputs, copies=copies)
    check.positive(window=window, tail=tail)
    source = np.random.RandomState(seed % 2**32)
    made = []
    for _ in range(patterns):
        times = source.uniform(0, window, inputs)
        order = np.argsort(times, kind="stable")
        made.append((times[order], order))
    labels = torch.from_numpy(source.randint(0, 2, patterns))
    return _dataset("spike-classes", made, labels, 2, inputs, window + tail, (), copies)


def _dataset(
    name: str,
    patterns: list[tuple[np.ndarray, np.ndarray]],
    classes: Tensor,
    kinds: int,
    inputs: int,
    duration: float,
    trains: Trains,
    copies: int,
) -> Dataset:
    rows = torch.arange(len(patterns))
    train, test = (
        PatternSplit(patterns, r, classes, inputs=inputs, duration=duration, trains=trains)
        for r in (rows.repeat(copies), rows)
    )
    content = hashlib.sha256(repr((classes.tolist(), inputs, duration, trains, copies)).encode())
    for times, channels in patterns:
        content.update(np.ascontiguousarray(times, "<f8").tobytes() + np.ascontiguousarray(channels, "<i8").tobytes())
    mean, std = test.moments()
    return Dataset(name, train, test, tuple(map(str, range(kinds))), mean, std, content.hexdigest(), FROZEN)
