"""What every architecture is told besides its layout: which neuron, pool, bias, norm and dropout to put in."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Protocol, TypeAlias

from torch import nn

from spikewright.arch.modules import Normalize
from spikewright.errors import ConfigError

__all__ = ["Data", "Neuron", "Parts", "Shape", "shape_and_classes"]

Shape: TypeAlias = tuple[int | None, ...]
"""`(C, H, W)` or flat `(features,)`; None where not known before the first batch."""

Neuron: TypeAlias = nn.Module | Callable[[], nn.Module]
"""A template that is copied for each place, or a class (or function) called for each place."""


class Task(Protocol):
    """Data that knows its size: a dataset."""

    @property
    def shape(self) -> Sequence[int]: ...

    @property
    def num_classes(self) -> int: ...


Data: TypeAlias = Task | Sequence[int] | None


@dataclass(frozen=True)
class Parts:
    """The choices that are the same for every architecture; `arch` documents each."""

    neuron: Neuron
    pool: Callable[..., nn.Module] | None = None
    bias: bool | None = None
    batch_norm: bool = False
    spiking_output: bool | None = None
    normalize: tuple[Sequence[float], Sequence[float]] | None = None
    dropout: Callable[[float], nn.Module] = nn.Dropout

    def new_neuron(self) -> nn.Module:
        """A neuron of its own for one place in the network."""
        if isinstance(self.neuron, nn.Module):
            return copy.deepcopy(self.neuron)
        built = self.neuron() if callable(self.neuron) else self.neuron
        if not isinstance(built, nn.Module):
            raise ConfigError(
                f"neuron: {self.neuron!r} gives {type(built).__name__}; expected an nn.Module such as nn.ReLU(), "
                "or a class or function without arguments that makes one"
            )
        return built

    @property
    def neuron_at_output(self) -> bool:
        """Whether the last layer is followed by a neuron: as told, or else if the template spikes."""
        if self.spiking_output is not None:
            return self.spiking_output
        template = getattr(self.neuron, "func", self.neuron)  # functools.partial(LIF, ...) spikes if LIF does
        return bool(getattr(template, "spikes", False))

    def new_normalize(self, shape: Shape) -> nn.Module | None:
        """The first child, or None; checks the number of channels where it is known."""
        if self.normalize is None:
            return None
        try:
            mean, std = self.normalize
        except (TypeError, ValueError):
            raise ConfigError(
                f"normalize: {self.normalize!r}; expected a pair (mean, std), each one number per channel"
            ) from None
        module = Normalize(mean, std)
        if shape[0] is not None and len(shape) == 3 and len(module.mean) not in (1, shape[0]):
            raise ConfigError(
                f"normalize: {len(module.mean)} means, but the input has {shape[0]} channels; give one per channel"
            )
        return module


def shape_and_classes(data: Data, num_classes: int | None) -> tuple[Shape | None, int | None]:
    """The input's shape and the number of classes, each None where neither `data` nor `num_classes` tells."""
    shape: Any = getattr(data, "shape", data)
    classes: Any = getattr(data, "num_classes", None) if num_classes is None else num_classes
    if classes is not None and not _is_count(classes):
        raise ConfigError(f"num_classes: {classes!r}; expected a whole number of at least 1")
    if data is None:
        return None, classes
    is_sizes = isinstance(shape, Sequence) and all(map(_is_count, shape))
    if not is_sizes or len(shape) not in (1, 3):
        raise ConfigError(
            f"data: its shape is {shape!r}; expected three positive sizes (channels, height, width) of one image "
            "without the batch, such as (1, 28, 28), or (features,)"
        )
    return tuple(map(int, shape)), classes


def _is_count(value: Any) -> bool:
    return isinstance(value, Integral) and int(value) >= 1
