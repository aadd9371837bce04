"""What layers of spike times have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spikewright.clock import Clock, finite
from spikewright.errors import ConfigError, NumericError, whole
from spikewright.kernels import raised
from spikewright.times.threads import TILE, spread

__all__ = ["Dense", "Timed", "array", "backward"]

Loop = Callable[..., None]


class Timed(nn.Module):
    """A module that maps spike times to spike times. Subclasses write `run`; the horizon T comes from the clock.

    `spikes`: whether what it hands on are spikes of neurons of its own, to be counted. `rasters`: whether it hands on
    a raster [T*B, ...] instead of times.
    """

    spikes: ClassVar[bool] = False
    rasters: ClassVar[bool] = False

    def run(self, times: Tensor, steps: int) -> Tensor:
        """times [B, N] or [B, K, N], infinity for none -> the same; a spike at `steps` or later has not happened."""
        raise NotImplementedError

    def forward(self, times: Tensor) -> Tensor:
        """Times in, times out, inside the forward of an `SNN`."""
        clock = Clock.running(self)
        if not all(finite(p) for p in self.parameters(recurse=False)):
            clock.saw(self, False)
            clock.check()
        return self.run(times, clock.steps)


class Dense(Timed):
    """Base of the layers in which every input reaches every neuron by a weight: [B, N] or [B, K, N] -> [B, M].

    Subclasses write `fire` and `adjoint` on arrays; `weight` [M, N] lies in memory as its transpose, because an event
    takes the weights of one input.

    Args:
        in_features, out_features: N inputs, M neurons.
    """

    spikes = True

    def __init__(self, in_features: int, out_features: int):
        super().__init__()
        for name, value in (("in_features", in_features), ("out_features", out_features)):
            whole(type(self).__name__, name, value)
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(in_features, out_features).t())
        nn.init.uniform_(self.weight, 0, 4 / in_features)

    def fire(self, times: np.ndarray, weight: np.ndarray, steps: int) -> tuple[np.ndarray, Any]:
        """times [B, K*N], weight [N, M] -> (out, what the adjoint needs)."""
        raise NotImplementedError

    def adjoint(
        self, g: np.ndarray, times: np.ndarray, weight: np.ndarray, steps: int, out: np.ndarray, kept: Any, below: bool
    ) -> tuple[np.ndarray | None, np.ndarray]:
        """Gradient of out -> (gradient of times if `below`, gradient of weight [N, M])."""
        raise NotImplementedError

    def effective(self) -> Tensor:
        """The weights that act, [M, N]."""
        return self.weight

    def run(self, times: Tensor, steps: int) -> Tensor:
        if not (isinstance(times, Tensor) and times.is_floating_point() and times.dim() in (2, 3)):
            found = f"{times.dtype} {tuple(times.shape)}" if isinstance(times, Tensor) else type(times).__name__
            raise ConfigError(f"{type(self).__name__} takes floating-point times [B, N] or [B, K, N], found {found}")
        if times.shape[-1] != self.in_features:
            raise ConfigError(
                f"{type(self).__name__} takes {self.in_features} inputs, found times of shape {tuple(times.shape)}"
            )
        if times.isnan().any():
            raise NumericError(f"times handed to {type(self).__name__} are NaN: look at the layer before it")
        out: Tensor = _Events.apply(times, self.effective(), self, steps)
        return out

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}"


class _Events(torch.autograd.Function):
    """A dense layer's event loop with its own backward, on the CPU, in float32 or float64."""

    @staticmethod
    def forward(ctx: Any, times: Tensor, weight: Tensor, layer: Dense, steps: int) -> Tensor:  # type: ignore[override]
        t = array(raised(times).flatten(1))
        w = array(weight.t()).astype(t.dtype, copy=False)
        out, ctx.kept = layer.fire(t, w, steps)
        ctx.layer, ctx.steps, ctx.arrays = layer, steps, (t, w, out)
        ctx.shape, ctx.like = times.shape, (times.dtype, weight.dtype, weight.device)
        return torch.from_numpy(out).to(times.device, times.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor, None, None]:  # type: ignore[override]
        t, w, out = ctx.arrays
        below = ctx.needs_input_grad[0]
        g = array(raised(grad)).astype(t.dtype, copy=False)
        dt, dw = ctx.layer.adjoint(g, t, w, ctx.steps, out, ctx.kept, below)
        dtype, of_weight, device = ctx.like
        down = None if dt is None else torch.from_numpy(dt).to(device, dtype).view(ctx.shape)
        return down, torch.from_numpy(dw).t().to(device, of_weight), None, None


def array(x: Tensor) -> np.ndarray:
    """Its numbers in one piece of memory, no part of the graph."""
    return x.detach().contiguous().cpu().numpy()


def backward(loop: Loop, times: np.ndarray, weight: np.ndarray, below: bool, *arguments: Any) -> Any:
    """Share a backward out by neurons: loop(part, lo, hi, times, weight, *arguments, dweight, dtimes, below)."""
    parts = max(1, torch.get_num_threads()) if below else 1
    dweight = np.zeros_like(weight)
    dtimes = np.zeros((parts, *times.shape), times.dtype) if below else np.zeros((1, 1, 1), times.dtype)
    work = times.size * weight.shape[1]
    spread(loop, weight.shape[1], work, times, weight, *arguments, dweight, dtimes, below, tile=TILE)
    return (dtimes.sum(0) if below else None), dweight
