"""Image fronts: grey images -> channels of contrast, what the first-spike networks see instead of pixels.

A front is a pure function [B, C, H, W] -> [B, channels, H, W], no value below 0; colours are averaged first. Filters
are sums of shifted images, taken in one order: a pixel has the same bits in every batch, and places that look alike are
equal, so that who comes first never hangs on rounding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from spikewright.errors import ConfigError, DataError

__all__ = ["DoG", "Front", "LoG", "gaussian"]


class Front:
    """Base of the fronts."""

    def __call__(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, channels, H, W]."""
        raise NotImplementedError

    def _grey(self, x: Tensor) -> Tensor:
        if x.dim() != 4:
            raise DataError(
                f"{type(self).__name__} takes images [B, C, H, W], found shape {tuple(x.shape)}: use a front with "
                "images only"
            )
        return x.mean(1) if x.shape[1] > 1 else x.flatten(0, 1)


def gaussian(sigma: float, radius: int) -> list[float]:
    """Samples of exp(-r^2 / (2 sigma^2)) at -radius .. radius, without its factor."""
    return [math.exp(-(r**2) / (2 * sigma**2)) for r in range(-radius, radius + 1)]


def _filtered(x: Tensor, taps: list[float]) -> Tensor:
    """x [B, H, W] through the separable filter with these taps down and across, zeros beyond the edge."""
    radius = len(taps) // 2
    for dim, margin in ((1, (0, 0, radius, radius)), (2, (radius, radius, 0, 0))):
        wide, size = pad(x, margin), x.shape[dim]
        x = wide.narrow(dim, radius, size) * taps[radius]
        for r in range(1, radius + 1):  # both sides first: mirrored images give mirrored bits
            sides = wide.narrow(dim, radius - r, size) + wide.narrow(dim, radius + r, size)
            x = x + sides * taps[radius + r]
    return x


@dataclass(frozen=True)
class LoG(Front):
    """On and off contrast at several scales: the difference of two Gaussians about each scale, both of sum 1.

    D = G(sigma / ratio) * x - G(sigma ratio) * x; first max(D, 0) of all scales, then max(-D, 0) of all. With a ratio
    of sqrt 2 that is close to a Laplacian of a Gaussian (Shirsavar 2022); G(1) and G(2), that is sigma = sqrt 2, are
    the rectified DoG of the same code's Kheradpisheh network.

    Args:
        sigmas: the scales, in pixels.
        ratio: of the wider Gaussian's width to the scale.
        radius: of the filters: 3 is 7 x 7.
        threshold: values up to it are 0.
    """

    sigmas: tuple[float, ...] = (0.471404521, 1.099943882, 2.042752923)
    ratio: float = math.sqrt(2)
    radius: int = 3
    threshold: float = 0.01

    def __post_init__(self) -> None:
        if not self.sigmas or not all(0 < s < math.inf for s in self.sigmas):
            raise ConfigError(f"LoG: sigmas is {self.sigmas}, expected scales above 0 pixels")
        if not (1 < self.ratio < math.inf and self.radius >= 1 and 0 <= self.threshold < math.inf):
            raise ConfigError(
                f"LoG: ratio {self.ratio}, radius {self.radius}, threshold {self.threshold}: expected above 1, at "
                "least 1, and at least 0"
            )

    def __call__(self, x: Tensor) -> Tensor:
        grey, differences = self._grey(x), []
        for sigma in self.sigmas:
            narrow, wide = (self._smoothed(grey, s) for s in (sigma / self.ratio, sigma * self.ratio))
            differences.append(narrow - wide)
        d = torch.stack(differences, 1)
        both = torch.cat([d, -d], 1)
        return both * (both > self.threshold)

    def _smoothed(self, x: Tensor, sigma: float) -> Tensor:
        taps = gaussian(sigma, self.radius)
        return _filtered(x, [t / sum(taps) for t in taps])


@dataclass(frozen=True)
class DoG(Front):
    """Differences of Gaussians as kernels of mean 0 and maximum 1, each value over the mean of its surroundings
    (Kheradpisheh 2018, Mozafari 2019).

    Args:
        filters: (size, sigma of the added, sigma of the subtracted Gaussian) of each channel.
        threshold: smaller values are 0, on the scale of images in 0..1 (the papers' 50 of 255).
        surround: radius of the square whose mean divides a value, 0 for none.
    """

    filters: tuple[tuple[int, float, float], ...] = ((7, 1.0, 2.0), (7, 2.0, 1.0))
    threshold: float = 50 / 255
    surround: int = 8

    def __post_init__(self) -> None:
        fine = [n >= 3 and n % 2 == 1 and 0 < a < math.inf and 0 < b < math.inf and a != b for n, a, b in self.filters]
        if not fine or not all(fine):
            raise ConfigError(f"DoG: filters is {self.filters}, expected (odd size, sigma, another sigma) for each")
        if not (0 <= self.threshold < math.inf and self.surround >= 0):
            raise ConfigError(f"DoG: threshold {self.threshold}, surround {self.surround}: expected both at least 0")

    def __call__(self, x: Tensor) -> Tensor:
        grey = self._grey(x)
        channels = torch.stack([self._contrast(grey, *f) for f in self.filters], 1)
        channels = channels * (channels >= self.threshold)
        if not self.surround:
            return channels
        side = 2 * self.surround + 1
        mean = _filtered(channels.flatten(0, 1), [1.0] * side).view_as(channels) / side**2
        return channels / (mean + 1e-12)

    @staticmethod
    def _contrast(x: Tensor, size: int, added: float, subtracted: float) -> Tensor:
        radius = size // 2
        taps = [gaussian(s, radius) for s in (added, subtracted)]
        scale = [1 / (2 * math.pi * s**2) for s in (added, subtracted)]
        kernel = [
            [scale[0] * a * b - scale[1] * c * d for b, d in zip(*taps, strict=True)]
            for a, c in zip(*taps, strict=True)
        ]
        mean = sum(map(sum, kernel)) / size**2
        most = max(map(max, kernel)) - mean
        parts = [_filtered(x, t) * (k / most) for t, k in zip(taps, scale, strict=True)]
        return parts[0] - parts[1] - _filtered(x, [1.0] * size) * (mean / most)
