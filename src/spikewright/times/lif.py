"""Leaky neurons with exponential synapses, solved from event to event; gradients by the exact adjoint (EventProp)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikewright.errors import ConfigError, positive, whole
from spikewright.times import lif_loops
from spikewright.times.layer import Dense, Timed, backward
from spikewright.times.threads import spread

__all__ = ["Delays", "EventLIF", "Leaky", "Potential", "Reference"]


class Leaky(Dense):
    """Base of these layers: the time constants."""

    def __init__(self, in_features: int, out_features: int, tau_m: float, tau_s: float):
        super().__init__(in_features, out_features)
        name = type(self).__name__
        self.tau_m, self.tau_s = positive(name, "tau_m", tau_m), positive(name, "tau_s", tau_s)
        if tau_m < tau_s:
            raise ConfigError(f"{name}: tau_m is {tau_m}, expected at least tau_s, {tau_s}")

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, tau_m={self.tau_m:g}, tau_s={self.tau_s:g}"


class EventLIF(Leaky):
    """Leaky integrate and fire with exponential synapses and exact gradients (EventProp, Wunderlich & Pehle 2021).

    tau_m dV/dt = I - V, tau_s dI/dt = -I; a spike of input i adds gain w_ji to I; at V = v_th the neuron fires and V
    becomes 0, which at the moment of a spike is the same as taking v_th off. With tau_m = tau_s the response to a spike
    is gain w (s / tau) exp(-s / tau): with gain = e and one spike a neuron that is SpikeProp's (Bohte et al. 2002).
    Times in [B, N] or [B, K, N], out [B, M], or [B, spikes, M] for more spikes than one.

    The gradient knows no spike that appears or vanishes. A neuron that was silent for a whole batch is pushed instead.

    Args:
        in_features, out_features: inputs and neurons.
        tau_m, tau_s: membrane and synaptic time constant, steps, tau_m >= tau_s.
        v_th: threshold.
        spikes_each: spikes a neuron may fire; it is deaf afterwards.
        gain: factor on the weights.
        inhibitory: the last so many inputs act with the opposite sign, as inhibitory neurons (SpikeProp's split).
        floor: I - v_th = tau_m dV/dt at a spike, by which gradients are divided, counts as at least this.
        push: gradient -push, towards more excitation, for all weights of a neuron that stayed silent.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        tau_m: float = 20.0,
        tau_s: float = 5.0,
        v_th: float = 1.0,
        spikes_each: int = 1,
        gain: float = 1.0,
        inhibitory: int = 0,
        floor: float = 1e-3,
        push: float = 0.0,
    ):
        super().__init__(in_features, out_features, tau_m, tau_s)
        name = type(self).__name__
        self.v_th, self.gain = positive(name, "v_th", v_th), positive(name, "gain", gain)
        self.floor = positive(name, "floor", floor)
        whole(name, "spikes_each", spikes_each)
        if not 0 <= inhibitory <= in_features:
            raise ConfigError(f"{name}: inhibitory is {inhibitory}, expected 0 to {in_features} inputs")
        if not 0 <= push < math.inf:
            raise ConfigError(f"{name}: push is {push}, expected a finite number of at least 0")
        self.spikes_each, self.inhibitory, self.push = spikes_each, inhibitory, push

    def effective(self) -> Tensor:
        signs = torch.ones(self.in_features, dtype=self.weight.dtype, device=self.weight.device)
        signs[self.in_features - self.inhibitory :] = -1
        return self.weight * (self.gain * signs)

    def fire(self, times: np.ndarray, weight: np.ndarray, steps: int) -> tuple[np.ndarray, Any]:
        shape = (len(times), self.spikes_each, weight.shape[1])
        order, counts = np.empty(times.shape, np.int32), np.empty(len(times), np.int64)
        out, currents = np.empty(shape, times.dtype), np.empty(shape, np.float64)
        arguments = (times, weight, self.v_th, self.tau_m, self.tau_s, float(steps), order, counts, out, currents)
        spread(lif_loops.lif_forward, len(times), 2.0 * times.size * weight.shape[1], *arguments)
        return out[:, 0] if self.spikes_each == 1 else out, (order, counts, out, currents)

    def adjoint(
        self, g: np.ndarray, times: np.ndarray, weight: np.ndarray, steps: int, out: np.ndarray, kept: Any, below: bool
    ) -> tuple[np.ndarray | None, np.ndarray]:
        order, counts, spikes, currents = kept
        numbers = (g.reshape(spikes.shape), self.v_th, self.tau_m, self.tau_s, self.floor)
        down, dweight = backward(
            lif_loops.lif_backward, times, weight, below, order, counts, spikes, currents, *numbers
        )
        if self.push and len(times):
            silent = ~np.isfinite(spikes[:, 0]).any(0)
            dweight[:, silent] -= self.push / self.gain
        return down, dweight


