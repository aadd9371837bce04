"""Neurons of first-spike networks: they fire once a sequence, and what they say is when."""

from __future__ import annotations

import torch
from torch import Tensor

from spikewright import kernels
from spikewright.clock import State, Temporal
from spikewright.errors import whole
from spikewright.kernels import block_of
from spikewright.neurons.integrate_and_fire import IF
from spikewright.neurons.parts import NoReset
from spikewright.shares import in_shares
from spikewright.surrogate import ATan, Learnable, Surrogate

__all__ = ["LatencyCode", "OnceIF"]


class OnceIF(IF):
    """Integrate-and-fire that fires at most once: u = v + I, a spike when u first exceeds v_th, and then none.

    Fed with one spike an input, u is the convolution of the inputs that have fired so far, so the first step at which
    it exceeds v_th is that of the papers' cumulative waves (Kheradpisheh 2018; Mozafari 2019). With v_th between 0 and
    1 behind a max pool it is the pool that hands on its first spike.

    Args:
        v_th: firing threshold, > 0.
        surrogate: the derivative used in the backward pass.
        strict: fire at u > v_th (the papers' comparison) instead of u >= v_th.
        v_init: membrane at rest.
    """

    pools = False
    forgets = False

    def __init__(
        self,
        v_th: float = 1.0,
        surrogate: Surrogate | Learnable = ATan(),
        strict: bool = True,
        v_init: float = 0.0,
    ):
        super().__init__(v_th, NoReset(), surrogate, strict, v_init)

    def run(self, current: Tensor, state: State = None, pool: int = 0, keep: bool = True) -> tuple[Tensor, State]:
        """current [T, B, ...] -> (spikes [T, B, ...], state)."""
        x = block_of(current)
        if x.device.type == "cpu" and not torch.is_grad_enabled():
            return self._compiled(x, current.dtype, state)
        membrane, fired = state or (None, None)
        over, membrane = super().run(current, membrane)
        fired = torch.zeros_like(membrane[0]) if fired is None else fired
        first = []
        for s in over.unbind(0):
            first.append(s * (1 - fired).to(s.dtype))
            fired = torch.maximum(fired, s.detach().to(fired.dtype))
        return torch.stack(first), (membrane, fired)

    def _compiled(self, x: Tensor, dtype: torch.dtype, state: State) -> tuple[Tensor, State]:
        from spikewright.neurons.once_loops import once  # compiles, or finds in the cache

        last = x.dim() == 5 and not x.is_contiguous()  # images channels-last stay so
        order, back = ((0, 1, 3, 4, 2), (0, 1, 4, 2, 3)) if last else (range(x.dim()), range(x.dim()))
        rows = x.permute(*order).contiguous().flatten(1)
        if state is None:
            v, fired = torch.full_like(rows[0], self.v_init), torch.zeros_like(rows[0])
        else:
            (membrane,), before = state
            v, fired = (t[None].permute(*order).contiguous().clone().flatten() for t in (membrane, before))
        out = torch.empty_like(rows)
        arrays = (rows.numpy(), v.numpy(), fired.numpy(), self.v_th, self.strict, out.numpy())
        in_shares(lambda start, stop: once(*arrays, start, stop), rows.shape[1], 1 << 16)
        shape = [x.shape[i] for i in order]
        v, fired = (t.view(shape[1:])[None].permute(*back)[0] for t in (v, fired))
        return out.view(shape).permute(*back).to(dtype), ((v,), fired)


class LatencyCode(Temporal):
    """First spikes as numbers: out[t] = sum over s <= t of (steps - s) spike[s]. At the end that is `steps` minus the
    time of the first spike, 0 for silence (Shirsavar 2022); a spike counts from the step it comes.

    Args:
        steps: T of the network.
    """

    def __init__(self, steps: int):
        super().__init__()
        whole("LatencyCode", "steps", steps)
        self.steps = steps

    def run(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """[T, B, ...] -> (codes [T, B, ...], (last code [B, ...], steps so far))."""
        x = block_of(current)
        total, at = state or (None, x.new_zeros(()))
        left = self.steps - at - torch.arange(len(x), dtype=x.dtype, device=x.device)
        weighted = x * left.clamp(min=0).view(-1, *[1] * (x.dim() - 1))
        out, total = kernels.low_pass(weighted, total, decay=1.0, gain=1.0)
        return out.to(current.dtype), (total, at + len(x))

    def extra_repr(self) -> str:
        return f"steps={self.steps}"
