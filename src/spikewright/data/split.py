"""One part of a data set, train or test: labels at hand, samples made batch by batch."""

from __future__ import annotations

import abc

import torch
from torch import Tensor

SHARE = 0.25  # of a GPU's free memory that images may take


class Split(abc.ABC):
    """One part of a data set.

    Attributes:
        labels: int64 `[N]`.
        shape: one sample as `batch` gives it: `(C, H, W)` for images, `(T, C, H, W)` for events in T frames.
        duration: of one sample of a set whose time has a unit, ms; None elsewhere.
        trains: the spike times that each class asks of an output neuron, ms; none where classes are plain classes.
    """

    duration: float | None = None
    trains: tuple[tuple[float, ...], ...] = ()

    labels: Tensor
    shape: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self):,} samples of {'x'.join(map(str, self.shape))})"

    @abc.abstractmethod
    def batch(self, indices: Tensor) -> Tensor:
        """The samples at `indices` (int64 `[B]`): float32 `[B, *shape]`, images in 0..1, event frames as counts."""

    @abc.abstractmethod
    def subset(self, indices: Tensor) -> Split:
        """The samples at `indices` (int64 `[M]`), in that order; storage is shared where it can be."""

    def with_steps(self, steps: int) -> Split:
        """Events binned into that many frames; a split without time is returned as it is."""
        return self

    def to(self, device: torch.device) -> Split:
        """For batches made on a GPU: the split with its samples there, if they are in memory and fit; else itself."""
        return self

    def moments(self, at_most: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each channel, see `moments`."""
        return moments(self, at_most)


class TensorSplit(Split):
    """Images in memory.

    Args:
        images: `[N, C, H, W]`, uint8 (scaled to 0..1 when a batch is made) or float32 in 0..1.
        labels: int64 `[N]`.
    """

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.images = images
        self.labels = labels
        self.shape = tuple(images.shape[1:])

    def batch(self, indices: Tensor) -> Tensor:
        chosen = self.images[indices]
        return chosen.float().div_(255) if chosen.dtype == torch.uint8 else chosen

    def to(self, device: torch.device) -> TensorSplit:
        if device.type == "cuda" and self.images.nbytes > SHARE * torch.cuda.mem_get_info(device)[0]:
            return self
        return TensorSplit(self.images.to(device), self.labels.to(device))

    def subset(self, indices: Tensor) -> TensorSplit:
        return TensorSplit(self.images[indices], self.labels[indices])


def moments(split: Split, at_most: int | None = None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, over all samples or over `at_most` of them, drawn with a fixed seed.

    Drawn and not evenly spaced: every tenth image of MNIST is 6 % darker than the average, so periodic is its order.

    A channel that never changes gets the deviation 1, so that dividing by it is safe.
    """
    count = len(split) if at_most is None else min(at_most, len(split))
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:count]
    total = squares = torch.zeros(split.shape[-3], dtype=torch.float64)
    values = 0
    for indices in chosen.split(256):
        batch = split.batch(indices)
        planes = batch.reshape(-1, *split.shape[-3:]).double()  # [B (T), C, H, W]
        total = total + planes.sum((0, 2, 3))
        squares = squares + planes.square().sum((0, 2, 3))
        values += planes[:, 0].numel()
    mean = total / values
    std = (squares / values - mean.square()).clamp_min(0).sqrt()
    std[std < 1e-6] = 1.0
    return tuple(mean.tolist()), tuple(std.tolist())
