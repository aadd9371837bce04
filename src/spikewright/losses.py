"""Losses: (what a network did, the classes) -> a scalar to minimise.

A loss sees a `Run`: `out` [T, B, F], what the body handed on, and `scores` [T, B, C], what the readout made of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spikewright import kernels
from spikewright.errors import ConfigError, DataError
from spikewright.neurons.parts import Euler
from spikewright.snn import Run

__all__ = [
    "CountMargin",
    "CrossEntropy",
    "KernelSpikeMSE",
    "LastOutput",
    "Loss",
    "OwnScore",
    "RateMSE",
    "Tempotron",
]


class Loss:
    """Base of the losses. `summed`: a sum over the batch rather than a mean, so the batch size changes the step."""

    summed = False

    def __call__(self, run: Run, target: Tensor) -> Tensor:
        """run of a batch, target int64 [B] -> scalar. Raises DataError for labels that are no classes of the run."""
        batch, classes = run.scores.shape[1:]
        if not isinstance(target, Tensor) or target.dtype != torch.int64 or target.shape != (batch,):
            found = f"{target.dtype} {tuple(target.shape)}" if isinstance(target, Tensor) else type(target).__name__
            raise DataError(f"labels are {found}, expected int64 ({batch},), one class a sample")
        if batch and not target.is_meta and (target.min() < 0 or target.max() >= classes):
            raise DataError(f"labels are {int(target.min())}..{int(target.max())}, expected classes 0..{classes - 1}")
        return self.of(run, target)

    def of(self, run: Run, target: Tensor) -> Tensor:
        """The loss itself, which is what a subclass writes."""
        raise NotImplementedError


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Cross-entropy of the final scores (mean logits, membranes)."""

    def of(self, run: Run, target: Tensor) -> Tensor:
        return F.cross_entropy(run.scores[-1], target)


@dataclass(frozen=True)
class RateMSE(Loss):
    """Mean over batch and classes of (onehot - rate)^2 (STBP, Wu et al. 2018, eq. of the loss)."""

    def of(self, run: Run, target: Tensor) -> Tensor:
        rate = run.scores[-1]
        return F.mse_loss(rate, F.one_hot(target, rate.shape[-1]).to(rate.dtype))


@dataclass(frozen=True)
class KernelSpikeMSE(Loss):
    """1/2 sum (out - target PSC)^2, summed over steps, classes and batch (TSSL-BP; a van Rossum distance).

    The true class is asked for the spike train 0 1 1 1 1 at T = 5, and 0 1 0 1 ... at T >= 10, the others for silence,
    all seen through the synapse a[t] = a[t-1] + (o[t] - a[t-1]) / tau_s that the outputs went through too. In between
    (5 < T < 10), where the paper is silent, the dense form 0 1 1 1 ... is kept.
    """

    tau_s: float = 3.0
    summed = True

    def __post_init__(self) -> None:
        if not 1 <= self.tau_s < math.inf:
            raise ConfigError(
                f"KernelSpikeMSE: tau_s is {self.tau_s}, expected a finite time constant of at least 1 step"
            )

    def train(self, steps: int) -> Tensor:
        """Desired spikes of the true class, [T]."""
        t = torch.arange(steps)
        return ((t % 2 == 1) if steps >= 10 else (t > 0)).float()

    def of(self, run: Run, target: Tensor) -> Tensor:
        decay, gain = Euler(self.tau_s).coefficients()
        train = self.train(len(run.out)).to(run.out)[:, None, None]
        wanted, _ = kernels.low_pass(train, None, decay=decay, gain=gain)
        onehot = F.one_hot(target, run.out.shape[-1]).to(run.out.dtype)
        return 0.5 * (run.out - wanted * onehot).square().sum()


@dataclass(frozen=True)
class CountMargin(Loss):
    """1/2 sum over steps of delta^2, delta = (sum_t out - wanted) / T, summed over the batch (TSSL-BP's count loss).

    The true class should reach `desired`, the others stay below `undesired`: delta is 0 once they do.
    """

    desired: float = 15.0
    undesired: float = 3.0
    summed = True

    def __post_init__(self) -> None:
        if not math.inf > self.desired > self.undesired >= 0:
            raise ConfigError(
                f"CountMargin: desired {self.desired} and undesired {self.undesired}: expected desired > undesired >= 0"
            )

    def of(self, run: Run, target: Tensor) -> Tensor:
        count = run.out.sum(0)
        true = F.one_hot(target, count.shape[-1]).bool()
        delta = torch.where(true, (count - self.desired).clamp(max=0), (count - self.undesired).clamp(min=0)) / len(
            run.out
        )
        return 0.5 * delta.square().sum() * len(run.out)


@dataclass(frozen=True)
class LastOutput(Loss):
    """Mean over the batch of the last output after the last step: for a body that computes its own penalty a sample."""

    def of(self, run: Run, target: Tensor) -> Tensor:
        return run.out[-1, :, -1].mean()


@dataclass(frozen=True)
class OwnScore(Loss):
    """Minus the final score of the true class: with `NearestTrain` the distance to the train that was asked for."""

    def of(self, run: Run, target: Tensor) -> Tensor:
        return -run.scores[-1].gather(-1, target[:, None]).mean()


@dataclass(frozen=True)
class Tempotron(Loss):
    """v_th - max V of a neuron that should have fired, max V - v_th of one that should not (Guetig & Sompolinsky 2006).

    Mean over the batch, sum over neurons, each of which tells its class from all others; a single neuron tells class 1
    from class 0. Neurons on the right side of the threshold cost nothing. The gradient is the tempotron's rule:
    -+ sum over the input spikes of K(t_max - t_i), t_max the time of the highest potential.
    """

    v_th: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.v_th):
            raise ConfigError(f"Tempotron: v_th is {self.v_th}, expected a finite potential")

    def of(self, run: Run, target: Tensor) -> Tensor:
        top = run.out.max(0).values
        neurons = top.shape[-1]
        should = target[:, None] == (1 if neurons == 1 else torch.arange(neurons, device=target.device))
        wrong = (top >= self.v_th) != should
        return torch.where(wrong, torch.where(should, self.v_th - top, top - self.v_th), 0).sum() / len(top)
