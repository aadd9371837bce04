"""Neurons told by what one step does."""

from __future__ import annotations

import torch
from torch import Tensor

from spikewright.clock import State, Temporal
from spikewright.errors import expect
from spikewright.kernels import block_of
from spikewright.surrogate import Learnable, Surrogate

__all__ = ["Stepwise"]


class Stepwise(Temporal):
    """Base of neurons that run step by step. Subclasses write `rest` and `step`; the first tensor of their state is
    the membrane potential.

    Args:
        surrogate: the derivative used for the spike in the backward pass.
    """

    spikes = True

    def __init__(self, surrogate: Surrogate | Learnable):
        super().__init__()
        learned = isinstance(surrogate, Learnable)
        self.surrogate = surrogate if learned else expect(type(self).__name__, "surrogate", surrogate, Surrogate)

    def rest(self, x: Tensor) -> tuple[Tensor, ...]:
        """The state at rest of neurons like x [B, ...]."""
        raise NotImplementedError

    def step(self, current: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One step: (current [B, ...], state) -> (spikes [B, ...], state)."""
        raise NotImplementedError

    def run(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """current [T, B, ...] -> (spikes [T, B, ...], state)."""
        x = block_of(current)
        state = self.rest(x[0]) if state is None else state
        out = []
        for i in x.unbind(0):
            s, (v, *others) = self.step(i, state)
            state = (v + 0 * i, *others)  # a current that is NaN or infinite leaves its mark
            out.append(s)
        return torch.stack(out).to(current.dtype), state
