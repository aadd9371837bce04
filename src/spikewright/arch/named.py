"""What a named architecture is: an entry with its source, and how to build it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from spikewright.arch.builder import build
from spikewright.arch.notation import parse
from spikewright.arch.parts import Parts, Shape

__all__ = ["Named", "from_notation"]


@dataclass(frozen=True)
class Named:
    """One named architecture.

    `build(parts, shape, num_classes, **options)` makes the network; `shape` is None where the data is not known.
    """

    description: str  # notation, or a line of words where notation does not reach
    paper: str
    shape: tuple[int, int, int]  # the input it is described for, (C, H, W)
    num_classes: int
    build: Callable[..., nn.Sequential]
    options: tuple[str, ...] = ()  # keyword arguments of its own


def from_notation(name: str, text: str, parts: Parts, shape: Shape | None, num_classes: int) -> nn.Sequential:
    """Build a named architecture that notation can write; messages call it by its name."""
    return build(parse(text, label=name), parts, shape, num_classes)
