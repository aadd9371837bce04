"""The data a conversion looks at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.clock import Clock
from spikewright.data import Dataset, Split
from spikewright.data.split import TensorSplit
from spikewright.encode import Encoder
from spikewright.errors import DataError, whole
from spikewright.passage import passage

__all__ = ["Calibration", "blocks"]


@dataclass(frozen=True)
class Calibration:
    """Samples, in evaluation form (no augmentation), batch by batch.

    Args:
        split: where they come from.
        labelled: whether the labels mean something.
        like: a tensor of the device and dtype they are wanted in.
        batch: samples at a time.
    """

    split: Split
    labelled: bool
    like: Tensor
    batch: int = 100

    @classmethod
    def of(cls, source: Any, model: nn.Module, samples: int = 1000, batch: int = 100, seed: int = 0) -> Calibration:
        """From a data set (its training part), a split, a tensor [N, ...], or a pair (tensor, labels [N]).

        Takes the first `samples` of a shuffle by `seed`. Raises DataError when there are none, or it is none of these.
        """
        labelled = True
        match source:
            case Dataset():
                split: Split = source.train
            case Split():
                split = source
            case Tensor() if source.dim() > 1 and (source.is_floating_point() or source.dtype == torch.uint8):
                split, labelled = TensorSplit(source, torch.zeros(len(source), dtype=torch.long)), False
            case (Tensor() as x, Tensor() as y) if len(x) == len(y):
                split = TensorSplit(x, y)
            case _:
                raise DataError(
                    f"calibrate_on is a {type(source).__name__}, expected a data set, a split, a tensor [N, ...] of "
                    "inputs, or a pair (inputs, labels)"
                )
        whole("", "samples", samples)
        if not len(split):
            raise DataError("the calibration data are empty: give at least one sample")
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[:samples]
        like = next((p.detach() for p in model.parameters() if p.is_floating_point()), torch.empty(0))
        return cls(split.subset(order), labelled, like[:0] if like.dim() else like, batch)

    def __len__(self) -> int:
        return len(self.split)

    @property
    def labels(self) -> Tensor:
        """int64 [N]."""
        return self.split.labels

    def __iter__(self) -> Iterator[Tensor]:
        for part in torch.arange(len(self.split)).split(self.batch):
            yield self.split.batch(part).to(self.like.device, self.like.dtype)

    def first(self, samples: int) -> Calibration:
        """The first so many of them."""
        few = self.split.subset(torch.arange(min(samples, len(self.split))))
        return Calibration(few, self.labelled, self.like, self.batch)


@torch.no_grad()
def blocks(body: nn.Module, encode: Encoder, x: Tensor, steps: int, seed: int = 0, chunk: int = 16) -> Iterator[Tensor]:
    """What a spiking body of any output hands on, a block of steps at a time: x [B, ...] -> [chunk, B, ...] each."""
    state = None
    for start in range(0, steps, chunk):
        stop = min(start + chunk, steps)
        current = encode.run(x, start, stop, steps, seed)
        with Clock(stop - start, state, body) as clock:
            out = passage(body, current, clock)
        clock.check()
        yield out.unflatten(0, (stop - start, current.shape[1]))
        state = clock.left
