"""First-order filters, compiled where that serves; `kernels.low_pass` is the definition."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

from spikewright import kernels

__all__ = ["low_pass"]


def low_pass(
    current: Tensor, state: Tensor | None, *, decay: float | Tensor, gain: float | Tensor
) -> tuple[Tensor, Tensor]:
    """As `kernels.low_pass`, bit for bit: a[t] = decay a[t-1] + gain current[t], [T, B, ...] with state a [B, ...].

    On a CPU with constants that are numbers one compiled loop runs all steps, and one more, backwards in time, is its
    gradient.
    """
    x = kernels.block_of(current)
    plain = type(current) in (Tensor, torch.nn.Parameter) and x.dtype in (torch.float32, torch.float64)
    if isinstance(decay, Tensor) or isinstance(gain, Tensor) or not plain or x.device.type != "cpu":
        return kernels.low_pass(current, state, decay=decay, gain=gain)
    out, last = _LowPass.apply(x, x.new_zeros(x.shape[1:]) if state is None else state, decay, gain)
    return out.to(current.dtype), last


class _LowPass(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, a: Tensor, decay: float, gain: float) -> tuple[Tensor, Tensor]:
        ctx.constants = decay, gain
        out, last = torch.empty(x.shape, dtype=x.dtype), a.clone(memory_format=torch.contiguous_format)
        cast = np.float32 if x.dtype == torch.float32 else np.float64
        rows = (t.contiguous().view(len(x), -1).numpy() for t in (x.detach(), out))
        x_rows, out_rows = rows
        _filter(x_rows, out_rows, last.view(-1).numpy(), cast(decay), cast(gain))
        return out, last

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # The gradient runs the same filter backwards: r[t] = g[t] + decay r[t+1].
        decay, gain = ctx.constants
        g, last = grads
        r, _ = low_pass(torch.cat([g[:-1], (g[-1] + last)[None]]).flip(0), None, decay=decay, gain=1.0)
        r = r.flip(0)
        return gain * r, decay * r[0], None, None


@njit(cache=True)
def _filter(x, out, a, decay, gain):  # type: ignore[no-untyped-def]
    for t in range(x.shape[0]):
        for i in range(x.shape[1]):
            a[i] = decay * a[i] + gain * x[t, i]
            out[t, i] = a[i]
