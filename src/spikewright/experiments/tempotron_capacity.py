"""How many random patterns a tempotron can learn to tell apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from spikewright.data import Dataset, load
from spikewright.engine.session import mixed_seed
from spikewright.errors import ConfigError
from spikewright.experiments import Experiment, Row, experiment
from spikewright.teaching.kernels import Potential
from spikewright.teaching.tempotron import cycle, potentials


@experiment(paper="Guetig & Sompolinsky 2006")
@dataclass
class TempotronCapacity(Experiment):
    """Tempotron's capacity: cycles to learn P = load x inputs random patterns without an error, by the load.

    Every input fires once, uniformly in 500 ms; labels are random, so that counting spikes stays at chance. A pattern
    at a time in a new order each cycle, momentum at every presentation. The literature gives a capacity of about 3 for
    many inputs and long training.
    """

    axes: ClassVar[tuple[str, str]] = ("patterns per input", "sets learned, %")

    data: str = "spike-classes"
    """Data set; its number of patterns and its seed are set by the experiment."""
    loads: str = "1,1.5,2,2.5,3"
    """Patterns per input, with commas between."""
    seeds: int = 3
    """Pattern sets of each load."""
    inputs: int = 100
    """Inputs of the neuron."""
    cycles: int = 600
    """Cycles after which it is given up."""
    dt: float = 2.0
    """Length of a step, ms."""
    tau_m: float = 15.0
    """Membrane time constant, ms."""
    tau_s: float = 3.75
    """Synaptic time constant, ms."""
    lr: float = 1e-3
    """Learning rate."""
    momentum: float = 0.9
    """Momentum."""

    def rows(self, data: Dataset) -> Iterator[Row]:
        for text in self.loads.split(","):
            try:
                load_ = float(text)
            except ValueError:
                raise ConfigError(f"--loads is {self.loads!r}, expected numbers with commas, like 1,1.5,2") from None
            found = [self.learn(load_, seed) for seed in range(self.seed, self.seed + self.seeds)]
            done = [cycles for cycles, errors in found if errors == 0]
            left = [errors for _, errors in found if errors]
            self.curves.setdefault("converged", []).append([load_, 100 * len(done) / len(found)])
            notes = [f"cycles {', '.join(map(str, done))}"] if done else []
            notes += [f"best error {', '.join(f'{100 * e:.1f} %' for e in left)}"] if left else []
            yield Row(f"load {load_:g}: converged", None, 100 * len(done) / len(found), "%", "; ".join(notes))

    def learn(self, load_: float, seed: int) -> tuple[int, float]:
        """(cycles taken, error of the best cycle: 0 if it converged) on one set of patterns."""
        patterns = max(1, round(load_ * self.inputs))
        data = load(f"spike-classes:inputs={self.inputs},patterns={patterns},seed={seed},copies=1")
        duration = data.test.duration or 0.0
        split = data.with_steps(max(1, round(duration / self.dt))).test
        psp = potentials(
            split.batch(torch.arange(patterns)).flatten(2), Potential(self.tau_m / self.dt, self.tau_s / self.dt)
        )
        source = np.random.RandomState(mixed_seed(self.seed, "tempotron", seed) % 2**32)
        w, velocity = source.normal(0, 0.01, self.inputs).astype(np.float32), np.zeros(self.inputs, np.float32)
        labels, best, done = split.labels.numpy() == 1, patterns, 0
        while best and done < self.cycles:
            order = source.permutation(patterns)
            errors = cycle(psp, labels, order, w, velocity, np.float32(self.lr), np.float32(self.momentum), 1.0)
            best, done = min(best, errors), done + 1
        return done, best / patterns
