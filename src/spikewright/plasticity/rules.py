"""Rules: when a synapse changes and by what product.

    dw = rate * modulation * [gate * trace products] * F(w), then the bounds.

`STDP` is the one trace rule (pair, triplet, target trace are its settings), `Order` the once-an-image rule of the
first-spike networks, `Rewarded` the rule that waits for a reward. All are pure functions over a `Connection`'s view;
time differences are d = t_post - t_pre, amplitudes are positive where they act in the usual direction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from spikewright.errors import ConfigError
from spikewright.plasticity.connections import Connection
from spikewright.plasticity.traces import Exponential
from spikewright.plasticity.weights import Additive, Bounds, Dependence, PowerLaw, Stabiliser

__all__ = ["STDP", "Order", "Rewarded", "RuleNumbers", "STDPState", "anti", "pair", "target_trace", "triplet"]

Array = np.ndarray[Any, Any]


class STDPState(NamedTuple):
    """The traces of a rule: fast and slow, of the presynaptic neurons [inputs] and the postsynaptic ones [P, F]."""

    r1: Array
    r2: Array
    o1: Array
    o2: Array


class RuleNumbers(NamedTuple):
    """A trace rule as the compiled loops know it; all traces saturate or add alike as the flags say."""

    ltp2: float
    ltp3: float
    ltd2: float
    ltd3: float
    target: float
    code: int
    p: float
    low: float
    high: float


@dataclass(frozen=True)
class STDP:
    """Spike-timing dependent plasticity on traces: pre r1, r2 and post o1, o2 (1 fast, 2 slow).

    at a pre spike:   dw = - o1 (ltd2 + ltd3 r2) F-(w)
    at a post spike:  dw = + (ltp2 + ltp3 o2) (r1 F+(w) - target G(w))

    with G = F+ (the target trace rule), or F- where `target_down` says so (Diehl & Cook's exponential rule). Order
    within a step: all traces decay; depression at this step's pre spikes reads o1 before this step's post spikes and r2
    before its pre spikes; potentiation at the post spikes reads o2 before them and r1 after this step's pre spikes, if
    `coincident` (d = 0 is potentiation, as in the image networks), or before them (d = 0 is nothing, as in the analytic
    pair rule). There is no gate: every pre spike and every post spike counts, whatever was before.

    Args:
        ltp2, ltd2: amplitudes of pairs.
        ltp3, ltd3: amplitudes of triplets.
        target: trace at which potentiation turns into depression.
        pre, post, pre_slow, post_slow: the traces.
        weight: how the update depends on the weight.
        bounds: of the weight.
    """

    ltp2: float = 0.01
    ltd2: float = 0.012
    ltp3: float = 0.0
    ltd3: float = 0.0
    target: float = 0.0
    pre: Exponential = Exponential(20.0)
    post: Exponential = Exponential(20.0)
    pre_slow: Exponential = Exponential(40.0)
    post_slow: Exponential = Exponential(40.0)
    weight: Dependence = Additive()
    bounds: Bounds = Bounds()
    coincident: bool = True
    target_down: bool = False

    def __post_init__(self) -> None:
        for name in ("ltp2", "ltd2", "ltp3", "ltd3", "target"):
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(f"STDP: {name} is {getattr(self, name)}, expected a finite number")

    def rest(self, connection: Connection, inputs: int) -> STDPState:
        """Traces of neurons that have not fired."""
        here = (len(connection.index), connection.features)
        return STDPState(np.zeros(inputs), np.zeros(inputs), np.zeros(here), np.zeros(here))

    def step(
        self,
        connection: Connection,
        w: Array,
        state: STDPState,
        pre: Array,
        post: Array,
        modulation: float | Array = 1.0,
        h: float = 1.0,
    ) -> tuple[Array, STDPState]:
        """One step of h: pre spikes [inputs], post spikes [P, F] -> (weights, traces). The definition.

        `modulation`, a number or [P, F, 1], is the third factor.
        """
        pre, post = np.asarray(pre, bool), np.asarray(post, bool).reshape(state.o1.shape)
        r1, r2 = self.pre.decayed(state.r1, h), self.pre_slow.decayed(state.r2, h)
        o1, o2 = self.post.decayed(state.o1, h), self.post_slow.decayed(state.o2, h)
        c = connection
        depressed = c.pre(pre) * c.post(o1) * (self.ltd2 + self.ltd3 * c.pre(r2)) * self.weight.down(w, self.bounds)
        w = self.bounds.clip(w - c.reduced(modulation * depressed))
        read = self.pre.struck(r1, pre) if self.coincident else r1
        against = self.weight.down(w, self.bounds) if self.target_down else self.weight.up(w, self.bounds)
        drive = c.pre(read) * self.weight.up(w, self.bounds) - self.target * against
        raised = c.post(post) * (self.ltp2 + self.ltp3 * c.post(o2)) * drive * (c.index[:, None, :] >= 0)
        w = self.bounds.clip(w + c.reduced(modulation * raised))
        return w, STDPState(
            self.pre.struck(r1, pre),
            self.pre_slow.struck(r2, pre),
            self.post.struck(o1, post),
            self.post_slow.struck(o2, post),
        )

    def numbers(self) -> RuleNumbers:
        """For compiled loops."""
        return RuleNumbers(
            self.ltp2,
            self.ltp3,
            self.ltd2,
            self.ltd3,
            self.target,
            self.weight.code,
            self.weight.p,
            self.bounds.low,
            self.bounds.high,
        )


def pair(
    ltp: float = 0.01,
    ltd: float = 0.012,
    tau_pre: float = 20.0,
    tau_post: float = 20.0,
    *,
    all_to_all: bool = True,
    **parts: Any,
) -> STDP:
    """Pair STDP: dw = ltp exp(-d / tau_pre) for d > 0, -ltd exp(d / tau_post) for d < 0, nothing for d = 0 unless told
    otherwise; all pairs, or each spike with the last one of the other side (symmetric nearest neighbour)."""
    kind = {"pre": Exponential(tau_pre, not all_to_all), "post": Exponential(tau_post, not all_to_all)}
    return STDP(ltp, ltd, **{"coincident": False, **kind, **parts})


def triplet(
    ltp2: float = 0.0,
    ltp3: float = 6.5e-3,
    ltd2: float = 7.1e-3,
    ltd3: float = 0.0,
    tau_plus: float = 16.8,
    tau_x: float = 101.0,
    tau_minus: float = 33.7,
    tau_y: float = 114.0,
    *,
    all_to_all: bool = True,
    **parts: Any,
) -> STDP:
    """Triplet STDP (Pfister & Gerstner 2006), by default the minimal set of visual cortex, all to all, times in ms."""
    traces = {
        "pre": Exponential(tau_plus, not all_to_all),
        "pre_slow": Exponential(tau_x, not all_to_all),
        "post": Exponential(tau_minus, not all_to_all),
        "post_slow": Exponential(tau_y, not all_to_all),
    }
    return STDP(ltp2, ltd2, ltp3, ltd3, **{"coincident": False, **traces, **parts})


def target_trace(rate: float = 0.01, target: float = 0.4, mu: float = 0.2, tau: float = 20.0, **parts: Any) -> STDP:
    """Post spikes only: dw = rate (x_pre - target)(high - w)^mu (Diehl & Cook's first rule). Inputs whose trace is
    below the target at a post spike fade."""
    return STDP(rate, 0.0, target=target, pre=Exponential(tau), **{"weight": PowerLaw(mu), **parts})


@dataclass(frozen=True)
class Order:
    """The simplified rule of first-spike networks: a winner's synapses change once an image, by the order alone.

    dw = +ltp F+(w) if the pre neuron fired no later than the winner, else -ltd F-(w), a silent one included. Negative
    amplitudes make it anti-STDP (Mozafari 2019: ltp = -0.004, ltd = -0.0005).
    """

    ltp: float = 0.004
    ltd: float = 0.003
    weight: Dependence = Stabiliser()
    bounds: Bounds = Bounds()

    def __post_init__(self) -> None:
        for name in ("ltp", "ltd"):
            if not math.isfinite(getattr(self, name)):
                raise ConfigError(f"Order: {name} is {getattr(self, name)}, expected a finite number")

    def update(self, w: Array, before: Array, rate: float = 1.0) -> Array:
        """Weights [..., S] of winners after the image; `before` [..., S]: whose pre neuron fired by then. The
        definition. `rate` multiplies both amplitudes."""
        up, down = self.weight.up(w, self.bounds), self.weight.down(w, self.bounds)
        return self.bounds.clip(w + rate * np.where(before, self.ltp * up, -self.ltd * down))


def anti(rule: Any) -> Any:
    """The rule with its signs exchanged."""
    names = [name for name in ("ltp", "ltd", "ltp2", "ltd2", "ltp3", "ltd3") if hasattr(rule, name)]
    return replace(rule, **{name: -getattr(rule, name) for name in names})


@dataclass(frozen=True)
class Rewarded:
    """Reward-modulated STDP (Florian 2007): zeta = P+ post + P- pre waits in an eligibility until the reward r comes.

    P+ <- P+ exp(-h / tau_plus) + ltp pre, P- <- P- exp(-h / tau_minus) - ltd post. Without `tau_e` (MSTDP)
    dw = rate r zeta of the step before; with it (MSTDPET) e <- e exp(-h / tau_e) + zeta / tau_e and dw = rate h r e.
    """

    rate: float = 1.0
    ltp: float = 1.0
    ltd: float = 1.0
    tau_plus: float = 20.0
    tau_minus: float = 20.0
    tau_e: float | None = None
    bounds: Bounds = Bounds()

    def __post_init__(self) -> None:
        for name in ("tau_plus", "tau_minus", "tau_e"):
            tau = getattr(self, name)
            if tau is not None and not 0 < tau < math.inf:
                raise ConfigError(f"Rewarded: {name} is {tau}, expected a finite time constant above 0")

    def rest(self, connection: Connection, inputs: int) -> tuple[Array, Array, Array]:
        """(P+ [inputs], P- [P, F], what waits for the reward [P, F, S])."""
        places, synapses = connection.index.shape
        here = (places, connection.features)
        return np.zeros(inputs), np.zeros(here), np.zeros((*here, synapses))

    def step(
        self,
        connection: Connection,
        w: Array,
        state: tuple[Array, Array, Array],
        pre: Array,
        post: Array,
        reward: float,
        h: float = 1.0,
    ) -> tuple[Array, tuple[Array, Array, Array]]:
        """One step: pre spikes [inputs], post spikes [P, F] and the reward of this step -> (weights, state)."""
        plus, minus, waiting = state
        pre, post = np.asarray(pre, float), np.asarray(post, float).reshape(minus.shape)
        c = connection
        if self.tau_e is None:
            w = self.bounds.clip(w + c.reduced(self.rate * reward * waiting))
        plus = plus * math.exp(-h / self.tau_plus) + self.ltp * pre
        minus = minus * math.exp(-h / self.tau_minus) - self.ltd * post
        zeta = (c.pre(plus) * c.post(post) + c.post(minus) * c.pre(pre)) * (c.index[:, None, :] >= 0)
        if self.tau_e is None:
            return w, (plus, minus, zeta)
        waiting = waiting * math.exp(-h / self.tau_e) + zeta / self.tau_e
        return self.bounds.clip(w + c.reduced(self.rate * h * reward * waiting)), (plus, minus, waiting)
