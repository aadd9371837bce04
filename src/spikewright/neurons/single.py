"""One neuron under a constant current: its spike times and the trace of its membrane."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch

from spikewright.clock import State, Temporal
from spikewright.errors import ConfigError
from spikewright.neurons.adaptive import SRM0, AdaptiveLIF
from spikewright.neurons.biological import ConductanceLIF, HodgkinHuxley, Izhikevich, RefractoryLIF
from spikewright.neurons.once import OnceIF

__all__ = ["KINDS", "Kind", "Trace", "simulate"]

MOST_STEPS = 200_000


class Kind(NamedTuple):
    """A neuron to look at alone. `h`: its usual step in ms; `current` and `unit`: a current that makes it fire."""

    make: Callable[[float], Temporal]
    h: float
    current: float
    unit: str


KINDS: dict[str, Kind] = {
    "izhikevich": Kind(lambda h: Izhikevich(h=h), 0.1, 10.0, ""),
    "hodgkin-huxley": Kind(lambda h: HodgkinHuxley(h=h), 0.05, 10.0, "uA/cm2"),
    "lif": Kind(lambda h: RefractoryLIF(20.0, -65.0, -65.0, -50.0, 2.0, h), 0.1, 20.0, "mV"),
    "conductance-lif": Kind(lambda h: ConductanceLIF(h=h), 0.5, 0.3, "leaks a step"),
    "adaptive-lif": Kind(lambda h: AdaptiveLIF(20.0 / h, 200.0 / h), 1.0, 0.1, ""),
    "once-if": Kind(lambda h: OnceIF(), 1.0, 0.1, ""),
    "srm0": Kind(lambda h: SRM0(10.0 / h, 2.5 / h), 1.0, 0.2, ""),
}
"""Neurons by their name on the command line; times in ms."""


class Trace(NamedTuple):
    """What a neuron did."""

    h: float
    v: torch.Tensor  # [T]: the membrane after every step
    steps: torch.Tensor  # int64: the steps it fired in
    times: torch.Tensor  # [spikes]: ms; the end of the step, or its start where the neuron says so


def simulate(neuron: Temporal, current: float, duration: float, h: float) -> Trace:
    """A neuron from rest under a constant current, in float64.

    Args:
        neuron: one whose state begins with its potential.
        current: in the neuron's own unit.
        duration: ms.
        h: ms a step.

    Raises ConfigError for a duration that is not above 0, or is more than 200,000 steps.
    """
    steps = round(duration / h) if h > 0 and math.isfinite(duration / h) else 0
    if not 1 <= steps <= MOST_STEPS:
        raise ConfigError(
            f"{duration:g} ms in steps of {h:g} ms are {steps:,} steps, expected 1 to {MOST_STEPS:,}: change "
            "--duration or --h"
        )
    if not math.isfinite(current):
        raise ConfigError(f"current is {current}, expected a finite number")
    x = torch.full((1, 1, 1), float(current), dtype=torch.float64)
    state, v, fired = None, [], []
    with torch.no_grad():
        for t in range(steps):
            out, state = neuron.run(x, state)
            v.append(_first(state).reshape(()))
            if out.item() != 0:
                fired.append(t)
    at = torch.tensor(fired, dtype=torch.long)
    begins = isinstance(neuron, Izhikevich) and neuron.half_step
    return Trace(h, torch.stack(v), at, (at + (0 if begins else 1)).double() * h)


def _first(state: State) -> torch.Tensor:
    """The first tensor of a nested state, the potential."""
    return state if isinstance(state, torch.Tensor) else _first(state[0])
