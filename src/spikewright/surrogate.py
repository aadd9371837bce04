"""Surrogate derivatives: a hard spike forward, the slope of a smooth step backward.

A spike is s = H(x), x = u - theta (potential less threshold), and H has no useful derivative. Each entry below supplies
one, g(x), in a line or two, with the formula, the source of its default parameters, its area (the integral of g over x)
and its peak (g at x = 0), both at theta = 1. Only an entry of area 1 is the true derivative of a step from 0 to 1; the
others also scale the learning rate.

A new entry is a frozen dataclass below `Surrogate` with float fields, a `curve` and, where there is one, a `step`; the
law tests find it by listing `catalogue()`.

Choices that sources leave open, made here: a spike at exactly the threshold by default (x >= 0; `strict` asks for
x > 0); x absolute by default (`scale_by_threshold` divides it by theta); no normalisation of the area; a NaN potential
gives a NaN derivative wherever g depends on x; a second derivative through a hard spike raises.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError


def _fired(x: Tensor, strict: bool) -> Tensor:
    return x > 0 if strict else x >= 0


def _constant(value: Any, x: Tensor) -> Any:
    return value.detach().to(x.dtype) if isinstance(value, Tensor) else value


def _require_positive(owner: str, name: str, value: Any) -> None:
    if not (isinstance(value, Real) and 0 < float(value) < math.inf):
        raise ConfigError(f"{owner}: {name} is {value!r}, expected a finite number above 0; try {name}=1.0")


# ---- the backward rule


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


def _first_only(grad: Tensor, anchor: Tensor) -> Tensor:
    return _FirstDerivativeOnly.apply(grad, anchor) if torch.is_grad_enabled() else grad


class _Spike(torch.autograd.Function):
    """Forward H(x), backward grad * surrogate.derivative(x); threshold and age are constants of the formula."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, v_th: Any, age: Any, surrogate: Surrogate, strict: bool) -> Tensor:
        return _fired(x, strict).to(x.dtype)

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
        return _first_only(grads[0] * slope, x), None, None, None, None


