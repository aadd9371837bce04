"""LeNets: two or three 5x5 convolutions with average pools between, then dense layers."""

from __future__ import annotations

from torch import nn

from spikewright.arch.named import Named, from_notation
from spikewright.arch.parts import Parts, Shape

__all__ = ["NAMED", "lenet", "lenet_5"]


def lenet(parts: Parts, shape: Shape | None, num_classes: int) -> nn.Sequential:
    """LeNet for 28x28 images without padding: 44,426 parameters for one channel and ten classes."""
    return from_notation("lenet", f"6C5-P2-16C5-P2-120-84-{num_classes}", parts, shape, num_classes)


def lenet_5(parts: Parts, shape: Shape | None, num_classes: int) -> nn.Sequential:
    """The classic LeNet-5 for 32x32 images (taken for granted without data): 61,706 parameters.

    Where the data is smaller than 32x32, as MNIST's 28x28, the first convolution pads 2 on each side. Every map of
    the first layer feeds every map of the second; the paper's partial table of connections is left out.
    """
    padded = shape is not None and len(shape) == 3 and min(size for size in shape[1:] if size is not None) < 32
    text = f"6C5p{2 if padded else 0}-P2-16C5-P2-120C5-84-{num_classes}"
    return from_notation("lenet-5", text, parts, shape, num_classes)


NAMED = {
    "lenet": Named(
        description="6C5-P2-16C5-P2-120-84-10",
        paper="LeCun et al. 1998, without padding, as used for conversion",
        shape=(1, 28, 28),
        num_classes=10,
        build=lenet,
    ),
    "lenet-5": Named(
        description="6C5-P2-16C5-P2-120C5-84-10; the first convolution pads 2 below 32x32",
        paper="LeCun et al. 1998",
        shape=(1, 32, 32),
        num_classes=10,
        build=lenet_5,
    ),
}
