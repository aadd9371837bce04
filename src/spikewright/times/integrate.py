"""Neurons without leak: one spike each, its time known in event order."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError
from spikewright.times import loops
from spikewright.times.layer import Dense, backward
from spikewright.times.threads import spread

__all__ = ["BinaryIF", "ExponentialIF", "InstantIF", "RampIF"]


def _positive(owner: str, name: str, value: float, least: float = 0.0) -> float:
    if not (math.isfinite(value) and value > least):
        raise ConfigError(f"{owner}: {name} is {value}, expected a finite number above {least:g}")
    return value


class InstantIF(Dense):
    """Integrate and fire with instantaneous synapses (S4NN, Kheradpisheh & Masquelier 2020).

    V_j(t) = sum_i w_ji [t_i <= t]; the neuron fires `latency` after the first t with V_j(t) > v_th, at most once.
    Backward, the paper's approximation with the slope of V replaced by 1: dt_j/dw_ji = -[t_i < t_j] and
    dt_j/dt_i = w_ji [t_i < t_j]; a silent neuron counts as one that fires at the end, T.

    Args:
        in_features, out_features: inputs and neurons.
        v_th: threshold.
        latency: steps between crossing and spike (1 in the authors' code).
        normalize: give the gradient handed down, sample by sample, the norm of the one that came.
        ahead: hand it down through the weights after a step of this size (the authors' order, for a batch of 1).
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        v_th: float = 100.0,
        latency: float = 1.0,
        normalize: bool = True,
        ahead: float = 0.0,
    ):
        super().__init__(in_features, out_features)
        self.v_th = _positive(type(self).__name__, "v_th", v_th)
        self.latency = _positive(type(self).__name__, "latency", latency, -1e-300)
        self.normalize, self.ahead = normalize, ahead
        nn.init.uniform_(self.weight, 0, 20 * v_th / in_features)

    def fire(self, times: np.ndarray, weight: np.ndarray, steps: int) -> tuple[np.ndarray, Any]:
        return self._fire(times, weight, self.v_th, steps)

    def _fire(self, times: np.ndarray, weight: np.ndarray, v_th: float, steps: int) -> tuple[np.ndarray, Any]:
        batch, neurons = len(times), weight.shape[1]
        order, counts = np.empty(times.shape, np.int32), np.empty(batch, np.int64)
        out = np.empty((batch, neurons), times.dtype)
        arguments = (times, weight, v_th, self.latency, float(steps), order, counts, out)
        spread(loops.instant_forward, batch, times.size * neurons / 4, *arguments)
        return out, (order, counts)

    def adjoint(
        self, g: np.ndarray, times: np.ndarray, weight: np.ndarray, steps: int, out: np.ndarray, kept: Any, below: bool
    ) -> tuple[np.ndarray | None, np.ndarray]:
        order, counts = kept
        now = below and not self.ahead
        down, dweight = backward(
            loops.instant_backward, times, weight, now, order, counts, out, g, float(steps)
        )
        if below and self.ahead:
            later = weight - self.ahead * dweight
            down, _ = backward(loops.instant_backward, times, later, True, order, counts, out, g, float(steps))
        if below and self.normalize:
            came, goes = np.linalg.norm(g, axis=1), np.linalg.norm(down, axis=1)
            down *= (came / np.where(goes > 0, goes, 1))[:, None]
        return down, dweight

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, v_th={self.v_th:g}"
