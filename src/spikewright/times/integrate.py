"""Neurons without leak: one spike each, its time known in event order."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spikewright.errors import NumericError, positive
from spikewright.times import loops
from spikewright.times.layer import Dense, array, backward
from spikewright.times.threads import TILE, spread

__all__ = ["BinaryIF", "Causal", "ExponentialIF", "InstantIF", "RampIF"]


class InstantIF(Dense):
    """Integrate and fire with instantaneous synapses (S4NN, Kheradpisheh & Masquelier 2020).

    V_j(t) = sum_i w_ji [t_i <= t]; the neuron fires `latency` after the first t with V_j(t) > v_th, at most once.
    Backward, the paper's approximation with the slope of V replaced by 1: dt_j/dw_ji = -[t_i < t_j] and
    dt_j/dt_i = w_ji [t_i < t_j]; a silent neuron counts as one that fires at the end, T.

    Args:
        in_features, out_features: inputs and neurons.
        v_th: threshold.
        latency: steps between crossing and spike (1 in the authors' code).
        normalize: give the gradient handed down, sample by sample, the norm of the one that came.
        ahead: hand it down through the weights after a descent of this size along the sample's own gradient (the
            authors' order: they update first). This makes inputs of neurons in error fire a little earlier.
        late: give a silent neuron the time T + (v_th - V) / v_th instead of infinity, V the potential it ended with: it
            has not fired, but a `FirstSpike(late=True)` can tell which output came closest.
        straight: the jump of V at an input takes `latency` steps, in a straight line, and the spike comes when the line
            crosses v_th: neurons that cross at the same input fire at different times, the stronger jump first.
        factor: on the gradient handed down where it is not normalized.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        v_th: float = 100.0,
        latency: float = 1.0,
        normalize: bool = True,
        ahead: float = 0.0,
        late: bool = False,
        straight: bool = False,
        factor: float = 1.0,
    ):
        super().__init__(in_features, out_features)
        self.v_th = positive(type(self).__name__, "v_th", v_th)
        self.latency = positive(type(self).__name__, "latency", latency, zero=True)
        self.normalize, self.ahead, self.late, self.straight = normalize, ahead, late, straight
        self.factor = positive(type(self).__name__, "factor", factor)
        nn.init.uniform_(self.weight, 0, 20 * v_th / in_features)

    def fire(self, times: np.ndarray, weight: np.ndarray, steps: int) -> tuple[np.ndarray, Any]:
        return self._fire(times, weight, self.v_th, steps)

    def _fire(self, times: np.ndarray, weight: np.ndarray, v_th: float, steps: int) -> tuple[np.ndarray, Any]:
        batch, neurons = len(times), weight.shape[1]
        order, counts = np.empty(times.shape, np.int32), np.empty(batch, np.int64)
        out = np.empty((batch, neurons), times.dtype)
        spread(loops.sort, batch, times.size, times, float(steps), order, counts)
        v_th, latency, end = (weight.dtype.type(x) for x in (v_th, self.latency, steps))
        arguments = (times, weight, v_th, latency, end, self.late, self.straight, order, counts, out)
        spread(loops.instant_forward, neurons, times.size * neurons / 4, *arguments, tile=TILE)
        return out, (order, counts)

    def adjoint(
        self, g: np.ndarray, times: np.ndarray, weight: np.ndarray, steps: int, out: np.ndarray, kept: Any, below: bool
    ) -> tuple[np.ndarray | None, np.ndarray]:
        order, counts = kept
        arguments = (order, counts, out, g, float(steps), g.dtype.type(self.ahead))
        down, dweight = backward(loops.instant_backward, times, weight, below, *arguments)
        if below and self.normalize:
            came, goes = np.linalg.norm(g, axis=1), np.linalg.norm(down, axis=1)
            down *= (came / np.where(goes > 0, goes, 1))[:, None]
        elif below:
            down *= self.factor
        return down, dweight

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, v_th={self.v_th:g}"


