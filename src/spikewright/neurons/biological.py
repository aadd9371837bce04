"""Neurons in milliseconds and millivolts: refractory LIF, conductance LIF, Izhikevich, Hodgkin-Huxley.

`h` is the length of a step in ms. What a spike does happens in its own step; a refractory time of R steps holds the
membrane at its reset for the R steps after it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from spikewright.errors import ConfigError, positive
from spikewright.neurons.stepwise import Stepwise
from spikewright.surrogate import ATan, Learnable, Surrogate

__all__ = ["PATTERNS", "Biological", "ConductanceLIF", "HodgkinHuxley", "Izhikevich", "Pattern", "RefractoryLIF"]

NEVER = 1e6  # steps since a spike that has not been


def _check(owner: str, above_zero: dict[str, float], finite: dict[str, float] | None = None) -> None:
    for name, value in above_zero.items():
        positive(owner, name, value)
    for name, value in (finite or {}).items():
        if not math.isfinite(value):
            raise ConfigError(f"{owner}: {name} is {value}, expected a finite number")


class Biological(Stepwise):
    """Base of the neurons in ms and mV.

    Args:
        h: length of a step in ms.
        surrogate: the derivative used for the spike in the backward pass; potentials are in mV.
    """

    def __init__(self, h: float, surrogate: Surrogate | Learnable):
        super().__init__(surrogate)
        self.h = h
        _check(type(self).__name__, {"h": h})

    def extra_repr(self) -> str:
        return f"h={self.h:g}"


class RefractoryLIF(Biological):
    """Leaky integrate-and-fire with a refractory time, exact for a current that is constant over the step.

    v <- v_inf + (v - v_inf) exp(-h / tau) with v_inf = v_rest + gain I, then v > v_th fires (a potential that only
    reaches it does not), v <- v_reset. `jump` takes the input as a jump of v in mV behind the leak instead: BindsNET's
    current-based cell. Input during the refractory time is dropped.

    Args:
        tau: membrane time constant, ms.
        v_rest, v_reset, v_th: mV.
        refractory: ms.
        h: ms.
        jump: input is a jump of the potential, in mV, rather than a current, in mV (R I).
    """

    def __init__(
        self,
        tau: float = 20.0,
        v_rest: float = 0.0,
        v_reset: float = 0.0,
        v_th: float = 1.0,
        refractory: float = 0.0,
        h: float = 1.0,
        jump: bool = False,
        surrogate: Surrogate | Learnable = ATan(),
    ):
        super().__init__(h, surrogate)
        _check("RefractoryLIF", {"tau": tau}, {"v_rest": v_rest, "v_reset": v_reset, "v_th": v_th})
        if not 0 <= refractory < math.inf:
            raise ConfigError(f"RefractoryLIF: refractory is {refractory}, expected a finite time of at least 0 ms")
        self.tau, self.v_rest, self.v_reset, self.v_th = tau, v_rest, v_reset, v_th
        self.refractory, self.jump = refractory, jump

    def rest(self, x: Tensor) -> tuple[Tensor, ...]:
        return torch.full_like(x, self.v_rest), torch.full_like(x, NEVER)

    def step(
        self, current: Tensor, state: tuple[Tensor, ...], inhibition: Tensor | float = 0.0, theta: Tensor | float = 0.0
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """`inhibition`: mV taken from the membrane; `theta`: mV added to the threshold."""
        v, age = state
        decay = math.exp(-self.h / self.tau)
        v = self.v_rest + (v - self.v_rest) * decay
        v = (v - inhibition + current) if self.jump else v + (1 - decay) * current - inhibition
        return _fire(self, v, age, theta)[:2]

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, v_th={self.v_th:g}, refractory={self.refractory:g}, {super().extra_repr()}"


def _fire(
    cell: RefractoryLIF | ConductanceLIF, v: Tensor, age: Tensor, theta: Tensor | float
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Threshold, reset, refractory time: potential after integration and steps since the last spike."""
    held = age < round(cell.refractory / cell.h)
    over = torch.where(held, torch.full_like(v, -math.inf), v - (cell.v_th + theta))
    over = over.clamp(min=-1e4)  # finite, for surrogates
    s = cell.surrogate.spike(over, 1.0, strict=True, age=age)
    fired = s.detach() != 0
    v = torch.where(held | fired, torch.full_like(v, cell.v_reset), v)
    return s, (v, torch.where(fired, torch.zeros_like(age), age + 1))


