"""Synaptic delays: what arrives at a layer, each input after a time of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spikewright.clock import State, Temporal
from spikewright.errors import ConfigError, whole
from spikewright.kernels import block_of

__all__ = ["SynapticDelay"]


class SynapticDelay(Temporal):
    """Every input of every output neuron later by a delay of its own: out[t, k * inputs + i] = x[t - d[k, i], i].

    Delays are kept as fractional steps, in the buffer `steps` [outputs, inputs], and act rounded. With
    `nn.Unflatten(1, (outputs * inputs, 1))` and `nn.Conv1d(outputs * inputs, outputs, 1, groups=outputs)` behind it, it
    makes a dense layer whose synapses have delays.

    Args:
        inputs: values of a step; 1 stands for any number of them with the same delay.
        outputs: neurons that have delays of their own.
        longest: longest delay, steps; inputs are kept that long.
        initial: delay of all synapses, steps, 0 .. longest.
    """

    steps: Tensor

    def __init__(self, inputs: int = 1, outputs: int = 1, longest: int = 100, initial: float = 0.0):
        super().__init__()
        for name, value in (("inputs", inputs), ("outputs", outputs), ("longest", longest)):
            whole("SynapticDelay", name, value)
        if not (math.isfinite(initial) and 0 <= initial <= longest):
            raise ConfigError(f"SynapticDelay: initial is {initial}, expected steps from 0 to {longest}")
        self.inputs, self.outputs, self.longest, self.initial = inputs, outputs, longest, initial
        self.register_buffer("steps", torch.full((outputs, inputs), float(initial)))

    def run(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """[T, B, inputs] -> ([T, B, outputs * inputs], the last `longest` inputs [longest, B, inputs])."""
        x = block_of(current)
        before = x.new_zeros(self.longest, *x.shape[1:]) if state is None else state
        known = torch.cat([before, x])
        now = torch.arange(self.longest, len(known), device=x.device)
        out = []
        for row in self.steps.round().long():
            if len(row) == 1:
                out.append(known[now - row])
            else:
                at = (now[:, None] - row).view(len(now), *[1] * (x.dim() - 2), -1)
                out.append(known.gather(0, at.expand(x.shape)))
        return torch.cat(out, -1).to(current.dtype), known[-self.longest :] + 0 * x.sum(0)

    def extra_repr(self) -> str:
        return f"inputs={self.inputs}, outputs={self.outputs}, longest={self.longest}, initial={self.initial:g}"