class BinaryIF(InstantIF):
    """InstantIF whose weights act by their sign alone, all scaled by one number a (BS4NN, Kheradpisheh et al. 2022).

    Forward, a sign(w) in place of w, sign(0) = 1. The real weights take the gradient of the signs (straight through)
    and, in the authors' code, hand the error down; da = mean over all synapses of dw sign(w).

    Args:
        scale: a at the beginning.
        scale_rate: factor on a's gradient, its learning rate over that of the weights.
        signed: hand the error down through a sign(w), the weights that act, instead of the real ones.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        v_th: float = 100.0,
        latency: float = 1.0,
        normalize: bool = True,
        ahead: float = 0.0,
        late: bool = False,
        straight: bool = False,
        scale: float = 5.0,
        scale_rate: float = 0.1,
        signed: bool = False,
    ):
        super().__init__(in_features, out_features, v_th, latency, normalize, ahead, late, straight)
        self.scale, self.scale_rate, self.signed = positive(type(self).__name__, "scale", scale), scale_rate, signed
        self.a = nn.Parameter(torch.tensor(float(scale)))

    def effective(self) -> Tensor:
        signs: Tensor = _Signs.apply(self.weight, self.a, self.scale_rate)
        return signs

    def fire(self, times: np.ndarray, weight: np.ndarray, steps: int) -> tuple[np.ndarray, Any]:
        scale = float(self.a.detach())
        if scale <= 0:
            raise NumericError(f"BinaryIF: the scale has fallen to {scale:g}: lower the learning rate")
        return self._fire(times, weight, self.v_th / scale, steps)  # sums of signs are exact, those of a sign(w) not

    def adjoint(
        self, g: np.ndarray, times: np.ndarray, weight: np.ndarray, steps: int, out: np.ndarray, kept: Any, below: bool
    ) -> tuple[np.ndarray | None, np.ndarray]:
        through = weight if self.signed else array(self.weight.t()).astype(weight.dtype, copy=False)
        down, dweight = super().adjoint(g, times, through, steps, out, kept, below)
        if down is not None and self.signed and not self.normalize:
            down *= float(self.a.detach())
        return down, dweight


class _Signs(torch.autograd.Function):
    """sign(w); the gradient goes straight through to w, and `rate` times the mean of its product with sign(w) to a."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, a: Tensor, rate: float) -> Tensor:  # type: ignore[override]
        signs = torch.ones_like(weight).copysign_(weight + 0)  # + 0: -0 counts as 0
        ctx.save_for_backward(signs)
        ctx.rate = rate
        return signs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        (signs,) = ctx.saved_tensors
        return grad, ctx.rate / signs.numel() * (grad * signs).sum(), None


