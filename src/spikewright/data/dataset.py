"""A data set: two splits and what is known about them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from spikewright.data import validate
from spikewright.data.split import Split, TensorSplit, moments
from spikewright.errors import DataError, whole

SAMPLE = 512  # samples enough for the moments of a split that is costly to read


@dataclass(frozen=True)
class Dataset:
    """Train and test split of one data set.

    Attributes:
        mean, std: of each channel of the training pixels, on the scale `batch` gives.
        checksum: SHA-256 that identifies exactly what was loaded; a run records it and compares it when it resumes.
            The number of frames of event data is a setting, not content: it does not enter.
        note: what differs from the set its name promises, for example a subset; empty if nothing.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    checksum: str
    note: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)` of one image or frame."""
        channels, height, width = self.train.shape[-3:]
        return channels, height, width

    @property
    def frames(self) -> int | None:
        """Frames of one recording, None for still images."""
        return self.train.shape[0] if len(self.train.shape) == 4 else None

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.classes)

    def limited(self, n: int, seed: int = 0, part: Literal["train", "test"] = "train") -> Dataset:
        """The first `n` samples of the training set (or the test set) shuffled by `seed`; the other is untouched.

        `mean` and `std` stay those of the whole training set. With `n` as large as the set, nothing changes.
        Raises ConfigError: `n` is no whole number above 0.
        """
        whole("", "limit" if part == "train" else "test_limit", n)
        split: Split = getattr(self, part)
        if n >= len(split):
            return self
        order = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))
        note = f"{n:,} of {len(split):,} {'training' if part == 'train' else 'test'} samples"
        return replace(
            self,
            **{part: split.subset(order[:n])},  # type: ignore[arg-type]
            checksum=digest((self.checksum, f"first {n} of shuffle {seed}{'' if part == 'train' else ' of the test'}")),
            note=f"{self.note}; {note}" if self.note else note,
        )

    def with_steps(self, steps: int) -> Dataset:
        """Event data binned into `steps` frames, with the mean and deviation of those; images as they are.

        Raises ConfigError: `steps` below 1.
        """
        train = self.train.with_steps(steps)
        if train is self.train:
            return self
        mean, std = train.moments(SAMPLE)
        return replace(self, train=train, test=self.test.with_steps(steps), mean=mean, std=std)

    @classmethod
    def from_tensors(
        cls,
        name: str,
        train_x: Tensor | np.ndarray,
        train_y: Tensor | np.ndarray,
        test_x: Tensor | np.ndarray,
        test_y: Tensor | np.ndarray,
        classes: Sequence[str] | None = None,
    ) -> Dataset:
        """A user's own images; the arrays are checked once, here, and not copied where that is possible.

        Args:
            train_x, test_x: `[N, C, H, W]`, uint8 or float in 0..1.
            train_y, test_y: whole numbers `[N]` from 0 to K - 1.
            classes: K names; without them K is the largest training label + 1 and the names are the numbers.

        Raises DataError: shape, dtype, pixel or label values that do not fit, NaN or infinity, an empty split.
        """
        train_x, test_x = validate.images("train_x", train_x), validate.images("test_x", test_x)
        if train_x.shape[1:] != test_x.shape[1:]:
            raise DataError(
                f"test_x has samples of shape {tuple(test_x.shape[1:])}, expected {tuple(train_x.shape[1:])} as in "
                "train_x; resize one of them"
            )
        known = None if classes is None else len(classes)
        train_y = validate.labels("train_y", train_y, len(train_x), known)
        count = int(train_y.max()) + 1 if known is None else known
        test_y = validate.labels("test_y", test_y, len(test_x), count)
        names = validate.class_names([str(k) for k in range(count)] if classes is None else classes)
        train, test = TensorSplit(train_x, train_y), TensorSplit(test_x, test_y)
        mean, std = moments(train)
        content = [f"{t.dtype} {tuple(t.shape)} {tensor_sha256(t)}" for t in (train_x, train_y, test_x, test_y)]
        return cls(validate.printable("name", name), train, test, names, mean, std, digest(content))


def digest(lines: Sequence[str]) -> str:
    """SHA-256 of the lines, in their order."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def tensor_sha256(tensor: Tensor) -> str:
    """SHA-256 of a dense tensor's bytes."""
    return hashlib.sha256(tensor.detach().cpu().contiguous().numpy().data).hexdigest()
