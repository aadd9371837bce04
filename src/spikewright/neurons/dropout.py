"""Dropout for spiking networks: one mask for the whole sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from spikewright.clock import State, Temporal
from spikewright.errors import ConfigError
from spikewright.kernels import block_of

__all__ = ["HeldDropout"]


class HeldDropout(Temporal):
    """Dropout whose mask is drawn once a sequence and sample and held over all steps (Lee et al. 2020, STDB, PLIF).

    A fresh mask every step would average out over T. Drawn from torch's global generator, as `nn.Dropout` does.

    Args:
        p: probability of dropping a unit, 0 <= p < 1; what remains is scaled by 1 / (1 - p).
    """

    def __init__(self, p: float = 0.5):
        super().__init__()
        if not 0 <= p < 1:
            raise ConfigError(f"HeldDropout: p is {p}, expected a probability from 0 to below 1")
        self.p = p

    def run(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """[T, B, ...] -> [T, B, ...]; the state is the mask [B, ...]."""
        x = block_of(current)
        if not self.training or self.p == 0:
            return current, None
        mask = (torch.rand_like(x[0]) >= self.p).to(x.dtype) / (1 - self.p) if state is None else state
        return (x * mask).to(current.dtype), mask

    def extra_repr(self) -> str:
        return f"p={self.p:g}"
