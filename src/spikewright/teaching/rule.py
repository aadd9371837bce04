"""A teaching rule out of its parts: events, kernel, and what is done to the weights around them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from spikewright.errors import ConfigError
from spikewright.teaching.delays import DelayRule
from spikewright.teaching.events import Difference, Events
from spikewright.teaching.kernels import Exponential, Kernel
from spikewright.teaching.pairs import spikes_of, sums

__all__ = ["Rule"]


@dataclass(frozen=True)
class Rule:
    """dw[k, i] = sum over the events e of neuron k of e (bias + sum over the spikes j of input i of kernel(t_e - t_j)).

    Args:
        events: where a neuron's weights change.
        kernel: what each input spike is worth there.
        bias: the non-Hebbian term a, which moves all weights of a neuron alike and so its mean rate.
        signed: multiply by the weight's sign and never let it cross 0: excitatory and inhibitory synapses stay what
            they are.
        by_fan_in: divide by the number of inputs (Multi-ReSuMe).
        delays: how synaptic delays move, for a network that has them.
    """

    events: Events = field(default_factory=Difference)
    kernel: Kernel = field(default_factory=lambda: Exponential(7.0))
    bias: float = 0.0
    signed: bool = False
    by_fan_in: bool = False
    delays: DelayRule | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.bias):
            raise ConfigError(f"Rule: bias is {self.bias}, expected a finite number")

    def change(self, weight: Tensor, inputs: Tensor, events: Tensor) -> Tensor:
        """Mean weight change of a batch: weight [K, N], inputs [T, B, G * N], events [T, B, K] -> [K, N].

        G is 1 for a dense layer; where every neuron has inputs of its own (delayed copies) it is K.
        """
        neurons, fan_in = weight.shape
        groups = inputs.shape[-1] // fan_in
        total = np.zeros((neurons, fan_in))
        for g in range(groups):
            mine = slice(g, g + 1) if groups > 1 else slice(None)
            chosen = spikes_of(events[..., mine])
            if len(chosen.steps):
                presynaptic = spikes_of(inputs[..., g * fan_in : (g + 1) * fan_in])
                total[mine] = sums(chosen, presynaptic, self.kernel, total[mine].shape)
        found = torch.from_numpy(total).to(weight) + self.bias * events.sum((0, 1))[:, None].to(weight)
        found /= events.shape[1] * (fan_in if self.by_fan_in else 1)
        return found * weight.sign() if self.signed else found

    def below(self, weight: Tensor, events: Tensor) -> Tensor:
        """Events of the layer underneath: each neuron's share of those above it, by |w|; [T, B, K] -> [T, B, N]."""
        return events @ weight.abs() / (weight.shape[1] if self.by_fan_in else 1)

    def bounded(self, weight: Tensor, before: Tensor) -> Tensor:
        """The weight after a step, kept on its side of 0 if signs are fixed (at 1e-6, so that the sign is not lost)."""
        if not self.signed:
            return weight
        return torch.where(weight * before > 0, weight, 1e-6 * before.sign())