class _HardValue(torch.autograd.Function):
    """Forward H(x), backward as if the output were `smooth`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(smooth: Tensor, x: Tensor, strict: bool) -> Tensor:
        return _fired(x, strict).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _first_only(grads[0], *ctx.saved_tensors), None, None


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
            _require_positive(type(self).__name__, name, getattr(self, name))

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
        theta = _constant(v_th, x)
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


# ---- smooth, heavy first


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """g = alpha s (1 - s), s = sigmoid(alpha x). Primitive s. Area 1, peak alpha/4.

    alpha 4 is SpikingJelly's default (25 snnTorch, 1 BrainCog). The third curve of STBP (Wu et al. 2018),
    e^(-x/a) / (a (1 + e^(-x/a))^2), is this one with alpha = 1/a.
    """

    alpha: float = 4.0

    def curve(self, x: Tensor) -> Tensor:
        s = torch.sigmoid(self.alpha * x)
        return self.alpha * s * (1 - s)

    def step(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.alpha * x)


@dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """g = 1 / (1 + beta |x|)^2. Primitive x / (1 + beta |x|) + 1/beta, from 0 to 2/beta. Area 2/beta, peak 1.

    The form of the spytorch tutorials (Neftci, Mostafa, Zenke 2019), beta 100; snnTorch 25. See also `SuperSpike`.
    """

    beta: float = 100.0

    def curve(self, x: Tensor) -> Tensor:
        return 1 / (1 + self.beta * x.abs()) ** 2

    def step(self, x: Tensor) -> Tensor:
        return x / (1 + self.beta * x.abs()) + 1 / self.beta

    @property
    def area(self) -> float:
        return 2 / self.beta


@dataclass(frozen=True)
class SuperSpike(Surrogate):
    """g = beta / (1 + beta |x|)^2: `FastSigmoid` times beta. Primitive from 0 to 2. Area 2, peak beta.

    Zenke and Ganguli 2018, as their Auryn code has it, beta = 1/(1 mV); SpikingJelly's SuperSpike, also 1.
    """

    beta: float = 1.0

    def curve(self, x: Tensor) -> Tensor:
        return self.beta / (1 + self.beta * x.abs()) ** 2

    def step(self, x: Tensor) -> Tensor:
        return self.beta * x / (1 + self.beta * x.abs()) + 1

    @property
    def area(self) -> float:
        return 2.0


@dataclass(frozen=True)
class SoftSign(Surrogate):
    """g = alpha / (2 (1 + alpha |x|)^2). Primitive (alpha x / (1 + alpha |x|) + 1) / 2. Area 1, peak alpha/2.

    SpikingJelly, alpha 2.
    """

    alpha: float = 2.0

    def curve(self, x: Tensor) -> Tensor:
        return self.alpha / (2 * (1 + self.alpha * x.abs()) ** 2)

    def step(self, x: Tensor) -> Tensor:
        return (self.alpha * x / (1 + self.alpha * x.abs()) + 1) / 2


@dataclass(frozen=True)
class ATan(Surrogate):
    """g = alpha / (2 (1 + (pi alpha x / 2)^2)). Primitive atan(pi alpha x / 2) / pi + 1/2. Area 1, peak alpha/2.

    Fang et al. 2021 (PLIF) and SpikingJelly, alpha 2.
    """

    alpha: float = 2.0

    def curve(self, x: Tensor) -> Tensor:
        return self.alpha / (2 * (1 + (math.pi / 2 * self.alpha * x) ** 2))

    def step(self, x: Tensor) -> Tensor:
        return torch.atan(math.pi / 2 * self.alpha * x) / math.pi + 0.5


@dataclass(frozen=True)
class Gaussian(Surrogate):
    """g = exp(-x^2 / (2 variance)) / sqrt(2 pi variance). Primitive the normal CDF. Area 1, peak 0.399/sqrt(variance).

    The fourth curve of STBP (Wu et al. 2018), variance 1.
    """

    variance: float = 1.0

    def curve(self, x: Tensor) -> Tensor:
        return torch.exp(-(x**2) / (2 * self.variance)) / (2 * math.pi * self.variance) ** 0.5

    def step(self, x: Tensor) -> Tensor:
        return torch.erfc(-x / (2 * self.variance) ** 0.5) / 2


@dataclass(frozen=True)
class Erf(Surrogate):
    """g = alpha exp(-alpha^2 x^2) / sqrt(pi). Primitive erfc(-alpha x) / 2. Area 1, peak alpha/sqrt(pi) = 0.5642 alpha.

    SpikingJelly, alpha 2.
    """

    alpha: float = 2.0

    def curve(self, x: Tensor) -> Tensor:
        return self.alpha / math.pi**0.5 * torch.exp(-((self.alpha * x) ** 2))

    def step(self, x: Tensor) -> Tensor:
        return torch.erfc(-self.alpha * x) / 2


def _laplace(z: Tensor) -> Tensor:
    """CDF of exp(-|z|)/2; both branches stay finite, and the slope at 0 is 1/2."""
    return torch.where(z < 0, z.clamp(max=0).exp() / 2, 1 - (-z.clamp(min=0)).exp() / 2)


@dataclass(frozen=True)
class Exponential(Surrogate):
    """g = (scale / width) exp(-|x| / width). Primitive 2 scale times a Laplace CDF. Area 2 scale, peak scale/width.

    SLAYER (Shrestha and Orchard 2018): scale = scaleRho 1, width = tauRho * theta with tauRho 1. Either pass that
    product, or width=tauRho with scale_by_threshold=True, which is the same function.
    """

    scale: float = 1.0
    width: float = 1.0

    def curve(self, x: Tensor) -> Tensor:
        return self.scale / self.width * torch.exp(-x.abs() / self.width)

    def step(self, x: Tensor) -> Tensor:
        return 2 * self.scale * _laplace(x / self.width)

    @property
    def area(self) -> float:
        return 2 * self.scale


@dataclass(frozen=True)
class PiecewiseExponential(Surrogate):
    """g = (alpha/2) exp(-alpha |x|). Primitive the Laplace CDF. Area 1, peak alpha/2. SpikingJelly, alpha 1."""

    alpha: float = 1.0

    def curve(self, x: Tensor) -> Tensor:
        return self.alpha / 2 * torch.exp(-self.alpha * x.abs())

    def step(self, x: Tensor) -> Tensor:
        return _laplace(self.alpha * x)


# ---- piecewise linear and constant


@dataclass(frozen=True)
class Rectangle(Surrogate):
    """g = height 1[|x| < width]. Primitive height (clamp(x, -width, width) + width). Area 2 width height, peak height.

    STBP (Wu et al. 2018), its first curve with a = 1; LISNN, BackEISNN: width 0.5, height 1. tdBN: height = 1/(2
    width). The clamp is of x, not of the product: clamp((x + width) height, 0, 1) is only right at area 1.
    """

    width: float = 0.5
    height: float = 1.0

    def curve(self, x: Tensor) -> Tensor:
        return torch.where(x.abs() < self.width, self.height, 0 * x)

    def step(self, x: Tensor) -> Tensor:
        return self.height * (x.clamp(-self.width, self.width) + self.width)

    @property
    def area(self) -> float:
        return 2 * self.width * self.height


def _tent(z: Tensor) -> Tensor:
    """Antiderivative of max(0, 1 - |z|), from 0 to 1."""
    z = z.clamp(-1, 1)
    return 0.5 + z - z * z.abs() / 2


@dataclass(frozen=True)
class Triangle(Surrogate):
    """g = max(0, gamma - |x|) / gamma^2. Primitive piecewise quadratic. Area 1, peak 1/gamma.

    TET (Deng et al. 2022, "ZIF"), gamma 1.
    """

    gamma: float = 1.0

    def curve(self, x: Tensor) -> Tensor:
        return (self.gamma - x.abs()).relu() / self.gamma**2

    def step(self, x: Tensor) -> Tensor:
        return _tent(x / self.gamma)


@dataclass(frozen=True)
class ScaledTriangle(Surrogate):
    """g = c max(0, 1 - |x|), x in units of theta, then over theta. Primitive piecewise quadratic. Area c, peak c.

    Bellec et al. 2018 and Rathi et al. 2020 ("Linear"), c 0.3. Written with u/theta their gradient for theta itself is
    -(u/theta) g; here it is -g, equal at threshold.
    """

    c: float = 0.3
    scale_by_threshold: bool = field(default=True, kw_only=True)

    def curve(self, x: Tensor) -> Tensor:
        return self.c * (1 - x.abs()).relu()

    def step(self, x: Tensor) -> Tensor:
        return self.c * _tent(x)

    @property
    def area(self) -> float:
        return self.c


@dataclass(frozen=True)
class QuadraticGate(Surrogate):
    """g = max(0, alpha - alpha^2 |x|). Primitive piecewise quadratic. Area 1, peak alpha.

    BrainCog, alpha 2; SpikingJelly's PiecewiseQuadratic, alpha 1. `Triangle` with gamma = 1/alpha.
    """

    alpha: float = 2.0

    def curve(self, x: Tensor) -> Tensor:
        return (self.alpha - self.alpha**2 * x.abs()).relu()

    def step(self, x: Tensor) -> Tensor:
        return _tent(self.alpha * x)


@dataclass(frozen=True)
class Polynomial(Surrogate):
    """g = max(0, sqrt(a)/2 - (a/4) |x|). Primitive piecewise quadratic. Area 1 for every a, peak sqrt(a)/2.

    The second curve of STBP (Wu et al. 2018), a 1. The paper multiplies by sign(2/sqrt(a) - |x|), which would grow
    without bound outside |x| < 2/sqrt(a); taken as the indicator. `QuadraticGate` with alpha = sqrt(a)/2.
    """

    a: float = 1.0

    def curve(self, x: Tensor) -> Tensor:
        return (self.a**0.5 / 2 - self.a / 4 * x.abs()).relu()

    def step(self, x: Tensor) -> Tensor:
        return _tent(self.a**0.5 / 2 * x)


# ---- tails that never end


@dataclass(frozen=True)
class TSSLLogistic(Surrogate):
    """g = e^z / ((1 + e^z)^2 width), z = clip(-x/width, -8, 8). Area infinite, peak 1/(4 width).

    TSSL-BP (Zhang and Li 2020), width 0.2: peak 1.25. The clip keeps g at 3.4e-4/width for all |x| > 8 width: the area
    is 0.9993 inside and infinite with those tails. Primitive: the sigmoid inside, straight lines of that slope outside.
    """

    width: float = 0.2

    def curve(self, x: Tensor) -> Tensor:
        e = (-x / self.width).clamp(-8, 8).exp()
        return e / ((1 + e) ** 2 * self.width)

    def step(self, x: Tensor) -> Tensor:
        z = x / self.width
        inside = z.clamp(-8, 8)
        return torch.sigmoid(inside) + (z - inside) * (math.exp(8) / (1 + math.exp(8)) ** 2)

    @property
    def area(self) -> float:
        return math.inf


@dataclass(frozen=True)
class StraightThrough(Surrogate):
    """g = 1. Primitive x. Area infinite, peak 1. BrainCog, snnTorch; Bengio et al. 2013."""

    def curve(self, x: Tensor) -> Tensor:
        return torch.ones_like(x)

    def step(self, x: Tensor) -> Tensor:
        return x.clone()

    @property
    def area(self) -> float:
        return math.inf


@dataclass(frozen=True)
class LogGate(Surrogate):
    """g = 1 / (1/alpha + |x|). Primitive sign(x) log(1 + alpha |x|). Area infinite, peak alpha.

    SpikingJelly's NonzeroSignLogAbs, alpha 1. (BrainCog documents this curve for its gate but computes 1[|x| <
    1/alpha], which is `Rectangle(width=1/alpha)`.)
    """

    alpha: float = 1.0

    def curve(self, x: Tensor) -> Tensor:
        return 1 / (1 / self.alpha + x.abs())

    def step(self, x: Tensor) -> Tensor:
        up, down = torch.log1p(self.alpha * x.clamp(min=0)), torch.log1p(-self.alpha * x.clamp(max=0))
        return torch.where(x < 0, -down, up)

    @property
    def area(self) -> float:
        return math.inf


@dataclass(frozen=True)
class S2NN(Surrogate):
    """g = alpha s (1 - s), s = sigmoid(alpha x), for x < 0; beta / (x + 1) for x >= 0. Area infinite, peak beta.

    S2NN (Suetake et al. 2022) and SpikingJelly, alpha 4, beta 1. Primitive s below 0, 1/2 + beta log(1 + x) above;
    g itself jumps at 0 unless beta = alpha/4.
    """

    alpha: float = 4.0
    beta: float = 1.0
    even: ClassVar[bool] = False

    def curve(self, x: Tensor) -> Tensor:
        s = torch.sigmoid(self.alpha * x)
        return torch.where(x < 0, self.alpha * s * (1 - s), self.beta / (1 + x.clamp(min=0)))

    def step(self, x: Tensor) -> Tensor:
        s = torch.sigmoid(self.alpha * x)
        return torch.where(x < 0, s, 0.5 + self.beta * torch.log1p(x.clamp(min=0)))

    @property
    def area(self) -> float:
        return math.inf


@dataclass(frozen=True)
class LeakyReLULike(Surrogate):
    """g = 1/width for |x| <= width, slope outside. Area infinite (2 inside), peak 1/width.

    SpikingJelly's PiecewiseLeakyReLU, width 1, slope 0.01. Primitive piecewise linear, from 0 at -width to 2 at width:
    SpikingJelly's own rises to 1 there and so has half the stated derivative.
    """

    width: float = 1.0
    slope: float = 0.01

    def curve(self, x: Tensor) -> Tensor:
        return torch.where(x.abs() <= self.width, 1 / self.width, self.slope + 0 * x)

    def step(self, x: Tensor) -> Tensor:
        inside = x.clamp(-self.width, self.width)
        return 1 + inside / self.width + self.slope * (x - inside)

    @property
    def area(self) -> float:
        return math.inf


# ---- no primitive: where a spike is


@dataclass(frozen=True)
class STDB(Surrogate):
    """g = alpha exp(-beta age), age = steps since this neuron's last spike (0: it spikes now). No primitive.

    Area infinite, since g does not depend on x; peak alpha. Spike-timing-dependent backpropagation, Rathi et al. 2020:
    alpha 0.3, beta 0.01; a neuron that never spiked has a large age, 1000 by their convention (1.36e-5); infinity gives
    0. The authors differentiate in units of theta: scale_by_threshold=True divides by theta as they do.
    """

    alpha: float = 0.3
    beta: float = 0.01
    timed: ClassVar[bool] = True

    def curve_at(self, x: Tensor, v_th: Any, age: Any, strict: bool) -> Tensor:
        if age is None:
            raise ConfigError("STDB: age is None, expected the steps since the last spike; pass age=")
        age = torch.as_tensor(age, dtype=x.dtype, device=x.device)
        return (self.alpha * torch.exp(-self.beta * age)).broadcast_to(x.shape)

    @property
    def area(self) -> float:
        return math.inf


@dataclass(frozen=True)
class SpikeOnlyThreshold(Surrogate):
    """g = 1/theta where the neuron spikes, 0 elsewhere. No primitive. Area infinite, peak 1 (0 if strict).

    Lee et al. 2020.
    """

    even: ClassVar[bool] = False

    def curve_at(self, x: Tensor, v_th: Any, age: Any, strict: bool) -> Tensor:
        return torch.where(_fired(x, strict), 1 / v_th, 0 * x)

    @property
    def area(self) -> float:
        return math.inf


@dataclass(frozen=True)
class SpikeOnlyPotential(Surrogate):
    """g = 1/u = 1/(x + theta) where the neuron spikes, 0 elsewhere. No primitive. Area infinite, peak 1 (0 if strict).

    BP-STA (BPSA). Needs theta > 0, so that a spiking u is above 0.
    """

    even: ClassVar[bool] = False

    def curve_at(self, x: Tensor, v_th: Any, age: Any, strict: bool) -> Tensor:
        return torch.where(_fired(x, strict), 1 / (x + v_th), 0 * x)

    @property
    def area(self) -> float:
        return math.inf


@dataclass(frozen=True)
class SpikeOnly(Surrogate):
    """g = 1 where the neuron spikes, 0 elsewhere. No primitive. Area infinite, peak 1 (0 if strict).

    BrainCog's StdpGrad.
    """

    even: ClassVar[bool] = False

    def curve_at(self, x: Tensor, v_th: Any, age: Any, strict: bool) -> Tensor:
        return torch.where(_fired(x, strict), 1.0, 0 * x)

    @property
    def area(self) -> float:
        return math.inf


# ---- wrappers


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
        return _HardValue.apply(self.primitive(x, _constant(v_th, x)), x, strict)

    def extra_repr(self) -> str:
        return repr(self.current())


def _require_primitive(owner: str, inner: Any) -> None:
    if not isinstance(inner, Surrogate):
        raise ConfigError(f"{owner}: inner is {inner!r}, expected a surrogate; pass for example ATan()")
    if not inner.has_primitive:
        raise ConfigError(f"{owner}: {type(inner).__name__} has no smooth primitive; wrap one that has, such as ATan()")


def catalogue() -> list[type[Surrogate]]:
    """Every surrogate there is, in order of definition; each can be built without arguments."""

    def below(parent: type[Surrogate]) -> list[type[Surrogate]]:
        return [entry for child in parent.__subclasses__() for entry in (child, *below(child))]

    return [entry for entry in below(Surrogate) if entry is not Smooth]


def names() -> list[str]:
    """The entries' class names, as the command line spells them."""
    return [entry.__name__ for entry in catalogue()]
