"""Random changes of a batch of training images, drawn from a generator that is handed in."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from spikewright.data.autoaugment import autoaugment
from spikewright.errors import ConfigError


@dataclass(frozen=True)
class Augment:
    """Random crop after zero padding, then a horizontal flip with probability 1/2, then AutoAugment's policy for
    CIFAR-10 (Cubuk et al. 2019), then a square cut out (DeVries & Taylor 2017), drawn for each sample.

    All frames and channels of one sample move together.

    Args:
        crop: zeros added on each of the four sides, in pixels, before a crop back to the old size; 0 for none.
        flip: mirror left and right.
        cutout: side of the square, whose centre may be any pixel, so that a part of it may lie outside; 0 for none.
        fill: what is left there and where AutoAugment moves an image away, one value a channel; 0 without.
        autoaugment: change colours and place by AutoAugment's policy.

    Raises ConfigError: a negative or fractional `crop` or `cutout`, a batch that is not `[B, C, H, W]` or
    `[B, T, C, H, W]` (which AutoAugment does not take), a `fill` of another number of channels.
    """

    crop: int = 0
    flip: bool = False
    cutout: int = 0
    fill: tuple[float, ...] = ()
    autoaugment: bool = False

    def __post_init__(self) -> None:
        for name, what in (("crop", "pixels of padding"), ("cutout", "a side in pixels")):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ConfigError(f"{name} is {value!r}, expected {what}, a whole number from 0 on")
        for name in ("flip", "autoaugment"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name} is {getattr(self, name)!r}, expected True or False")

    def __call__(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """A new batch of the same shape; `x` is not changed (and returned as it is when there is nothing to do)."""
        if x.dim() not in (4, 5):
            raise ConfigError(f"batch has shape {tuple(x.shape)}, expected [B, C, H, W] or [B, T, C, H, W]")
        if len(self.fill) not in (0, x.shape[-3]):
            raise ConfigError(f"fill has {len(self.fill)} values, expected one for each of {x.shape[-3]} channels")
        if self.autoaugment and x.dim() == 5:
            raise ConfigError("AutoAugment changes images [B, C, H, W], not frames of events: leave --autoaugment out")
        if x.numel() == 0:
            return x
        if self.crop or self.flip:
            x = self._moved(x, generator)
        if self.autoaugment:
            x = autoaugment(x, self.fill or (0.0,) * x.shape[1], generator)
        return self._cut(x, generator) if self.cutout else x

    def _moved(self, x: Tensor, generator: torch.Generator) -> Tensor:
        batch, (height, width) = x.shape[0], x.shape[-2:]
        rows = torch.arange(height, device=x.device).expand(batch, height)
        cols = torch.arange(width, device=x.device).expand(batch, width)
        if self.crop:
            shift = torch.randint(0, 2 * self.crop + 1, (2, batch, 1), generator=generator, device=generator.device)
            rows, cols = rows + shift[0].to(x.device), cols + shift[1].to(x.device)
            x = functional.pad(x, (self.crop,) * 4)
        if self.flip:
            flipped = torch.rand((batch, 1), generator=generator, device=generator.device) < 0.5
            cols = torch.where(flipped.to(x.device), cols.flip(1), cols)
        # One gather: where each pixel of the result lies in the padded plane, shared by all planes of a sample.
        planes = x.reshape(batch, -1, x.shape[-2] * x.shape[-1])  # [B, (T) C, H' W']
        index = (rows[:, :, None] * x.shape[-1] + cols[:, None, :]).reshape(batch, 1, height * width)
        taken = planes.gather(2, index.expand(-1, planes.shape[1], -1))
        return taken.reshape(*x.shape[:-2], height, width)

    def _cut(self, x: Tensor, generator: torch.Generator) -> Tensor:
        batch, (height, width) = x.shape[0], x.shape[-2:]
        inside = []
        for size in (height, width):
            first = torch.randint(0, size, (batch, 1), generator=generator, device=generator.device) - self.cutout // 2
            place = torch.arange(size, device=x.device) - first.to(x.device)
            inside.append((place >= 0) & (place < self.cutout))
        square = (inside[0][:, :, None] & inside[1][:, None, :]).view(batch, *[1] * (x.dim() - 3), height, width)
        fill = x.new_tensor(self.fill or (0.0,)).view(-1, 1, 1)
        return torch.where(square, fill, x)
