"""Filtered synapses: layers that hand on currents instead of spikes. Put one in front of (or behind) a neuron."""

from __future__ import annotations

from torch import Tensor

from spikewright.clock import State, Temporal
from spikewright.errors import expect
from spikewright.kernels import block_of
from spikewright.neurons.filters import low_pass
from spikewright.neurons.parts import Leak

__all__ = ["DoubleExponential", "Synapse"]


class Synapse(Temporal):
    """First-order synapse a[t] = decay * a[t-1] + gain * x[t].

    `Synapse(ExactJump(tau_s))` is the exponential current of a spike, `Synapse(Euler(tau_s))` the low-pass of TSSL-BP
    (unit area).
    """

    def __init__(self, leak: Leak):
        super().__init__()
        self.leak = expect("Synapse", "leak", leak, Leak)

    def run(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """[T, B, ...] -> (filtered [T, B, ...], last value [B, ...])."""
        decay, gain = self.leak.coefficients()
        return low_pass(current, state, decay=decay, gain=gain)

    def extra_repr(self) -> str:
        return f"{self.leak}"


class DoubleExponential(Temporal):
    """Two first-order synapses in a row: kernel (a^(n+1) - b^(n+1)) / (a - b) for decays a != b, (n + 1) a^n for equal
    ones (the alpha kernel on the grid), times both gains."""

    def __init__(self, rise: Leak, fall: Leak):
        super().__init__()
        self.rise = expect("DoubleExponential", "rise", rise, Leak)
        self.fall = expect("DoubleExponential", "fall", fall, Leak)

    def run(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """[T, B, ...] -> (filtered [T, B, ...], the two filters' last values)."""
        first, second = state or (None, None)
        decay, gain = self.rise.coefficients()
        x, first = low_pass(block_of(current), first, decay=decay, gain=gain)
        decay, gain = self.fall.coefficients()
        x, second = low_pass(x, second, decay=decay, gain=gain)
        return x.to(current.dtype), (first, second)

    def extra_repr(self) -> str:
        return f"rise={self.rise}, fall={self.fall}"
