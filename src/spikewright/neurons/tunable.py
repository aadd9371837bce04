"""LIF whose leak and threshold are trained, one of each a layer (DIET-SNN)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spikewright import kernels
from spikewright.clock import State
from spikewright.errors import ConfigError
from spikewright.neurons.integrate_and_fire import IntegrateAndFire
from spikewright.neurons.parts import Reset, Subtract
from spikewright.precision import autocast_dtype
from spikewright.surrogate import ScaledTriangle, Surrogate

__all__ = ["TunableLIF"]

LEAST = 1e-3


class TunableLIF(IntegrateAndFire):
    """u = leak v + I, s = H(u - threshold), v = u - threshold s, with `leak` and `threshold` as parameters.

    (Rathi & Roy 2021, released code: integrate, fire and reset in the same step.) A gradient reaches the threshold
    through u - threshold and, unlike the spike there, through the reset. After every step of the optimiser `constrain`
    keeps leak <= 1, as the authors do, and threshold >= 0.001, which they do not say.

    Args:
        k: initial leak factor, 0 < k <= 1.
        v_th: initial threshold.

    The others are those of `IntegrateAndFire`.
    """

    def __init__(
        self,
        k: float = 1.0,
        v_th: float = 1.0,
        reset: Reset = Subtract(),
        surrogate: Surrogate = ScaledTriangle(),  # noqa: B008
        strict: bool = True,
        v_init: float = 0.0,
        size: float = 1.0,
    ):
        super().__init__(v_th, reset, surrogate, strict, v_init, size)
        if not (math.isfinite(k) and 0 < k <= 1):
            raise ConfigError(f"TunableLIF: k is {k}, expected a leak factor above 0 and at most 1")
        self.k = k
        self.leak = nn.Parameter(torch.tensor(float(k)))
        self.threshold = nn.Parameter(torch.tensor(float(v_th)))

    def run(self, current: Tensor, state: State = None, pool: int = 0, keep: bool = True) -> tuple[Tensor, State]:
        """current [T, B, ...] -> (spikes [T, B, ...], state), as `IntegrateAndFire.run`."""
        out, state = kernels.integrate_and_fire(
            current,
            state,
            decay=self.leak,
            gain=1.0,
            v_th=self.threshold,
            v_init=self.v_init,
            reset=self.reset,
            surrogate=self.surrogate,
            strict=self.strict,
            pool=pool,
            dtype=autocast_dtype(current.device),
            keep=keep,
        )
        return (out if self.size == 1 else out * self.size), state

    @torch.no_grad()
    def constrain(self) -> None:
        """Bring leak and threshold back into their ranges; the trainer calls it after every step."""
        self.leak.clamp_(max=1.0)
        self.threshold.clamp_(min=LEAST)

    def extra_repr(self) -> str:
        now = f"leak={self.leak.item():.3g}, threshold={self.threshold.item():.3g}"
        return f"{now}, reset={self.reset}, surrogate={self.surrogate}, strict={self.strict}"