class Potential(Leaky):
    """Potentials of leaky neurons that never fire, at the end of every step: times -> raster [T*B, M].

    tau_m dV/dt = I - V, tau_s dI/dt = -I, the readout of EventProp. Exact gradients.

    Args:
        in_features, out_features: inputs and neurons.
        tau_m, tau_s: membrane and synaptic time constant, steps, tau_m >= tau_s.
    """

    spikes = False
    rasters = True

    def __init__(self, in_features: int, out_features: int, tau_m: float = 20.0, tau_s: float = 5.0):
        super().__init__(in_features, out_features, tau_m, tau_s)

    def run(self, times: Tensor, steps: int) -> Tensor:
        return super().run(times, steps).flatten(0, 1)

    def fire(self, times: np.ndarray, weight: np.ndarray, steps: int) -> tuple[np.ndarray, Any]:
        order, counts = np.empty(times.shape, np.int32), np.empty(len(times), np.int64)
        out = np.empty((steps, len(times), weight.shape[1]), times.dtype)
        arguments = (times, weight, self.tau_m, self.tau_s, float(steps), order, counts, out)
        spread(lif_loops.potential_forward, len(times), 2.0 * times.size * weight.shape[1], *arguments)
        return out, (order, counts)

    def adjoint(
        self, g: np.ndarray, times: np.ndarray, weight: np.ndarray, steps: int, out: np.ndarray, kept: Any, below: bool
    ) -> tuple[np.ndarray | None, np.ndarray]:
        order, counts = kept
        loop = lif_loops.potential_backward
        down, dweight = backward(loop, times, weight, below, order, counts, g, self.tau_m, self.tau_s)
        return down, dweight


class Delays(Timed):
    """Every input reaches the next layer through several terminals (SpikeProp): [..., N] -> [..., N * terminals].

    Terminal k of input i is number i * terminals + k and arrives first + k * apart later.

    Args:
        terminals: how many.
        first, apart: delays in steps.
    """

    def __init__(self, terminals: int = 16, first: float = 1.0, apart: float = 1.0):
        super().__init__()
        whole("Delays", "terminals", terminals)
        self.terminals = terminals
        self.first, self.apart = positive("Delays", "first", first, zero=True), positive("Delays", "apart", apart)

    def run(self, times: Tensor, steps: int) -> Tensor:
        delays = self.first + self.apart * torch.arange(self.terminals, device=times.device, dtype=times.dtype)
        return (times[..., None] + delays).flatten(-2)

    def extra_repr(self) -> str:
        return f"{self.terminals}, first={self.first:g}, apart={self.apart:g}"


class Reference(Timed):
    """One more input, which fires at time 0: [B, N] -> [B, N + 1]. Without it a network cannot tell the time."""

    def run(self, times: Tensor, steps: int) -> Tensor:
        return torch.cat([times, torch.zeros_like(times[..., :1])], -1)
