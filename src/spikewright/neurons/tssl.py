"""The neuron of TSSL-BP, with its own backward rule over time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikewright.clock import State, Temporal
from spikewright.errors import ConfigError
from spikewright.kernels import block_of
from spikewright.surrogate import TSSLLogistic

__all__ = ["TSSLNeuron"]


class TSSLNeuron(Temporal):
    """LIF with hard reset that hands on post-synaptic currents (Zhang & Li, NeurIPS 2020).

    Forward, each step: u[t] = (1 - 1/tau_m) v[t-1] + I[t]; o[t] = 1 if u[t] > v_th; v[t] = u[t] (1 - o[t]);
    a[t] = a[t-1] + (o[t] - a[t-1]) / tau_s. The output is a.

    Backward, with G = dL/da, du[t] = u[t] - v[t-1], q[t] = o[t] clip(-1/du[t], -8, 0) (how a spike time moves with
    the current) and the kernels k[n] = (1 - 1/tau_s)^n / tau_s, k'[n] = -k[n] / tau_s, from the last step down, c = 0:
    A[t] = tau_s q[t] sum_{m>=t} k'[m-t] G[m] + c (q[t] (-1/tau_m) u[t] + (1 - 1/tau_m) (1 - o[t]));
    then c = A[t] where o[t] = 1, c (1 - 1/tau_m) elsewhere. A neuron hardly active at t, a[t] < 1/(4 tau_s), gets the
    smooth gradient f(u[t]) sum_{m>=t} k[m-t] G[m] instead (f: `surrogate.TSSLLogistic`), the cure for dead neurons.

    Args:
        tau_m: membrane time constant, steps, > 1.
        tau_s: synaptic time constant, steps, > 1.
        v_th: threshold.

    The gradient is with respect to the current only: a state handed in takes none, so train on whole sequences.
    """

    state_differentiable = False

    def __init__(self, tau_m: float = 5.0, tau_s: float = 3.0, v_th: float = 1.0):
        super().__init__()
        for name, value in (("tau_m", tau_m), ("tau_s", tau_s)):
            if not 1 < value < float("inf"):
                raise ConfigError(f"TSSLNeuron: {name} is {value}, expected a finite time constant above 1 step")
        if not 0 < v_th < float("inf"):
            raise ConfigError(f"TSSLNeuron: v_th is {v_th}, expected a finite threshold above 0")
        self.tau_m, self.tau_s, self.v_th = tau_m, tau_s, v_th

    def run(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """current [T, B, ...] -> (post-synaptic currents [T, B, ...], state (v, a))."""
        x = block_of(current)
        v, a = state or (x.new_zeros(x.shape[1:]), x.new_zeros(x.shape[1:]))
        psc, v, a = _TSSL.apply(x, v, a, self.tau_m, self.tau_s, self.v_th)
        return psc.to(current.dtype), (v, a)

    def spikes_in(self, out: Tensor, state: State = None) -> Tensor:
        """o[t] = tau_s a[t] - (tau_s - 1) a[t-1], rounded: currents [T, B, ...] -> spikes [T, B, ...]."""
        first = torch.zeros_like(out[0]) if state is None else state[1].to(out.dtype)
        before = torch.cat([first[None], out[:-1]])
        return (self.tau_s * out - (self.tau_s - 1) * before > 0.5).to(out.dtype)

    def extra_repr(self) -> str:
        return f"tau_m={self.tau_m:g}, tau_s={self.tau_s:g}, v_th={self.v_th:g}"


class _TSSL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, current: Tensor, v: Tensor, a: Tensor, tau_m: float, tau_s: float, v_th: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        # One buffer each for what the backward pass reads: u, du and the output.
        u_all, du_all, psc = torch.empty_like(current), torch.empty_like(current), torch.empty_like(current)
        for t, i in enumerate(current.unbind(0)):
            du = torch.sub(i, v, alpha=1 / tau_m, out=du_all[t])
            u = torch.add(v, du, out=u_all[t])
            fired = u > v_th
            v = u * ~fired  # not masked_fill: an infinite current must leave its mark in the state
            a = torch.lerp(a, fired.to(a.dtype), 1 / tau_s)
            psc[t] = a
        ctx.save_for_backward(u_all, du_all, psc)
        ctx.constants = (tau_m, tau_s, v_th)
        ctx.mark_non_differentiable(v, a)
        return psc, v, a

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        u_all, du_all, psc = ctx.saved_tensors
        tau_m, tau_s, v_th = ctx.constants
        smooth = TSSLLogistic()
        out = torch.empty_like(grad)
        reach = torch.zeros_like(grad[0])  # sum over m >= t of k[m-t] G[m]; tau_s k' sums to minus this
        carry = torch.zeros_like(grad[0])
        keep = 1 - 1 / tau_m
        for t in range(grad.shape[0] - 1, -1, -1):
            u = u_all[t]
            reach = reach * (1 - 1 / tau_s) + grad[t] / tau_s
            fired = u > v_th
            # du = 0 at a spike would be 1/0: reciprocal gives -inf, the clamp -8; NaN cannot arise.
            q = torch.where(fired, du_all[t].reciprocal().neg().clamp(-8, 0), torch.zeros_like(u))
            through = carry * torch.where(fired, u * q * (-1 / tau_m), torch.full_like(u, keep))
            a = through - q * reach
            carry = torch.where(fired, a, carry * keep)
            weak = psc[t] < 1 / (4 * tau_s)
            out[t] = torch.where(weak, smooth.derivative(u - v_th) * reach, a)
        return out, None, None, None, None, None