class Causal(Dense):
    """Base of neurons whose potential is a straight line in some x(t) between events.

    With S = sum_C w - below over the causal set C, x_j = (above + sum_C w x) / S; C is the shortest prefix of the
    events, in their order, whose x_j comes before the next event. Exact gradients: dx_j/dw_ji = (x_i - x_j) / S,
    dx_j/dx_i = w_ji / S in C. A neuron without such a set before the end is silent and has no gradient.

    Args:
        in_features, out_features: inputs and neurons.
        v_th: threshold.
        lift: gradient -lift for all weights of a neuron whose weights, summed up, could never make it fire.
        reserve: or exceed by less than reserve * v_th what could.
    """

    def __init__(self, in_features: int, out_features: int, v_th: float = 1.0, lift: float = 0.0, reserve: float = 0.0):
        super().__init__(in_features, out_features)
        name = type(self).__name__
        self.v_th = positive(name, "v_th", v_th)
        self.lift = positive(name, "lift", lift, zero=True)
        self.reserve = positive(name, "reserve", reserve, zero=True)

    least = 0.0  # what the weights must sum up to, in units of v_th

    def line(self, times: np.ndarray) -> np.ndarray:
        """x(t)."""
        raise NotImplementedError

    def time(self, x: np.ndarray) -> np.ndarray:
        """t(x)."""
        raise NotImplementedError

    def slope(self, x: np.ndarray) -> np.ndarray:
        """dx/dt, from x."""
        raise NotImplementedError

    def fire(self, times: np.ndarray, weight: np.ndarray, steps: int) -> tuple[np.ndarray, Any]:
        x = self.line(times)
        shape = (len(times), weight.shape[1])
        order, counts = np.empty(times.shape, np.int32), np.empty(len(times), np.int64)
        out, size, slope = np.empty(shape, x.dtype), np.empty(shape, np.int32), np.empty(shape, x.dtype)
        above, below = self.v_th * (1 - self.least), self.v_th * self.least
        limit = float(self.line(np.full(1, steps, x.dtype))[0])
        spread(loops.sort, len(times), times.size, x, limit, order, counts)
        arguments = (x, weight, above, below, limit, order, counts, out, size, slope)
        spread(loops.causal_forward, weight.shape[1], times.size * weight.shape[1] / 2, *arguments, tile=TILE)
        return self.time(out), (x, out, order, size, slope)

    def adjoint(
        self, g: np.ndarray, times: np.ndarray, weight: np.ndarray, steps: int, out: np.ndarray, kept: Any, below: bool
    ) -> tuple[np.ndarray | None, np.ndarray]:
        x, x_out, order, size, slope = kept
        gx = np.divide(g, self.slope(x_out), out=np.zeros_like(g), where=size > 0)
        down, dweight = backward(loops.causal_backward, x, weight, below, order, x_out, size, slope, gx)
        if down is not None:
            down *= np.where(np.isfinite(x), self.slope(x), 0)
        if self.lift:
            dweight[:, weight.sum(0) <= (self.least + self.reserve) * self.v_th] -= self.lift
        return down, dweight

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, v_th={self.v_th:g}"


class ExponentialIF(Causal):
    """Integrate and fire without leak, with exponential synaptic currents (Mostafa 2017).

    tau_s dV/dt = sum_i w_i exp(-(t - t_i) / tau_s) for t > t_i; with z = exp(t / tau_s) the first spike is
    z_j = sum_C w z / (sum_C w - v_th).

    Args:
        in_features, out_features: inputs and neurons.
        v_th: threshold.
        lift: the weight of the cost lift * max(0, (1 + reserve) v_th - sum_i w_ji) of every neuron, which enters the
            gradient alone.
        tau_s: synaptic time constant, steps.
        reserve: see lift; the paper's cost has none.
    """

    least = 1.0

    def __init__(
        self,
        in_features: int,
        out_features: int,
        v_th: float = 1.0,
        lift: float = 0.0,
        tau_s: float = 10.0,
        reserve: float = 0.0,
    ):
        super().__init__(in_features, out_features, v_th, lift, reserve)
        self.tau_s = positive(type(self).__name__, "tau_s", tau_s)

    def line(self, times: np.ndarray) -> np.ndarray:
        return np.exp(times / times.dtype.type(self.tau_s))

    def time(self, x: np.ndarray) -> np.ndarray:
        return np.log(x) * x.dtype.type(self.tau_s)

    def slope(self, x: np.ndarray) -> np.ndarray:
        return x / x.dtype.type(self.tau_s)


class RampIF(Causal):
    """Integrate and fire without leak, with linear responses: V(t) = sum_i w_i (t - t_i) for t > t_i.

    The first spike is t_j = (v_th + sum_C w t) / sum_C w. A reconstruction of MT-Spike's average delay response (Liu
    et al. 2017), whose equations are not public.
    """

    def line(self, times: np.ndarray) -> np.ndarray:
        return times

    def time(self, x: np.ndarray) -> np.ndarray:
        return x

    def slope(self, x: np.ndarray) -> np.ndarray:
        return np.ones_like(x)
