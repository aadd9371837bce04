"""A LIF neuron with a refractory time, exact for a current that is constant over the step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spikewright import kernels
from spikewright.clock import State, Temporal
from spikewright.errors import ConfigError, expect, positive
from spikewright.surrogate import ATan, Surrogate

__all__ = ["ExactRateLIF"]


class ExactRateLIF(Temporal):
    """tau_rc dV/dt = J - V with J = gain I + bias; a spike at V > 1, then V = 0 for tau_ref.

    A step of `dt` is solved exactly, V moving for the part of it that is not refractory, and the moment of the crossing
    within the step, t = dt + tau_rc ln(1 - (V - 1)/(J - 1)), begins the refractory time. So the rate is that of the
    formula 1 / (tau_ref + tau_rc ln(1 + 1/(J - 1))) even at coarse steps. (Hunsberger & Eliasmith 2015.)

    Args:
        tau_ref, tau_rc, dt: ms; tau_ref of at least dt, so that a step holds one spike at the most.
        gain, bias: J = gain I + bias.
        size: what a spike hands on.
        surrogate: derivative of the spike at V - 1.
    """

    spikes = True

    def __init__(
        self,
        tau_ref: float = 2.0,
        tau_rc: float = 20.0,
        dt: float = 1.0,
        gain: float = 1.0,
        bias: float = 1.0,
        size: float = 1.0,
        surrogate: Surrogate = ATan(),
    ):
        super().__init__()
        values = {"tau_ref": tau_ref, "tau_rc": tau_rc, "dt": dt, "gain": gain, "size": size}
        for name, value in values.items():
            positive("ExactRateLIF", name, value)
        if not math.isfinite(bias):
            raise ConfigError(f"ExactRateLIF: bias is {bias}, expected a finite current")
        if tau_ref < dt:
            raise ConfigError(f"ExactRateLIF: tau_ref is {tau_ref}, expected at least the step of {dt} ms")
        self.tau_ref, self.tau_rc, self.dt = tau_ref, tau_rc, dt
        self.gain, self.bias, self.size = gain, bias, size
        self.surrogate = expect("ExactRateLIF", "surrogate", surrogate, Surrogate)

    def run(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """current [T, B, ...] -> (spikes times `size` [T, B, ...], (V, refractory ms that are left), both [B, ...])."""
        x = kernels.block_of(current)
        v, wait = state or (torch.zeros_like(x[0]), torch.zeros_like(x[0]))
        out = []
        for i in x.unbind(0):
            j = self.gain * i + self.bias
            free = (self.dt - wait).clamp(0, self.dt)
            v = j + (v - j) * torch.exp(-free / self.tau_rc)
            s = self.surrogate.spike(v - 1, 1.0, True)
            over = s.detach() != 0
            late = torch.where(over, (v - 1) / (j - 1), torch.zeros_like(v)).detach()
            crossed = self.dt + self.tau_rc * torch.log1p(-late)
            wait = torch.where(over, self.tau_ref + crossed - self.dt, (wait - self.dt).clamp(min=0))
            v = torch.where(over, torch.zeros_like(v), v)
            out.append(s * self.size)
        return torch.stack(out).to(current.dtype), (v, wait)

    def extra_repr(self) -> str:
        return (
            f"tau_ref={self.tau_ref:g}, tau_rc={self.tau_rc:g}, dt={self.dt:g}, gain={self.gain:g}, "
            f"bias={self.bias:g}, size={self.size:g}"
        )
