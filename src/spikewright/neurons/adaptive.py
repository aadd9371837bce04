"""Neurons with memory of their own spikes: adaptive LIF, SRM0, and the delta modulator."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spikewright.errors import ConfigError, positive, whole
from spikewright.neurons.stepwise import Stepwise
from spikewright.surrogate import ATan, Learnable, Surrogate

__all__ = ["SRM0", "AdaptiveLIF", "Delta"]


class _Threshold(Stepwise):
    """What these have in common: a threshold above 0."""

    def __init__(self, v_th: float, surrogate: Surrogate | Learnable):
        super().__init__(surrogate)
        positive(type(self).__name__, "v_th", v_th, "threshold")
        self.v_th = v_th


class AdaptiveLIF(_Threshold):
    """LIF whose threshold rises with every spike (ALIF; Bellec et al. 2018, 2020).

    v[t] = alpha v[t-1] + I[t] - v_th z[t-1], a[t] = rho a[t-1] + z[t-1], z[t] = H(v[t] - v_th - beta a[t]), with
    alpha = exp(-1 / tau), rho = exp(-1 / tau_a). For `refractory` steps after a spike there is none, and no gradient.
    The authors' pseudo-derivative is a triangle of height 0.3 / v_th and half-width v_th.

    Args:
        tau, tau_a: time constants of membrane and adaptation, steps.
        beta: what a spike adds to the threshold; 0 is LIF with a delayed reset by subtraction.
        v_th: threshold at rest.
        refractory: steps.
    """

    def __init__(
        self,
        tau: float = 20.0,
        tau_a: float = 200.0,
        beta: float = 0.1,
        v_th: float = 1.0,
        refractory: int = 0,
        surrogate: Surrogate | Learnable = ATan(),
    ):
        super().__init__(v_th, surrogate)
        for name, value in (("tau", tau), ("tau_a", tau_a)):
            positive("AdaptiveLIF", name, value, "time constant", unit="steps")
        if not math.isfinite(beta):
            raise ConfigError(f"AdaptiveLIF: beta is {beta}, expected a finite number")
        whole("AdaptiveLIF", "refractory", refractory, 0)
        self.tau, self.tau_a, self.beta, self.refractory = tau, tau_a, beta, refractory

    def rest(self, x: Tensor) -> tuple[Tensor, ...]:
        none = torch.zeros_like(x)
        return none, none, none, torch.full_like(x, 1e6)

    def step(self, current: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        v, a, z, age = state
        v = math.exp(-1 / self.tau) * v + current - self.v_th * z
        a = math.exp(-1 / self.tau_a) * a + z
        over = v - self.v_th - self.beta * a
        free = age >= self.refractory
        z = self.surrogate.spike(over, self.v_th, age=age) * free
        return z, (v, a, z, torch.where(z.detach() != 0, torch.zeros_like(age), age + 1))

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, tau_a={self.tau_a:g}, beta={self.beta:g}, v_th={self.v_th:g}"


class SRM0(_Threshold):
    """Spike response model: u[t] = sum kappa(t - t') I[t'] + sum over own spikes t_f < t of eta(t - t_f).

    kappa(s) = V0 (exp(-s / tau) - exp(-s / tau_s)), V0 for a peak of 1 (tempotron, SpikeProp); the alpha kernel
    (s / tau) exp(1 - s / tau) for tau_s = tau (SLAYER); exp(-s / tau) for tau_s = 0, an input without synapse.
    eta(s) = -scale v_th exp(-s / tau_r). With tau_s = 0, tau_r = tau and scale 1 it is LIF with reset by subtraction,
    step for step. Evaluated by traces, so every past spike counts.

    Args:
        tau, tau_s: time constants of membrane and synapse, steps; tau_s = 0: none.
        tau_r: of the after-potential, steps; None: tau.
        scale: size of the after-potential in thresholds.
    """

    def __init__(
        self,
        tau: float = 10.0,
        tau_s: float = 2.5,
        tau_r: float | None = None,
        scale: float = 1.0,
        v_th: float = 1.0,
        surrogate: Surrogate | Learnable = ATan(),
    ):
        super().__init__(v_th, surrogate)
        for name, value in (("tau", tau), ("tau_r", tau if tau_r is None else tau_r)):
            positive("SRM0", name, value, "time constant", unit="steps")
        if not 0 <= tau_s <= tau:
            raise ConfigError(f"SRM0: tau_s is {tau_s}, expected a time constant from 0 to tau = {tau:g} steps")
        if not 0 <= scale < math.inf:
            raise ConfigError(f"SRM0: scale is {scale}, expected a finite number of at least 0")
        self.tau, self.tau_s, self.tau_r, self.scale = tau, tau_s, tau_r, scale

    def kernel(self, s: Tensor) -> Tensor:
        """kappa(s), s >= 0 in steps."""
        if self.tau_s == 0:
            return torch.exp(-s / self.tau)
        if self.tau_s == self.tau:
            return s / self.tau * torch.exp(1 - s / self.tau)
        return self._norm() * (torch.exp(-s / self.tau) - torch.exp(-s / self.tau_s))

    def _norm(self) -> float:
        q = self.tau / self.tau_s
        return q ** (q / (q - 1)) / (q - 1)

    def rest(self, x: Tensor) -> tuple[Tensor, ...]:
        return (torch.zeros_like(x),) * 4

    def step(self, current: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        _, slow, fast, after = state
        decay = math.exp(-1 / self.tau)
        if self.tau_s == self.tau:
            fast = decay * (fast + slow)  # n decay^n after an input n steps ago
            slow = decay * slow + current
            driven = fast * (math.e / self.tau)
        else:
            slow = decay * slow + current
            fast = math.exp(-1 / self.tau_s) * fast + current if self.tau_s else fast
            driven = self._norm() * (slow - fast) if self.tau_s else slow
        after = after * math.exp(-1 / (self.tau if self.tau_r is None else self.tau_r))
        u = driven - after
        s = self.surrogate.spike(u - self.v_th, self.v_th, age=1e6)
        return s, (u, slow, fast, after + self.scale * self.v_th * s)

    def extra_repr(self) -> str:
        return f"tau={self.tau:g}, tau_s={self.tau_s:g}, tau_r={self.tau_r}, scale={self.scale:g}, v_th={self.v_th:g}"


class Delta(_Threshold):
    """Delta modulator (send on delta): an event of +1 or -1 when the signal has moved by theta from what was sent.

    The reference r starts at 0; e = x - r; `many` sends s = trunc(e / theta), as many events as fit, else one, the sign
    of e where |e| >= theta; r <- r + theta s. `decode` sums the events up.

    Args:
        theta: what an event stands for.
        many: as many events a step as needed; then |x - r| < theta always.
    """

    def __init__(self, theta: float = 0.1, many: bool = False, surrogate: Surrogate | Learnable = ATan()):
        positive("Delta", "theta", theta, "step")
        super().__init__(theta, surrogate)
        self.theta, self.many = theta, many

    def rest(self, x: Tensor) -> tuple[Tensor, ...]:
        return (torch.zeros_like(x),)

    def step(self, current: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        (r,) = state
        e = current - r
        if self.many:
            n = e / self.theta
            s = n + (torch.trunc(n) - n).detach()  # the gradient is that of e / theta
        else:
            up = self.surrogate.spike(e - self.theta, self.theta, age=1e6)
            s = up - self.surrogate.spike(-e - self.theta, self.theta, age=1e6)
        return s, (r + self.theta * s,)

    def decode(self, events: Tensor) -> Tensor:
        """The signal as sent: events [T, B, ...] -> [T, B, ...]."""
        return self.theta * events.cumsum(0)

    def extra_repr(self) -> str:
        return f"theta={self.theta:g}, many={self.many}"
