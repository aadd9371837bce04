"""What a training would take of memory, told from a few samples before it begins."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from spikewright.engine.session import Session, isolated_randomness
from spikewright.engine.trainer import Trainer
from spikewright.errors import ConfigError
from spikewright.measure.memory import allocations, resident_bytes

if TYPE_CHECKING:
    from spikewright.phases import Fit

__all__ = ["Forecast", "forecast"]

FEW = (4, 8)  # samples tried; the rest is a straight line
SCRATCH = 1.4  # on a CPU, for what the allocator cannot hand out again and convolutions use inside: 1.3 to 1.8 measured


@dataclass(frozen=True)
class Forecast:
    """Bytes a training step takes.

    Attributes:
        steps: T asked for.
        batch: samples a step.
        present: what the process holds already: Python, torch, the data; 0 on a GPU, whose memory is its own.
        peak: (T, "normal" or "low") -> bytes above `present` at the worst moment of a step; None where it cannot run.
    """

    steps: int
    batch: int
    present: int
    peak: dict[tuple[int, str], int | None]

    def total(self, steps: int, memory: str) -> int | None:
        """Bytes of the process (or the GPU) while it trains."""
        peak = self.peak[steps, memory]
        return None if peak is None else self.present + peak


def forecast(fit: Fit, session: Session) -> Forecast:
    """Try a few samples at T/2, T and 2T, keeping activations and computing them again; nothing is trained."""
    steps, device = fit.steps or fit.snn.steps, session.accelerator.device
    with isolated_randomness():
        fit = copy.deepcopy(fit)
        peaks: dict[tuple[int, str], int | None] = {}
        for memory in ("normal", "low"):
            for t in sorted({max(1, steps // 2), steps, 2 * steps}):
                try:
                    peaks[t, memory] = _line(fit, session, t, memory)
                except ConfigError:
                    if (t, memory) == (steps, session.memory):
                        raise
                    peaks[t, memory] = None
    present = 0 if device.type == "cuda" else resident_bytes() or 0
    return Forecast(steps, fit.batch, present, peaks)


def _line(fit: Fit, session: Session, steps: int, memory: str) -> int:
    """Bytes for a whole batch, from two small ones."""
    data = session.data.with_steps(steps)
    samples = [min(n, fit.batch, len(data.train)) for n in FEW]
    fit.steps = steps
    trainer = Trainer(fit, session, memory=memory)
    trainer.model.train()
    peaks = []
    for i, n in enumerate([samples[0], *samples]):  # the first only compiles kernels and makes the optimiser's moments
        x, y = data.train.batch(torch.arange(n)).to(trainer.device), data.train.labels[:n].to(trainer.device)
        with allocations(trainer.device) as peak:
            loss, _ = trainer.model(x, y, torch.Generator().manual_seed(0))
            trainer.accelerator.backward(loss)
        if i == 0:
            trainer.optimizer.step()
        trainer.optimizer.zero_grad(set_to_none=True)
        peaks.append(peak.bytes)
    state = [t for values in trainer.optimizer.state_dict()["state"].values() for t in values.values()]
    held = sum(t.numel() * t.element_size() for t in state if isinstance(t, torch.Tensor))
    slope = (peaks[2] - peaks[1]) / max(1, samples[1] - samples[0])
    margin = 1.0 if trainer.device.type == "cuda" else SCRATCH
    return round(held + margin * (peaks[2] + slope * (fit.batch - samples[1])))
