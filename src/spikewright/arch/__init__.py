"""Architectures: networks by notation ("15C5-P2-40C5-P2-300-10") or by name ("vgg-9"), for any activation or neuron.

    net = arch("64C3-AP2-128C3-AP2-10", data=(1, 28, 28), neuron=nn.ReLU())

What comes back is a plain `nn.Sequential` on `[N, C, H, W]`; time, where there is any, rides in N.
`spikewright.arch.notation` documents the notation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import torch
from torch import nn

from spikewright.arch import lenet, resnet, vgg
from spikewright.arch.builder import build
from spikewright.arch.first_spike import Block, SpikeConv2d, first_spike_layers
from spikewright.arch.modules import Normalize, Patches, Residual, ScaledSumPool
from spikewright.arch.named import Named
from spikewright.arch.notation import parse
from spikewright.arch.parts import Data, Neuron, Parts, shape_and_classes
from spikewright.errors import ConfigError

__all__ = [
    "Block",
    "Description",
    "Normalize",
    "Patches",
    "Residual",
    "ScaledSumPool",
    "SpikeConv2d",
    "arch",
    "describe",
    "first_spike_layers",
    "names",
]

NAMED: dict[str, Named] = {**lenet.NAMED, **vgg.NAMED, **resnet.NAMED}


def arch(
    spec: str,
    data: Data = None,
    neuron: Neuron = nn.ReLU(),  # noqa: B008 - a template: only copies of it enter a network
    *,
    pool: Callable[..., nn.Module] | None = None,
    bias: bool | None = None,
    batch_norm: bool = False,
    spiking_output: bool | None = None,
    normalize: tuple[Sequence[float], Sequence[float]] | None = None,
    dropout: Callable[[float], nn.Module] = nn.Dropout,
    num_classes: int | None = None,
    **options: Any,
) -> nn.Sequential:
    """Build a network from notation or by name.

    Args:
        spec: notation such as "15C5-P2-40C5-P2-300-10", or one of `names()`. The ResNets take a 3x3 stem of stride 1
            instead of the 7x7 one of stride 2 when the input is smaller than 64x64; "lenet-5" pads its first
            convolution by 2 when the input is smaller than 32x32.
        data: a dataset (anything with `shape` and `num_classes`), a shape `(C, H, W)` or `(features,)`, or None. With
            a shape all sizes are computed and checked now; with None the first convolution and the first dense layer
            are lazy modules that take their size from the first batch.
        neuron: the activation, as a template that is copied for each place, or a class (or function without
            arguments) that is called once for each place.
        pool: what `P2` builds, called as `pool(kernel_size)` (with a stride of its own, `pool(kernel_size, stride)`;
            by the ResNet's stem, `pool(3, stride=2, padding=1)`). None: `nn.AvgPool2d`, in the ResNets `nn.MaxPool2d`.
        bias: biases in convolutions and dense layers. None: yes; but none in the VGGs and in a ResNet's convolutions.
        batch_norm: put batch norm after every convolution, as the token `BN` does after one. ResNets always have it.
        spiking_output: whether the last layer is followed by a neuron. None: if the template's `spikes` is true. When
            a network ends with a global pool, this concerns the convolution before it.
        normalize: `(mean, std)`, one number per channel each: a `Normalize` becomes the first child.
        dropout: called with each dropout's rate; pass a class that holds its mask over time to train spiking networks.
        num_classes: outputs of a named network, and what the last layer of notation must be a multiple of. None: from
            `data`; else 10 for names, and not checked for notation.
        **options: a named architecture's own: `conv_dropout` and `fc_dropout` of the VGGs.

    Returns:
        An `nn.Sequential` from `[N, C, H, W]` to `[N, outputs]`, whose children are named by kind and layer: conv1,
        bn1, neuron1, pool1, ..., flatten, fc3, neuron3.

    Notation that begins with a plain integer means the flattened input by it, if that is its size or `data` is None;
    otherwise it is a dense layer.

    Raises:
        ConfigError: an unknown name or token, tokens or sizes that do not fit together; the message names them.
    """
    if not isinstance(spec, str):
        raise ConfigError(f"architecture {spec!r} is not text; expected a name or notation such as '15C5-P2-300-10'")
    shape, classes = shape_and_classes(data, num_classes)
    parts = Parts(neuron, pool, bias, batch_norm, spiking_output, normalize, dropout)
    name = _name(spec)
    known = NAMED[name].options if name else ()
    if unknown := sorted(set(options) - set(known)):
        raise ConfigError(
            f"architecture {spec!r} has no option {unknown[0]!r}; "
            f"it has {', '.join(known) if known else 'none of its own'}; leave it out"
        )
    if name:
        return NAMED[name].build(parts, shape, classes or 10, **options)
    return build(parse(spec), parts, shape, classes)


def names() -> list[str]:
    """The names that `arch` knows."""
    return list(NAMED)


class Description(TypedDict):
    """What `describe` tells of a named architecture; `input` is `(C, H, W)`."""

    name: str
    description: str
    input: tuple[int, int, int]
    num_classes: int
    parameters: int
    paper: str


def describe() -> list[Description]:
    """Every named architecture with its layout, the input and classes it is described for, parameters and source."""
    return [
        Description(
            name=name,
            description=named.description,
            input=named.shape,
            num_classes=named.num_classes,
            parameters=_parameters(name, named),
            paper=named.paper,
        )
        for name, named in NAMED.items()
    ]


def _parameters(name: str, named: Named) -> int:
    with torch.device("meta"):  # sizes without memory
        net = arch(name, named.shape, num_classes=named.num_classes)
    return sum(parameter.numel() for parameter in net.parameters())


def _name(spec: str) -> str | None:
    """The registered name that `spec` writes in any case and with or without dashes; None if it is notation."""
    plain = re.sub(r"[-_\s]", "", spec).lower()
    for name in NAMED:
        if plain == name.replace("-", ""):
            return name
    first = spec.split("-")[0].strip()
    if re.fullmatch(r"(?!GAP$|DROP)[A-Z_]{3,}\d*", first, re.IGNORECASE | re.ASCII):
        raise ConfigError(
            f"architecture {spec!r} is not known; expected one of {', '.join(NAMED)}, "
            "or notation such as '15C5-P2-40C5-P2-300-10'"
        )
    return None
