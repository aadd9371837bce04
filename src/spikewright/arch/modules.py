"""The modules of this room's own: normalisation of the input, a sum pool, and a residual block."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from spikewright.errors import ConfigError

__all__ = ["Normalize", "Patches", "Residual", "ScaledSumPool"]


class Normalize(nn.Module):
    """Shift and scale every channel: `(x - mean) / std`, with fixed numbers that are part of the network.

    Args:
        mean: one value per channel, in the units of the input.
        std: one value per channel, greater than zero.

    Shapes: `[N, C, ...] -> [N, C, ...]`; a single mean and std serve any C.

    The numbers are constructor arguments, so they are kept out of `state_dict`.

    Raises:
        ConfigError: mean and std are of different lengths, empty, not finite, or a std is not positive.
    """

    samplewise = True
    offset: Tensor
    scale: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean = _floats("mean", mean)
        self.std = _floats("std", std)
        if len(self.mean) != len(self.std):
            raise ConfigError(
                f"normalize: {len(self.mean)} means but {len(self.std)} stds; give one of each per channel of the input"
            )
        if min(self.std) <= 0:
            raise ConfigError(f"normalize: std is {self.std}; expected values above zero; use 1.0 to leave a channel")
        self.register_buffer("offset", torch.tensor(self.mean), persistent=False)
        self.register_buffer("scale", torch.tensor(self.std), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        channels = (-1,) + (1,) * (x.dim() - 2)
        return (x - self.offset.view(channels)) / self.scale.view(channels)

    def extra_repr(self) -> str:
        return f"mean={self.mean}, std={self.std}"


class ScaledSumPool(nn.Module):
    """`gain` times the sum over a window: the pool of SLAYER and TSSL-BP, whose released codes use 1.1.

    Shapes: `[N, C, H, W] -> [N, C, H', W']` as an average pool of the same `kernel_size` and `stride`.
    """

    samplewise = True

    def __init__(self, kernel_size: int, stride: int | None = None, gain: float = 1.1) -> None:
        super().__init__()
        self.kernel_size = kernel_size
        self.stride = stride
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return self.gain * self.kernel_size**2 * functional.avg_pool2d(x, self.kernel_size, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, gain={self.gain:g}"


class Patches(nn.Module):
    """The receptive fields of a locally connected layer, one after the other, for an `nn.Conv1d` with a group each.

    Shapes: `[N, C, H, W] -> [N, places * C * kernel^2, 1]`, of a field the order of `nn.Conv2d`'s weights.

    Args:
        kernel: side of a field.
        stride: from one to the next.
        crop: border of the image that is left out.
    """

    samplewise = True

    def __init__(self, kernel: int, stride: int = 1, crop: int = 0) -> None:
        super().__init__()
        if kernel < 1 or stride < 1 or crop < 0:
            raise ConfigError(
                f"Patches: kernel {kernel}, stride {stride}, crop {crop}: expected at least 1, 1 and 0 pixels"
            )
        self.kernel, self.stride, self.crop = kernel, stride, crop

    def places(self, shape: Sequence[int]) -> int:
        """How many fields an image of `shape` [C, H, W] has; ConfigError if there is no room for one."""
        sides = [size - 2 * self.crop for size in shape[-2:]]
        if min(sides) < self.kernel:
            raise ConfigError(
                f"a receptive field of {self.kernel} x {self.kernel} does not fit into images of {shape[-2]} x "
                f"{shape[-1]} less a border of {self.crop}: use a smaller kernel, a smaller crop, or larger images"
            )
        return math.prod((side - self.kernel) // self.stride + 1 for side in sides)

    def forward(self, x: Tensor) -> Tensor:
        if self.crop:
            x = x[..., self.crop : -self.crop, self.crop : -self.crop]
        return functional.unfold(x, self.kernel, stride=self.stride).transpose(1, 2).flatten(1)[..., None]

    def extra_repr(self) -> str:
        return f"kernel={self.kernel}, stride={self.stride}, crop={self.crop}"


class Residual(nn.Module):
    """A residual block: `neuron(main(x) + shortcut(x))`.

    Args:
        main: the path with the weights.
        shortcut: the identity (`nn.Identity()` or an empty `nn.Sequential()`), or a projection where the size changes.
        neuron: the activation after the sum.

    Shapes: whatever `main` and `shortcut` agree on.

    Source: He et al., "Deep residual learning for image recognition", CVPR 2016, figure 2 and eq. 1-2.
    """

    def __init__(self, main: nn.Module, shortcut: nn.Module, neuron: nn.Module) -> None:
        super().__init__()
        self.main = main
        self.shortcut = shortcut
        self.neuron = neuron

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.main(x) + self.shortcut(x))


def _floats(what: str, values: Sequence[float]) -> tuple[float, ...]:
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        numbers = ()
    if not numbers or not all(map(math.isfinite, numbers)):
        raise ConfigError(f"normalize: {what} is {values!r}; expected one finite number per channel, such as (0.5,)")
    return numbers
