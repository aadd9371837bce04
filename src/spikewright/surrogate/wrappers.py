"""Wrappers: a smooth forward for gradient checks, and learned widths."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError
from spikewright.surrogate.base import HardValue, Surrogate, constant


@dataclass(frozen=True)
class Smooth(Surrogate):
    """`inner` with its primitive in the forward too: spike(x) = primitive(x), so a whole network can be gradchecked.

    Everything else is `inner`'s. Here, and only here, a threshold inside the formula carries its own gradient.
    """

    inner: Surrogate
    scale_by_threshold: bool = field(init=False, repr=False, default=False)

    def __post_init__(self) -> None:
        _require_primitive("Smooth", self.inner)
        object.__setattr__(self, "scale_by_threshold", self.inner.scale_by_threshold)

    def derivative(
        self, x: Tensor, v_th: float | Tensor = 1.0, age: float | Tensor | None = None, strict: bool = False
    ) -> Tensor:
        return self.inner.derivative(x, v_th, age, strict)

    def step(self, x: Tensor) -> Tensor:
        return self.inner.step(x)

    @property
    def area(self) -> float:
        return self.inner.area

    def spike(
        self, x: Tensor, v_th: float | Tensor = 1.0, strict: bool = False, age: float | Tensor | None = None
    ) -> Tensor:
        """The smooth step itself, differentiable as often as it allows."""
        return self.primitive(x, v_th)


class Learnable(nn.Module):
    """`inner` with its float fields as trained parameters: H(x) forward, the primitive's gradients backward.

    Each parameter is kept as its logarithm (`log_values`), so it stays above 0; `value(name)` is the parameter itself
    and `current()` the plain surrogate at the present values. For `ATan`: ds/dalpha = (x/2) / (1 + (pi alpha x / 2)^2).
    """

    timed: bool = False

    def __init__(self, inner: Surrogate) -> None:
        super().__init__()
        _require_primitive("Learnable", inner)
        if not inner.parameters():
            raise ConfigError(f"Learnable: {type(inner).__name__} has no number to learn; wrap for example ATan()")
        self.inner = inner
        logs = {name: nn.Parameter(torch.tensor(math.log(getattr(inner, name)))) for name in inner.parameters()}
        self.log_values = nn.ParameterDict(logs)

    def value(self, name: str) -> Tensor:
        """The parameter as a 0-dimensional tensor above 0."""
        return self.log_values[name].exp()

    def current(self) -> Surrogate:
        """`inner` at the present values, as plain floats."""
        return self._at({name: float(self.value(name).detach()) for name in self.inner.parameters()})

    def _at(self, values: dict[str, Any]) -> Surrogate:
        entry = copy(self.inner)
        for name, value in values.items():
            object.__setattr__(entry, name, value)
        return entry

    def _live(self) -> Surrogate:
        return self._at({name: self.value(name) for name in self.inner.parameters()})

    def derivative(
        self, x: Tensor, v_th: float | Tensor = 1.0, age: float | Tensor | None = None, strict: bool = False
    ) -> Tensor:
        """g(x) at the present values."""
        return self._live().derivative(x, v_th, age, strict)

    def primitive(self, x: Tensor, v_th: float | Tensor = 1.0) -> Tensor:
        """The smooth step at the present values, differentiable in x and in the parameters."""
        return self._live().primitive(x, v_th)

    def spike(
        self, x: Tensor, v_th: float | Tensor = 1.0, strict: bool = False, age: float | Tensor | None = None
    ) -> Tensor:
        """s = 1[x >= 0] (x > 0 if strict), exactly 0 or 1; backward as `primitive`, v_th held constant."""
        return HardValue.apply(self.primitive(x, constant(v_th, x)), x, strict)

    def extra_repr(self) -> str:
        return repr(self.current())


def _require_primitive(owner: str, inner: Any) -> None:
    if not isinstance(inner, Surrogate):
        raise ConfigError(f"{owner}: inner is {inner!r}, expected a surrogate; pass for example ATan()")
    if not inner.has_primitive:
        raise ConfigError(f"{owner}: {type(inner).__name__} has no smooth primitive; wrap one that has, such as ATan()")
