"""What every surrogate has in common: the hard spike forward, the slope of a smooth step backward."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from spikewright.errors import ConfigError, positive


def fired(x: Tensor, strict: bool) -> Tensor:
    """Where a spike is: bool of x's shape."""
    return x > 0 if strict else x >= 0


def constant(value: Any, x: Tensor) -> Any:
    """A threshold inside a formula: without gradient, in x's precision."""
    return value.detach().to(x.dtype) if isinstance(value, Tensor) else value


class _FirstDerivativeOnly(torch.autograd.Function):
    """Identity on a gradient; differentiating that gradient again raises. `anchor` ties it to the potential."""

    generate_vmap_rule = True

    @staticmethod
    def forward(grad: Tensor, anchor: Tensor) -> Tensor:
        return grad.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError("a hard spike has no second derivative; use Smooth(surrogate) to differentiate twice")


def first_only(grad: Tensor, anchor: Tensor) -> Tensor:
    """A gradient whose own gradient with respect to the anchor, or to itself, raises."""
    return _FirstDerivativeOnly.apply(grad, anchor) if torch.is_grad_enabled() else grad


class _Spike(torch.autograd.Function):
    """Forward H(x), backward grad * surrogate.derivative(x); threshold and age are constants of the formula."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, v_th: Any, age: Any, surrogate: Surrogate, strict: bool) -> Tensor:
        return fired(x, strict).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, v_th, age, ctx.surrogate, ctx.strict = inputs
        tensors = [value if isinstance(value, Tensor) else None for value in (v_th, age)]
        ctx.save_for_backward(x, *tensors)
        ctx.plain = [value if tensor is None else None for value, tensor in zip((v_th, age), tensors, strict=True)]

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        x, *tensors = ctx.saved_tensors
        v_th, age = (plain if tensor is None else tensor for plain, tensor in zip(ctx.plain, tensors, strict=True))
        slope = ctx.surrogate.derivative(x.detach(), v_th, age, ctx.strict)
        return first_only(grads[0] * slope, x), None, None, None, None


class HardValue(torch.autograd.Function):
    """Forward H(x), backward as if the output were `smooth`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(smooth: Tensor, x: Tensor, strict: bool) -> Tensor:
        return fired(x, strict).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return first_only(grads[0], *ctx.saved_tensors), None, None


@dataclass(frozen=True)
class Surrogate:
    """A derivative for the spike. Subclasses give `curve(x)`, g, and where there is one its antiderivative, `step(x)`.

    With `scale_by_threshold` the formula sees x/theta and the result is divided by theta, as the chain rule asks, so
    the area keeps its value at every theta. The threshold inside a formula is a constant: a gradient for a learned
    threshold arrives through x = u - theta alone. All methods act elementwise and return x's shape and dtype.
    """

    scale_by_threshold: bool = field(default=False, kw_only=True)

    timed: ClassVar[bool] = False
    """g needs `age`, the steps since the neuron's last spike."""
    even: ClassVar[bool] = True
    """g(-x) = g(x)."""

    def __post_init__(self) -> None:
        for name in self.parameters():
            positive(type(self).__name__, name, getattr(self, name))

    @classmethod
    def parameters(cls) -> list[str]:
        """Names of the numbers that shape g: the dataclass's float fields."""
        return [f.name for f in fields(cls) if f.type in ("float", float)]

    def curve(self, x: Tensor) -> Tensor:
        """g(x)."""
        raise NotImplementedError(f"{type(self).__name__} defines no curve")

    def step(self, x: Tensor) -> Tensor:
        """The smooth step whose derivative is g."""
        raise ConfigError(f"{type(self).__name__} has no smooth primitive; take a surrogate with one, such as ATan()")

    @property
    def has_primitive(self) -> bool:
        """Whether `primitive` returns something."""
        return type(self).step is not Surrogate.step

    def curve_at(self, x: Tensor, v_th: Any, age: Any, strict: bool) -> Tensor:
        """g where it depends on more than x; entries of that kind override this in place of `curve`."""
        return self.curve(x)

    def derivative(
        self, x: Tensor, v_th: float | Tensor = 1.0, age: float | Tensor | None = None, strict: bool = False
    ) -> Tensor:
        """g(x) for x = u - v_th. `age` is read by timed entries only, `strict` by the spike-only ones."""
        theta = constant(v_th, x)
        if self.scale_by_threshold:
            return self.curve_at(x / theta, 1.0, age, strict) / theta
        return self.curve_at(x, theta, age, strict)

    def primitive(self, x: Tensor, v_th: float | Tensor = 1.0) -> Tensor:
        """The smooth step whose derivative with respect to x is g; ConfigError where none exists."""
        return self.step(x / v_th if self.scale_by_threshold else x)

    @property
    def area(self) -> float:
        """Integral of g over x: 1, a true derivative of a step, unless the entry says otherwise."""
        return 1.0

    @property
    def peak(self) -> float:
        """g(0) at theta = 1 (and, for a timed entry, at age 0)."""
        return float(self.derivative(torch.zeros((), dtype=torch.float64), age=0.0))

    def spike(
        self, x: Tensor, v_th: float | Tensor = 1.0, strict: bool = False, age: float | Tensor | None = None
    ) -> Tensor:
        """s = 1[x >= 0] (x > 0 if strict) in x's dtype; backward: grad * g(x). Differentiating twice raises."""
        if self.timed and age is None:
            raise ConfigError(f"{type(self).__name__}: age is None, expected the steps since the last spike; pass age=")
        return _Spike.apply(x, v_th, age, self, strict)
