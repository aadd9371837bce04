"""What a training run works with: data, seed, device, run folder, and what to do when somebody presses Ctrl-C."""

from __future__ import annotations

import hashlib
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rich.console import Console

from spikewright.data import Dataset, Split
from spikewright.errors import ConfigError
from spikewright.kernels.memory import keep_memory
from spikewright.precision import resolved
from spikewright.storage import Checkpoints, RunFolder

__all__ = ["Interrupted", "Session", "isolated_randomness", "mixed_seed"]

MEMORY = ("normal", "low")
DEVICES = ("auto", "cpu", "cuda")


class Interrupted(BaseException):
    """A signal arrived and the run was saved; the exit code is 128 + signal."""

    def __init__(self, number: int):
        super().__init__(f"interrupted by {signal.Signals(number).name}")
        self.number = number


@dataclass
class Session:
    """One run of a plan.

    Args:
        data: the data set; the test part is not touched while training.
        seed: everything random in the run is a function of it.
        validation: fraction of the training set held out for choices, 0 for none.
        device: "auto" (a GPU if there is one), "cpu" or "cuda".
        precision: "float32", "bf16" (mixed: matrix products in bfloat16, membranes in float32) or "auto" (bf16 where
            the device multiplies it in hardware, float32 elsewhere).
        memory: "normal", or "low": the backward pass computes activations again instead of keeping them.
        path: the run's folder, from which every process reads; None keeps nothing.
        folder: the same, locked, in the one process that writes.
        checkpoint_minutes: at most so much work is lost in a power cut.
    """

    data: Dataset
    seed: int = 0
    validation: float = 0.1
    device: str = "auto"
    precision: str = "auto"
    memory: str = "normal"
    path: Path | None = None
    folder: RunFolder | None = None
    progress: bool = True
    checkpoint_minutes: float = 2.0
    phase: int = 0
    ticks: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)
    resumed: tuple[dict[str, torch.Tensor], dict[str, Any]] | None = None
    signal: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.validation < 1:
            raise ConfigError(
                f"validation is {self.validation}, expected a fraction of the training set from 0 to below 1"
            )
        if not self.checkpoint_minutes >= 0:
            raise ConfigError(f"checkpoint_minutes is {self.checkpoint_minutes}, expected minutes, at least 0")
        if self.memory not in MEMORY:
            raise ConfigError(f"memory is {self.memory!r}, expected one of {', '.join(MEMORY)}")
        keep_memory()
        self.accelerator = self._accelerator()
        self.console = Console(stderr=True, quiet=not (self.progress and self.accelerator.is_main_process))
        self.train, self.valid = self._split()

    def _accelerator(self) -> Accelerator:
        AcceleratorState._reset_state()  # accelerate keeps the first precision of a process for ever otherwise
        if self.device not in DEVICES:
            raise ConfigError(f"device is {self.device!r}, expected one of {', '.join(DEVICES)}")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device is 'cuda', but torch sees no GPU here: use --device cpu")
        on_gpu = self.device != "cpu" and torch.cuda.is_available()
        self.precision = resolved(self.precision, torch.device("cuda" if on_gpu else "cpu"))
        return Accelerator(cpu=not on_gpu, mixed_precision="bf16" if self.precision == "bf16" else "no")

    def _split(self) -> tuple[Split, Split | None]:
        train = self.data.train
        held = min(round(len(train) * self.validation), len(train) - 1)
        if held == 0:
            return train, None
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, "validation"))
        order = torch.randperm(len(train), generator=generator)
        return train.subset(order[held:].sort().values), train.subset(order[:held].sort().values)

    @property
    def checkpoints(self) -> Checkpoints | None:
        """Where the training stands, on disk."""
        return None if self.path is None else Checkpoints(self.path / "checkpoint")

    def record(self, line: dict[str, Any]) -> None:
        """Add one line to `records` and to metrics.jsonl."""
        self.records.append(line)
        if self.folder is not None:
            self.folder.append_line("metrics.jsonl", line)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turn SIGINT, SIGTERM and SIGHUP into a note in `signal`, where there is a folder to save into."""
        if self.path is None or threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: FrameType | None) -> None:
            self.signal = number

        numbers = [signal.SIGINT, signal.SIGTERM] + ([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])
        before = {n: signal.signal(n, note) for n in numbers}
        try:
            yield
        finally:
            for n, handler in before.items():
                signal.signal(n, handler)


def mixed_seed(*parts: int | str) -> int:
    """One 62-bit seed from several numbers and names, the same in every process and on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 2


@contextmanager
def isolated_randomness() -> Iterator[None]:
    """The global generators of torch, numpy and Python are afterwards as they were before."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def seed_all(seed: int) -> None:
    """Seed the global generators: dropout, and whatever a user's module draws."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
