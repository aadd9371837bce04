"""VGG networks in the layout of hybrid conversion: 3x3 convolutions, average pools, 4096-wide dense layers.

Without biases and batch norm, dropout in its place: 0.2 after each convolution that no pool follows, 0.5 between dense
layers. The names are the paper's own; with three dense layers each, "VGG-5" and "VGG-9" have 6 and 10 layers.

Source: Rathi et al., "Enabling deep spiking neural networks with hybrid conversion and spike timing dependent
backpropagation", ICLR 2020, and its released code; after Simonyan and Zisserman, ICLR 2015.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from torch import nn

from spikewright.arch.named import Named, from_notation
from spikewright.arch.parts import Parts, Shape
from spikewright.errors import ConfigError

__all__ = ["NAMED", "vgg"]

CONVOLUTIONS = {
    "vgg-5": "64 P 128 128 P",
    "vgg-9": "64 P 128 256 P 256 512 P 512 P 512",
    "vgg-16": "64 64 P 128 128 P 256 256 256 P 512 512 512 P 512 512 512",
}
WIDTH = 4096


def vgg(
    name: str,
    parts: Parts,
    shape: Shape | None,
    num_classes: int,
    *,
    conv_dropout: float = 0.2,
    fc_dropout: float = 0.5,
) -> nn.Sequential:
    """Build "vgg-5", "vgg-9" or "vgg-16".

    Args:
        name: which.
        parts: as everywhere; biases only if asked for.
        shape: of the input; the first dense layer takes its size from it (8192, 2048, 2048 on 32x32).
        num_classes: outputs.
        conv_dropout: rate after a convolution that no pool follows; 0 leaves it out.
        fc_dropout: rate after the dense layers but the last; 0 leaves it out.

    Raises:
        ConfigError: a rate outside [0, 1), or an input too small for the pools.
    """
    parts = replace(parts, bias=bool(parts.bias))
    text = notation(name, num_classes, _rate("conv_dropout", conv_dropout), _rate("fc_dropout", fc_dropout))
    return from_notation(name, text, parts, shape, num_classes)


def notation(name: str, num_classes: int, conv_dropout: str = "", fc_dropout: str = "") -> str:
    """The network in notation; a rate is digits such as "0.2", or empty for none."""
    words = CONVOLUTIONS[name].split()
    tokens: list[str] = []
    for word, following in zip(words, [*words[1:], ""], strict=True):
        tokens.append("P2" if word == "P" else f"{word}C3")
        if conv_dropout and word != "P" and following != "P":
            tokens.append(f"D{conv_dropout}")
    dense = [str(WIDTH), f"D{fc_dropout}"] if fc_dropout else [str(WIDTH)]
    return "-".join([*tokens, *dense, *dense, str(num_classes)])


def _rate(what: str, rate: float) -> str:
    if not 0 <= rate < 1:
        raise ConfigError(f"{what}: {rate!r}; expected a rate of at least 0 and less than 1")
    return f"{rate:.6f}".rstrip("0") + "0" if rate else ""


NAMED = {
    name: Named(
        description=notation(name, num_classes=10, conv_dropout="0.2", fc_dropout="0.5"),
        paper="Rathi et al. 2020; Simonyan and Zisserman 2015",
        shape=(3, 32, 32),
        num_classes=10,
        build=partial(vgg, name),
        options=("conv_dropout", "fc_dropout"),
    )
    for name in CONVOLUTIONS
}
