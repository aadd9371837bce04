"""What shifts a signal in time or starts it off: a delay of a step, a charge before the first."""

from __future__ import annotations

import torch
from torch import Tensor

from spikewright.clock import State, Temporal
from spikewright.kernels import block_of

__all__ = ["Charge", "Delay"]


class Delay(Temporal):
    """Hands on at step t what it got at step t - 1, and nothing at the first: a synaptic delay of one step."""

    def run(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """[T, B, ...] -> [T, B, ...]; the state is the value kept back [B, ...]."""
        x = block_of(current)
        kept = torch.zeros_like(x[0]) if state is None else state
        whole = torch.cat([kept[None], x])
        return whole[:-1].to(current.dtype), whole[-1] + (0 * x).sum(0)  # what was not finite stays to be seen


class Charge(Temporal):
    """Adds a charge to each neuron's current at the first step: the initial potential of a perfect integrator.

    Args:
        shape: of one sample's current; the charges, a buffer of that shape, start at 0.
    """

    charge: Tensor

    def __init__(self, shape: tuple[int, ...] = ()) -> None:
        super().__init__()
        self.shape = tuple(shape)
        self.register_buffer("charge", torch.zeros(self.shape))

    def run(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """[T, B, *shape] -> [T, B, *shape]; the state, zeros (or what was not finite), says that it has begun."""
        x = block_of(current)
        begun = torch.zeros_like(x[0]) if state is None else state
        if state is None:
            x = torch.cat([x[:1] + self.charge, x[1:]])
        return x.to(current.dtype), begun + (0 * x).sum(0)

    def extra_repr(self) -> str:
        return f"{self.shape}"
