"""What the fused kernels of every device are told, and give back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from spikewright.kernels.formula import Formula

__all__ = ["Gradients", "Kind", "Numbers"]


@dataclass(frozen=True)
class Kind:
    """What machine code depends on.

    Args:
        strict: fire at > instead of >=.
        timed: the surrogate asks for the steps since the last spike.
        sums: decay, gain, threshold or shift take a gradient.
        pool: spikes leave as means over windows of pool x pool; 0: as they are.
        x, s: dtypes of the current and of what is handed on.
        formula: the surrogate's derivative; None where there is no backward pass.
    """

    strict: bool
    timed: bool
    sums: bool
    pool: int
    x: torch.dtype
    s: torch.dtype
    formula: Formula | None


class Numbers(NamedTuple):
    """A neuron's numbers; tensors are on a GPU.

    A spike turns the potential u into v = keep * u + shift, and with attached = 1 gradients flow through the spike
    there too; `never` is the age of a neuron that has not fired yet; `a` to `d` are the surrogate's own.
    """

    decay: float | Tensor
    gain: float | Tensor
    v_th: float | Tensor
    v_init: float
    keep: float
    shift: float | Tensor
    attached: float
    never: float
    a: float = 0.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0


class Gradients(NamedTuple):
    """Of the current, of the first membrane, and [decay, gain, threshold, shift] or None where not asked for."""

    x: Tensor
    v0: Tensor | None
    sums: Tensor | None
