"""What shifts a signal in time or starts it off: a delay of a step, a charge before the first."""

from __future__ import annotations

import torch
from torch import Tensor

from spikewright.clock import State, Temporal
from spikewright.errors import whole
from spikewright.kernels import block_of

__all__ = ["Charge", "Delay", "Once"]


class Delay(Temporal):
    """Hands on at step t what it got at step t - `steps`, and nothing before: a synaptic delay.

    Args:
        steps: at least 1.
    """

    def __init__(self, steps: int = 1) -> None:
        super().__init__()
        whole("Delay", "steps", steps)
        self.steps = steps

    def run(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """[T, B, ...] -> [T, B, ...]; the state is what is kept back [steps, B, ...]."""
        x = block_of(current)
        kept = x.new_zeros(self.steps, *x.shape[1:]) if state is None else state
        whole = torch.cat([kept, x])
        left = whole[len(x) :]
        return whole[: len(x)].to(current.dtype), left + (0 * x).sum(0)  # what was not finite stays to be seen

    def extra_repr(self) -> str:
        return f"{self.steps}"


class Once(Temporal):
    """Lets the first step through and hands on zeros afterwards: an input that is read a single time."""

    def run(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """[T, B, ...] -> [T, B, ...]; the state, zeros (or what was not finite), says that the first step is over."""
        x = block_of(current)
        past = torch.zeros_like(x[0]) if state is None else state
        first = x[:1] if state is None else torch.zeros_like(x[:1])
        out = torch.cat([first, torch.zeros_like(x[1:])])
        return out.to(current.dtype), past + (0 * x).sum(0)


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
