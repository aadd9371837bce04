"""Integrate-and-fire neurons: LIF, IF and PLIF, one update made of parts (leak, threshold, reset, surrogate)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from spikewright import kernels
from spikewright.clock import State, Temporal
from spikewright.errors import ConfigError, expect, positive
from spikewright.neurons.parts import Euler, HardReset, Leak, Reset, Subtract
from spikewright.precision import autocast_dtype
from spikewright.surrogate import ATan, Learnable, Surrogate

__all__ = ["IF", "LIF", "PLIF", "IntegrateAndFire"]


class IntegrateAndFire(Temporal):
    """What LIF, IF and PLIF share; they differ in `coefficients`.

    Each step: u = decay * v + gain * current; spike s = H(u - v_th); v = reset(u, s).

    Args:
        v_th: firing threshold, > 0.
        reset: what a spike does to the membrane.
        surrogate: the derivative used for H in the backward pass, evaluated at the potential before the reset.
        strict: fire at u > v_th instead of u >= v_th.
        v_init: membrane at rest, where every sequence starts.
        size: what a spike hands on, > 0.
    """

    spikes = True
    pools = True
    forgets = True

    def __init__(
        self,
        v_th: float = 1.0,
        reset: Reset = HardReset(),
        surrogate: Surrogate | Learnable = ATan(),
        strict: bool = False,
        v_init: float = 0.0,
        size: float = 1.0,
    ):
        super().__init__()
        name = type(self).__name__
        positive(name, "v_th", v_th, "threshold")
        if not math.isfinite(v_init):
            raise ConfigError(f"{name}: v_init is {v_init}, expected a finite potential")
        if not (math.isfinite(size) and size > 0):
            raise ConfigError(f"{name}: size is {size}, expected what a spike hands on, a finite number above 0")
        self.v_th, self.strict, self.v_init, self.size = v_th, strict, v_init, size
        self.reset = expect(name, "reset", reset, Reset)
        self.surrogate = (
            surrogate if isinstance(surrogate, Learnable) else expect(name, "surrogate", surrogate, Surrogate)
        )

    def coefficients(self) -> tuple[float | Tensor, float | Tensor]:
        """(decay, gain) of one step."""
        raise NotImplementedError

    def run(self, current: Tensor, state: State = None, pool: int = 0, keep: bool = True) -> tuple[Tensor, State]:
        """current [T, B, ...] -> (spikes [T, B, ...], state; without `keep` perhaps only whether it is finite).

        The spikes are of the current's dtype, under autocast of its: 0 and 1 are exact in all of them. With `pool`, a
        [T, B, C, H, W] block comes out as means over windows of pool x pool spikes.
        """
        decay, gain = self.coefficients()
        out, state = kernels.integrate_and_fire(
            current,
            state,
            decay=decay,
            gain=gain,
            v_th=self.v_th,
            v_init=self.v_init,
            reset=self.reset,
            surrogate=self.surrogate,
            strict=self.strict,
            pool=pool,
            dtype=autocast_dtype(current.device),
            keep=keep,
        )
        return (out if self.size == 1 else out * self.size), state

    def extra_repr(self) -> str:
        size = "" if self.size == 1 else f", size={self.size:g}"
        return f"v_th={self.v_th:g}, reset={self.reset}, surrogate={self.surrogate}, strict={self.strict}{size}"


class LIF(IntegrateAndFire):
    """Leaky integrate-and-fire.

    Args:
        tau: membrane time constant in steps under the Euler convention u = v + (I - v) / tau, >= 1.
        leak: another convention (`Factor`, `EulerJump`, `Exact`, `ExactJump`); replaces `tau`.

    The others are those of `IntegrateAndFire`.
    """

    def __init__(
        self,
        tau: float = 2.0,
        *,
        leak: Leak | None = None,
        v_th: float = 1.0,
        reset: Reset = HardReset(),
        surrogate: Surrogate | Learnable = ATan(),
        strict: bool = False,
        v_init: float = 0.0,
        size: float = 1.0,
    ):
        super().__init__(v_th, reset, surrogate, strict, v_init, size)
        self.tau = tau
        self.leak = Euler(tau) if leak is None else expect("LIF", "leak", leak, Leak)
        if isinstance(reset, Subtract) and reset.delayed and self.leak.coefficients()[0] == 0:
            raise ConfigError(
                f"LIF: {self.leak} keeps nothing of the membrane, so a delayed reset has nothing to act on"
            )

    def coefficients(self) -> tuple[float, float]:
        return self.leak.coefficients()

    def extra_repr(self) -> str:
        return f"{self.leak}, {super().extra_repr()}"


class IF(IntegrateAndFire):
    """Perfect integrate-and-fire: u = v + I. Resets by subtraction unless told otherwise: that keeps the exact rate."""

    def __init__(
        self,
        v_th: float = 1.0,
        reset: Reset = Subtract(),
        surrogate: Surrogate | Learnable = ATan(),
        strict: bool = False,
        v_init: float = 0.0,
        size: float = 1.0,
    ):
        super().__init__(v_th, reset, surrogate, strict, v_init, size)

    def coefficients(self) -> tuple[float, float]:
        return 1.0, 1.0


class PLIF(IntegrateAndFire):
    """LIF whose time constant is learned, one a layer (Fang et al., ICCV 2021): u = v + (I - v) sigmoid(w).

    Args:
        tau: initial time constant in steps, > 1; w starts at -ln(tau - 1).
    """

    def __init__(
        self,
        tau: float = 2.0,
        *,
        v_th: float = 1.0,
        reset: Reset = HardReset(),
        surrogate: Surrogate | Learnable = ATan(),
        strict: bool = False,
        v_init: float = 0.0,
        size: float = 1.0,
    ):
        super().__init__(v_th, reset, surrogate, strict, v_init, size)
        if not (math.isfinite(tau) and tau > 1):
            raise ConfigError(f"PLIF: tau is {tau}, expected a finite initial time constant above 1 step")
        self.tau = tau
        self.w = nn.Parameter(torch.tensor(-math.log(tau - 1)))

    def coefficients(self) -> tuple[Tensor, Tensor]:
        return torch.sigmoid(-self.w), torch.sigmoid(self.w)

    def extra_repr(self) -> str:
        return f"tau={1 / torch.sigmoid(self.w.detach()).item():.3g}, {super().extra_repr()}"