class ConductanceLIF(Biological):
    """LIF with conductance synapses (Diehl & Cook 2015; conductances in units of the leak's).

    tau dv/dt = (v_rest - v) + g_e (e_exc - v) + g_i (e_inh - v), tau_e dg_e/dt = -g_e, tau_i dg_i/dt = -g_i; fires at
    v > v_th + theta. A positive input raises g_e by its value, a negative one g_i, in its own step. Integrated by
    exponential Euler with the conductances at their mean over the step, v <- v_inf + (v - v_inf) exp(-x), x = h g /
    tau, where exp(-x) is taken as 1 / (1 + x + x^2/2 + x^3/6): v stays between the reversal potentials for inputs of
    any strength, which plain Euler does not ensure.

    Args:
        tau: membrane time constant, ms.
        v_rest, v_reset, v_th: mV.
        e_exc, e_inh: reversal potentials, mV.
        tau_e, tau_i: synaptic time constants, ms.
        refractory: ms; the conductances go on decaying.
        h: ms.
    """

    def __init__(
        self,
        tau: float = 100.0,
        v_rest: float = -65.0,
        v_reset: float = -65.0,
        v_th: float = -52.0,
        e_exc: float = 0.0,
        e_inh: float = -100.0,
        tau_e: float = 1.0,
        tau_i: float = 2.0,
        refractory: float = 5.0,
        h: float = 0.5,
        surrogate: Surrogate | Learnable = ATan(),
    ):
        super().__init__(h, surrogate)
        finite = {"v_rest": v_rest, "v_reset": v_reset, "v_th": v_th, "e_exc": e_exc, "e_inh": e_inh}
        _check("ConductanceLIF", {"tau": tau, "tau_e": tau_e, "tau_i": tau_i}, finite)
        if not 0 <= refractory < math.inf:
            raise ConfigError(f"ConductanceLIF: refractory is {refractory}, expected a finite time of at least 0 ms")
        self.tau, self.v_rest, self.v_reset, self.v_th = tau, v_rest, v_reset, v_th
        self.e_exc, self.e_inh, self.tau_e, self.tau_i, self.refractory = e_exc, e_inh, tau_e, tau_i, refractory

    def rest(self, x: Tensor) -> tuple[Tensor, ...]:
        return torch.full_like(x, self.v_rest), torch.full_like(x, NEVER), torch.zeros_like(x), torch.zeros_like(x)

    def means(self) -> tuple[float, float]:
        """Mean of each conductance over a step, in parts of that at its beginning."""
        e, i = self.h / self.tau_e, self.h / self.tau_i
        return -math.expm1(-e) / e, -math.expm1(-i) / i

    def step(
        self, current: Tensor, state: tuple[Tensor, ...], inhibition: Tensor | float = 0.0, theta: Tensor | float = 0.0
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """`inhibition`: what inhibitory synapses add to g_i; `theta`: mV added to the threshold."""
        v, age, g_e, g_i = state
        g_e = g_e * math.exp(-self.h / self.tau_e) + current.clamp(min=0)
        g_i = g_i * math.exp(-self.h / self.tau_i) + inhibition + (-current).clamp(min=0)
        mean_e, mean_i = self.means()
        e, i, k = mean_e * g_e, mean_i * g_i, self.h / self.tau
        x = k * (1 + e + i)
        p = 1 + x * (0.5 + x / 6)
        v = (v + k * p * (self.v_rest + e * self.e_exc + i * self.e_inh)) / (1 + x * p)
        s, (v, age) = _fire(self, v, age, theta)
        return s, (v, age, g_e, g_i)

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, v_th={self.v_th:g}, refractory={self.refractory:g}, {super().extra_repr()}"


class Pattern(NamedTuple):
    """Izhikevich's four numbers."""

    a: float
    b: float
    c: float
    d: float


PATTERNS = {
    "RS": Pattern(0.02, 0.2, -65.0, 8.0),  # regular spiking
    "IB": Pattern(0.02, 0.2, -55.0, 4.0),  # intrinsically bursting
    "CH": Pattern(0.02, 0.2, -50.0, 2.0),  # chattering
    "FS": Pattern(0.1, 0.2, -65.0, 2.0),  # fast spiking
    "LTS": Pattern(0.02, 0.25, -65.0, 2.0),  # low-threshold spiking
    "TC": Pattern(0.02, 0.25, -65.0, 0.05),  # thalamo-cortical
    "RZ": Pattern(0.1, 0.26, -65.0, 2.0),  # resonator
}
"""Firing patterns by name (Izhikevich 2003, figure 2)."""


class Izhikevich(Biological):
    """v' = 0.04 v^2 + 5 v + 140 - u + I, u' = a (b v - u); at v >= 30 mV: v <- c, u <- u + d (Izhikevich 2003).

    v in mV, t in ms, I without dimension. Starts at v = -65, u = b v. Both published integrations are here; they are
    different models in practice, so never compare one's spikes with the other's:

    - forward Euler: v and u move from their old values, then the test; a spike belongs to the end of its step;
    - `half_step`, as first published with h = 1: first the test, then v in two half steps, then u with the new v; a
      spike belongs to the start of its step.

    Args:
        a, b, c, d: the model's numbers, by default those of regular spiking; `PATTERNS` has others by name.
        h: ms.
        half_step: the first published integration.
    """

    def __init__(
        self,
        a: float = 0.02,
        b: float = 0.2,
        c: float = -65.0,
        d: float = 8.0,
        h: float = 0.1,
        half_step: bool = False,
        surrogate: Surrogate | Learnable = ATan(),
    ):
        super().__init__(h, surrogate)
        _check("Izhikevich", {}, {"a": a, "b": b, "c": c, "d": d})
        self.a, self.b, self.c, self.d, self.half_step = a, b, c, d, half_step

    @classmethod
    def pattern(cls, name: str, h: float = 0.1, half_step: bool = False) -> Izhikevich:
        """The neuron with a firing pattern of this name; ConfigError lists them."""
        if name not in PATTERNS:
            raise ConfigError(f"Izhikevich: there is no pattern {name!r}; there are {', '.join(PATTERNS)}")
        return cls(*PATTERNS[name], h=h, half_step=half_step)

    def rest(self, x: Tensor) -> tuple[Tensor, ...]:
        v = torch.full_like(x, -65.0)
        return v, self.b * v

    def step(self, current: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        v, u = state
        if self.half_step:
            s, v, u = self._reset(v, u)
            for _ in range(2):
                v = v + 0.5 * self.h * (0.04 * v * v + 5 * v + 140 - u + current)
            return s, (v, u + self.h * self.a * (self.b * v - u))
        dv = 0.04 * v * v + 5 * v + 140 - u + current
        du = self.a * (self.b * v - u)
        s, v, u = self._reset(v + self.h * dv, u + self.h * du)
        return s, (v, u)

    def _reset(self, v: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s = self.surrogate.spike(v - 30, 1.0, age=NEVER)
        fired = s.detach() != 0
        return s, torch.where(fired, torch.full_like(v, self.c), v), torch.where(fired, u + self.d, u)

    def extra_repr(self) -> str:
        return f"a={self.a:g}, b={self.b:g}, c={self.c:g}, d={self.d:g}, half_step={self.half_step}, h={self.h:g}"


class HodgkinHuxley(Biological):
    """The squid axon (Hodgkin & Huxley 1952), rest about -65 mV, integrated by Runge-Kutta of fourth order.

    C dv/dt = I - g_na m^3 h (v - e_na) - g_k n^4 (v - e_k) - g_l (v - e_l); a spike is an upward crossing of 0 mV.
    I in uA/cm^2, C = 1 uF/cm^2, conductances in mS/cm^2. Starts at the true rest. The current holds over the step.

    Args:
        g_na, g_k, g_l, e_na, e_k, e_l: the model's numbers.
        h: ms, at most 0.05.
    """

    def __init__(
        self,
        g_na: float = 120.0,
        g_k: float = 36.0,
        g_l: float = 0.3,
        e_na: float = 50.0,
        e_k: float = -77.0,
        e_l: float = -54.387,
        h: float = 0.025,
        surrogate: Surrogate | Learnable = ATan(),
    ):
        super().__init__(h, surrogate)
        _check("HodgkinHuxley", {"g_na": g_na, "g_k": g_k, "g_l": g_l}, {"e_na": e_na, "e_k": e_k, "e_l": e_l})
        if h > 0.05:
            raise ConfigError(f"HodgkinHuxley: h is {h}, expected at most 0.05 ms: the equations are stiff")
        self.g_na, self.g_k, self.g_l, self.e_na, self.e_k, self.e_l = g_na, g_k, g_l, e_na, e_k, e_l

    def rest(self, x: Tensor) -> tuple[Tensor, ...]:
        v = self.resting_potential()
        gates = [a / (a + b) for a, b in _rates(torch.tensor(v, dtype=torch.float64))]
        return torch.full_like(x, v), *(torch.full_like(x, float(gate)) for gate in gates)

    def resting_potential(self) -> float:
        """Where the membrane stays without a current, mV, by bisection."""
        low, high = self.e_k, self.e_na
        for _ in range(80):
            middle = (low + high) / 2
            v = torch.tensor(middle, dtype=torch.float64)
            gates = [a / (a + b) for a, b in _rates(v)]
            low, high = (middle, high) if float(self._flow(v, *gates)) > 0 else (low, middle)
        return (low + high) / 2

    def _flow(self, v: Tensor, m: Tensor, h: Tensor, n: Tensor) -> Tensor:
        """dv/dt without input."""
        sodium, potassium = self.g_na * m**3 * h * (v - self.e_na), self.g_k * n**4 * (v - self.e_k)
        return -sodium - potassium - self.g_l * (v - self.e_l)

    def step(self, current: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        def slope(at: tuple[Tensor, ...]) -> list[Tensor]:
            v, *gates = at
            moved = [a * (1 - g) - b * g for g, (a, b) in zip(gates, _rates(v), strict=True)]
            return [current + self._flow(*at), *moved]

        def along(slopes: list[Tensor], h: float) -> tuple[Tensor, ...]:
            return tuple(x + h * dx for x, dx in zip(state, slopes, strict=True))

        h = self.h
        k1 = slope(state)
        k2 = slope(along(k1, h / 2))
        k3 = slope(along(k2, h / 2))
        k4 = slope(along(k3, h))
        new = along([(a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(k1, k2, k3, k4, strict=True)], h)
        crossed = torch.where(state[0] < 0, new[0], -new[0].abs() - 1e-6)  # below 0 unless it came from there
        return self.surrogate.spike(crossed, 1.0, age=NEVER), new


def _rates(v: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(opening, closing) rates of the gates m, h, n at v, per ms."""
    return [
        (_linoid(v + 40, 10.0), 4 * torch.exp(-(v + 65) / 18)),
        (0.07 * torch.exp(-(v + 65) / 20), 1 / (1 + torch.exp(-(v + 35) / 10))),
        (0.1 * _linoid(v + 55, 10.0), 0.125 * torch.exp(-(v + 65) / 80)),
    ]


def _linoid(x: Tensor, scale: float) -> Tensor:
    """(x / scale) / (1 - exp(-x / scale)), by its series where that is 0/0."""
    y = x / scale
    near = y.abs() < 1e-4
    safe = torch.where(near, torch.ones_like(y), y)
    return torch.where(near, 1 + y / 2, safe / -torch.expm1(-safe))
