"""The time loops. `reference` is the definition; a fused kernel takes its place wherever one serves, and equals it.

Set SPIKEWRIGHT_KERNELS=reference in the environment to run the definition everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spikewright.kernels import fused, reference
from spikewright.kernels.reference import block_of, low_pass, raised

if TYPE_CHECKING:
    from spikewright.neurons.parts import Reset
    from spikewright.surrogate import Learnable, Surrogate

__all__ = ["block_of", "integrate_and_fire", "low_pass", "raised"]


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
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The update of integrate-and-fire neurons over a block of steps; `reference.integrate_and_fire` defines it.

    Args:
        pool: hand on means over windows of pool x pool spikes of a [T, B, C, H, W] block, not the spikes.
        dtype: of what is handed on; the current's by default.
    """
    block_of(current)
    dtype = current.dtype if dtype is None else dtype
    how: dict[str, Any] = {
        "decay": decay,
        "gain": gain,
        "v_th": v_th,
        "v_init": v_init,
        "reset": reset,
        "surrogate": surrogate,
        "strict": strict,
        "pool": pool,
        "dtype": dtype,
    }
    done = fused.integrate_and_fire(current, state, **how)
    return reference.integrate_and_fire(current, state, **how) if done is None else done
