"""The time loops in plain torch: the definition every faster path is tested against, forward and backward.

Membranes are kept in at least float32 (a half-precision current is raised on entry); outputs come back in the
current's dtype. Gradients are autograd's through these very lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from spikewright.errors import ConfigError

if TYPE_CHECKING:
    from spikewright.neurons.parts import Reset
    from spikewright.surrogate import Learnable, Surrogate

__all__ = ["block_of", "integrate_and_fire", "low_pass", "pooled", "raised"]

NEVER = 1000.0  # age of a neuron that has not fired yet, in steps (STDB's convention)


def raised(x: Tensor) -> Tensor:
    """x in at least float32, the least precision for membranes and scores."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def block_of(current: Tensor) -> Tensor:
    """A block of steps [T, B, ...] in at least float32; ConfigError if it is none."""
    if not (isinstance(current, Tensor) and current.is_floating_point() and current.dim() >= 2 and len(current)):
        found = f"{current.dtype} {tuple(current.shape)}" if isinstance(current, Tensor) else type(current).__name__
        raise ConfigError(
            f"a block of steps is a floating-point tensor [T, B, ...] with T of at least 1, found {found}"
        )
    return raised(current)


def integrate_and_fire(
    current: Tensor,
    state: tuple[Tensor, ...] | None,
    *,
    decay: float | Tensor,
    gain: float | Tensor,
    v_th: float | Tensor,
    v_init: float | Tensor,
    reset: Reset,
    surrogate: Surrogate | Learnable,
    strict: bool,
    pool: int = 0,
    dtype: torch.dtype | None = None,
    keep: bool = True,
) -> tuple[Tensor, Any]:
    """Leaky or perfect integration, threshold, reset:

        u[t] = decay * v[t-1] + gain * current[t]
        s[t] = H(u[t] - v_th)           (>= 0, or > 0 if strict)
        v[t] = reset(u[t], s[t])

    A current that is NaN or infinite leaves NaN (a kernel perhaps infinity) in the membrane for ever, so a look at the
    last state tells.

    Shapes: current [T, B, ...] -> spikes [T, B, ...]; state is (v [B, ...],), and (v, age) when the surrogate depends
    on the steps since the neuron's last spike.

    Args:
        pool: hand on means over windows of pool x pool spikes of a [T, B, C, H, W] block, not the spikes.
        dtype: of what is handed on; the current's by default.
        keep: hand the last state back; without it whether it is finite may come in its place.
    """
    x = block_of(current)
    v, *rest = state or (x.new_zeros(x.shape[1:]) + v_init,)
    age = rest[0] if rest else torch.full_like(v, NEVER) if surrogate.timed else None
    spikes = []
    for i in x.unbind(0):
        u = decay * v + gain * i
        over = u - v_th
        if age is not None:
            fired = over > 0 if strict else over >= 0
            age = torch.where(fired, torch.zeros_like(age), age + 1)
        s = surrogate.spike(over, v_th, strict, age)
        v = reset(u, s, v_th, decay) + 0 * i
        spikes.append(s)
    left = (v,) if age is None else (v, age)
    out = torch.stack(spikes)
    return (pooled(out, pool) if pool else out).to(dtype or current.dtype), left


def pooled(spikes: Tensor, pool: int) -> Tensor:
    """Means over windows of pool x pool: [T, B, C, H, W] -> [T, B, C, H // pool, W // pool]."""
    return avg_pool2d(spikes.flatten(0, 1), pool).unflatten(0, spikes.shape[:2])


def low_pass(
    current: Tensor, state: Tensor | None, *, decay: float | Tensor, gain: float | Tensor
) -> tuple[Tensor, Tensor]:
    """First-order filter a[t] = decay * a[t-1] + gain * current[t]: [T, B, ...] -> [T, B, ...], state a [B, ...]."""
    x = block_of(current)
    a = x.new_zeros(x.shape[1:]) if state is None else state
    out = []
    for i in x.unbind(0):
        a = decay * a + gain * i
        out.append(a)
    return torch.stack(out).to(current.dtype), a
