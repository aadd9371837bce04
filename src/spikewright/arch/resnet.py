"""Residual networks of basic blocks, with batch norm: ResNet-18 and ResNet-34.

At 224x224 with 1000 classes they have the 11,689,512 and 21,797,672 parameters of the common implementation.

Source: He et al., "Deep residual learning for image recognition", CVPR 2016, table 1; projections (option B) where the
size changes.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial

from torch import nn

from spikewright.arch.modules import Residual
from spikewright.arch.named import Named
from spikewright.arch.parts import Parts, Shape
from spikewright.errors import ConfigError

__all__ = ["NAMED", "resnet"]

BLOCKS = {"resnet-18": (2, 2, 2, 2), "resnet-34": (3, 4, 6, 3)}
WIDTHS = (64, 128, 256, 512)
SMALL = 64


def resnet(name: str, max_pool: bool, parts: Parts, shape: Shape | None, num_classes: int) -> nn.Sequential:
    """Build "resnet-18" or "resnet-34".

    Args:
        name: which.
        max_pool: whether the stem ends with a 3x3 pool of stride 2, maximum unless `parts.pool` says otherwise.
        parts: as everywhere, except that batch norm is always there and convolutions have biases only if asked for.
        shape: of the input. The stem is a 7x7 convolution of stride 2, but on images smaller than 64x64 a 3x3 one of
            stride 1. With None it is the 7x7 one, and takes the channels from the first batch.
        num_classes: outputs.

    Raises:
        ConfigError: an input that is flat.
    """
    channels, small = _channels_and_size(name, shape)
    children: OrderedDict[str, nn.Module] = OrderedDict()
    if (normalize := parts.new_normalize(shape or (None, None, None))) is not None:
        children["normalize"] = normalize
    kernel, stride = (3, 1) if small else (7, 2)
    children["conv1"] = _conv(channels, WIDTHS[0], kernel, stride, bool(parts.bias))
    children["bn1"] = nn.BatchNorm2d(WIDTHS[0])
    children["neuron1"] = parts.new_neuron()
    if max_pool:
        children["pool1"] = (parts.pool or nn.MaxPool2d)(3, stride=2, padding=1)
    before = WIDTHS[0]
    for stage, (width, count) in enumerate(zip(WIDTHS, BLOCKS[name], strict=True), start=1):
        for block in range(1, count + 1):
            children[f"stage{stage}_block{block}"] = _block(before, width, 2 if stage > 1 and block == 1 else 1, parts)
            before = width
    children["gap"] = nn.AdaptiveAvgPool2d(1)
    children["flatten"] = nn.Flatten()
    children["fc"] = nn.Linear(before, num_classes, bias=parts.bias is not False)
    if parts.neuron_at_output:
        children["neuron_out"] = parts.new_neuron()
    return nn.Sequential(children)


def _block(before: int, width: int, stride: int, parts: Parts) -> Residual:
    """Two 3x3 convolutions beside a shortcut; a 1x1 projection there where the size changes."""
    bias = bool(parts.bias)
    main = OrderedDict[str, nn.Module](
        conv1=_conv(before, width, 3, stride, bias),
        bn1=nn.BatchNorm2d(width),
        neuron1=parts.new_neuron(),
        conv2=_conv(width, width, 3, 1, bias),
        bn2=nn.BatchNorm2d(width),
    )
    shortcut = OrderedDict[str, nn.Module]()  # empty: the identity
    if stride != 1 or before != width:
        shortcut.update(conv=_conv(before, width, 1, stride, bias), bn=nn.BatchNorm2d(width))
    return Residual(nn.Sequential(main), nn.Sequential(shortcut), parts.new_neuron())


def _conv(before: int | None, width: int, kernel: int, stride: int, bias: bool) -> nn.Module:
    """A convolution that keeps the size but for its stride."""
    if before is None:
        return nn.LazyConv2d(width, kernel, stride=stride, padding=kernel // 2, bias=bias)
    return nn.Conv2d(before, width, kernel, stride=stride, padding=kernel // 2, bias=bias)


def _channels_and_size(name: str, shape: Shape | None) -> tuple[int | None, bool]:
    """The input's channels, and whether it is small."""
    if shape is None:
        return None, False
    if len(shape) != 3:
        raise ConfigError(
            f"architecture {name!r} needs an image, but the data is flat, {shape[0]} features; "
            "take data of shape (channels, height, width) or a dense network such as '400-10'"
        )
    return shape[0], min(size for size in shape[1:] if size is not None) < SMALL


def _named(name: str, max_pool: bool) -> Named:
    pool = "3x3 max-pool" if max_pool else "no max-pool"
    return Named(
        description=f"stem 64C7s2 (64C3 below 64x64), {pool}; basic blocks {BLOCKS[name]} of {WIDTHS}; GAP; dense",
        paper="He et al. 2016",
        shape=(3, 224, 224),
        num_classes=1000,
        build=partial(resnet, name, max_pool),
    )


NAMED = {name: _named(name, max_pool=True) for name in BLOCKS} | {
    f"{name}-no-maxpool": _named(name, max_pool=False) for name in BLOCKS
}
