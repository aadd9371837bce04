"""The parts an integrate-and-fire neuron is made of: how the membrane leaks and what a spike does to it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikewright.errors import ConfigError

__all__ = [
    "Euler",
    "EulerJump",
    "Exact",
    "ExactJump",
    "Factor",
    "HardReset",
    "Leak",
    "NoReset",
    "Reset",
    "Subtract",
    "UnitPeak",
]


class Leak:
    """How the membrane forgets: u = decay * v + gain * current. Time constants are in steps."""

    def coefficients(self) -> tuple[float, float]:
        """(decay, gain) of one step."""
        raise NotImplementedError


def _check_tau(name: str, tau: float, least: float) -> None:
    if not (math.isfinite(tau) and tau >= least):
        raise ConfigError(f"{name}: tau is {tau}, expected a finite time constant of at least {least:g} steps")


@dataclass(frozen=True)
class Factor(Leak):
    """u = k v + I: a leak factor, input not scaled (STBP, Wu et al. 2018, k = 0.2). k = 1 does not leak."""

    k: float

    def __post_init__(self) -> None:
        if not 0 <= self.k <= 1:
            raise ConfigError(f"Factor: k is {self.k}, expected a leak factor between 0 and 1")

    def coefficients(self) -> tuple[float, float]:
        return self.k, 1.0


@dataclass(frozen=True)
class Euler(Leak):
    """u = v + (I - v) / tau: forward Euler with a scaled input (PLIF, Fang et al. 2021)."""

    tau: float

    def __post_init__(self) -> None:
        _check_tau("Euler", self.tau, 1)

    def coefficients(self) -> tuple[float, float]:
        return 1 - 1 / self.tau, 1 / self.tau


@dataclass(frozen=True)
class EulerJump(Leak):
    """u = v - v / tau + I: forward Euler, input not scaled (TSSL-BP, Zhang & Li 2020)."""

    tau: float

    def __post_init__(self) -> None:
        _check_tau("EulerJump", self.tau, 1)

    def coefficients(self) -> tuple[float, float]:
        return 1 - 1 / self.tau, 1.0


@dataclass(frozen=True)
class Exact(Leak):
    """u = I + (v - I) exp(-1 / tau): exact for a current that is constant over the step."""

    tau: float

    def __post_init__(self) -> None:
        _check_tau("Exact", self.tau, 1e-6)

    def coefficients(self) -> tuple[float, float]:
        return math.exp(-1 / self.tau), -math.expm1(-1 / self.tau)


@dataclass(frozen=True)
class ExactJump(Leak):
    """u = exp(-1 / tau) v + I: exact for delta synapses (SuperSpike, Zenke & Ganguli 2018)."""

    tau: float

    def __post_init__(self) -> None:
        _check_tau("ExactJump", self.tau, 1e-6)

    def coefficients(self) -> tuple[float, float]:
        return math.exp(-1 / self.tau), 1.0


@dataclass(frozen=True)
class UnitPeak(Leak):
    """u = exp(-1 / tau) v + g I, g such that a spike through a synapse `ExactJump(rise)` lifts the membrane to 1.

    The response is a difference of exponentials, g (a^(n+1) - b^(n+1)) / (a - b): the peak-normalised post-synaptic
    potential of the tempotron (Guetig & Sompolinsky 2006, eq. 1-2) and of the spike response model.
    """

    tau: float = 10.0
    rise: float = 2.5

    def __post_init__(self) -> None:
        _check_tau("UnitPeak", self.tau, 1e-6)
        if not (math.isfinite(self.rise) and 1e-6 <= self.rise != self.tau):
            raise ConfigError(f"UnitPeak: rise is {self.rise}, expected a finite time constant other than tau")

    def coefficients(self) -> tuple[float, float]:
        a, b = math.exp(-1 / self.tau), math.exp(-1 / self.rise)
        near = max(0, math.floor(time_to_peak(self.tau, self.rise)) - 1)  # on the grid it is read at 1, 2, ... steps
        return a, 1 / max(psp(near + n, a, b) for n in range(3))


def time_to_peak(tau: float, rise: float) -> float:
    """From a spike to the peak of exp(-t / tau) - exp(-t / rise)."""
    return tau * rise / (tau - rise) * math.log(tau / rise)


def psp(n: Any, a: float, b: float) -> Any:
    """Response after n steps (a number or an array) of two first-order filters in a row, of decays a and b."""
    return (a ** (n + 1) - b ** (n + 1)) / (a - b)


class Reset:
    """What a spike does to the membrane. `detach` cuts the gradient through the spike in the reset."""

    detach: bool = True

    def __call__(self, u: Tensor, s: Tensor, v_th: float | Tensor, decay: float | Tensor) -> Tensor:
        """(u [B, ...] before the reset, s [B, ...] spikes) -> v [B, ...] after it."""
        raise NotImplementedError

    def after_spike(self, v_th: float | Tensor, decay: float | Tensor) -> tuple[float, float | Tensor] | None:
        """(keep, shift) of v = keep * u + shift where a spike is, for the fused kernels; None: they cannot serve."""
        return None


@dataclass(frozen=True)
class HardReset(Reset):
    """v = (1 - s) u + s value. Attached (`detach=False`), the gradient also flows through the factor (STBP)."""

    value: float = 0.0
    detach: bool = True

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ConfigError(f"HardReset: value is {self.value}, expected a finite potential")

    def __call__(self, u: Tensor, s: Tensor, v_th: float | Tensor, decay: float | Tensor) -> Tensor:
        if self.detach:
            return torch.where(s.detach() != 0, torch.full_like(u, self.value), u)
        v = u * (1 - s)
        return v + s * self.value if self.value else v

    def after_spike(self, v_th: float | Tensor, decay: float | Tensor) -> tuple[float, float | Tensor]:
        return 0.0, self.value


@dataclass(frozen=True)
class Subtract(Reset):
    """v = u - v_th s (soft reset). `delayed` subtracts at the next step, after the leak (Bendig et al.):
    u[t+1] = decay u[t] + gain I - v_th s[t], which is the same as subtracting v_th / decay now."""

    detach: bool = True
    delayed: bool = False

    def __call__(self, u: Tensor, s: Tensor, v_th: float | Tensor, decay: float | Tensor) -> Tensor:
        s = s.detach() if self.detach else s
        return u - s * (v_th / decay if self.delayed else v_th)

    def after_spike(self, v_th: float | Tensor, decay: float | Tensor) -> tuple[float, float | Tensor]:
        return 1.0, -(v_th / decay if self.delayed else v_th)


@dataclass(frozen=True)
class NoReset(Reset):
    """v = u: a spike leaves the membrane as it is."""

    def __call__(self, u: Tensor, s: Tensor, v_th: float | Tensor, decay: float | Tensor) -> Tensor:
        return u

    def after_spike(self, v_th: float | Tensor, decay: float | Tensor) -> tuple[float, float | Tensor]:
        return 1.0, 0.0
