"""Losses: (what a network did, the classes) -> a scalar to minimise.

A loss sees a `Run`: `out` [T, B, F], what the body handed on, and `scores` [T, B, C], what the readout made of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from spikewright import kernels
from spikewright.errors import ConfigError, DataError, positive
from spikewright.neurons.parts import Euler
from spikewright.snn import Run

__all__ = [
    "CountMargin",
    "CrossEntropy",
    "EarlyCrossEntropy",
    "KernelSpikeMSE",
    "LastOutput",
    "Loss",
    "OneEarly",
    "OwnScore",
    "RateMSE",
    "RelativeTarget",
    "SquaredTime",
    "Tempotron",
    "TimeLoss",
    "TimeMargin",
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


class TimeLoss(Loss):
    """Base of the losses of spike times. Subclasses write `of_times`.

    An output that did not fire counts as one that fired at T, and takes a gradient like one; what a silent neuron does
    with it is its layer's affair.
    """

    def of(self, run: Run, target: Tensor) -> Tensor:
        steps = float(len(run.scores))
        return self.of_times(_Capped.apply(run.out[0], steps), target, steps)

    def of_times(self, times: Tensor, target: Tensor, steps: float) -> Tensor:
        """The loss of the outputs' times [B, F], all finite, and the classes [B]; `steps` is T."""
        raise NotImplementedError


class _Capped(torch.autograd.Function):
    """min(times, T), with the gradient of times."""

    @staticmethod
    def forward(ctx: Any, times: Tensor, steps: float) -> Tensor:  # type: ignore[override]
        return times.clamp(max=steps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        return grad, None


@dataclass(frozen=True)
class RelativeTarget(TimeLoss):
    """S4NN's targets, relative to the first output spike: mean over the batch of the norm of (target - time).

    With t_min the earliest output, outputs less than `gamma` behind it are asked for t_min + gamma (at most T), the
    true class for t_min, the others for what they did; if all are silent, the true class for T - gamma. The norm stands
    in place of half its square because its gradient is the error divided by its norm, as in the authors' code.

    A first spike near the end is easily none on other images. With `by`, the true class is asked for that time if t_min
    is later or all are silent (and not skipped). (A variant; the papers have no such time.)

    Args:
        gamma: margin in steps.
        skip_silent: let a sample pass without error when all outputs are silent (BS4NN's code).
        by: latest time that the true class is asked for, steps; None for none.
        huber: norms below this enter by their square, as in Huber's loss, so that the gradient of a small error is
            small; steps, 0 for none.
    """

    gamma: float = 3.0
    skip_silent: bool = False
    by: float | None = None
    huber: float = 0.0

    def __post_init__(self) -> None:
        positive("RelativeTarget", "gamma", self.gamma, "margin", unit="steps")
        positive("RelativeTarget", "huber", self.huber, "length", unit="steps", zero=True)
        if self.by is not None:
            positive("RelativeTarget", "by", self.by, "time", unit="steps")

    def of_times(self, times: Tensor, target: Tensor, steps: float) -> Tensor:
        by = steps if self.by is None else self.by
        if self.by is not None:
            _within("RelativeTarget", "by", by, steps)
        with torch.no_grad():
            first = times.amin(-1, keepdim=True)
            silent = first >= steps
            wanted = torch.where(times - first < self.gamma, (first + self.gamma).clamp(max=steps), times)
            late = torch.full_like(first, steps if self.skip_silent else min(steps - self.gamma, by))
            true = F.one_hot(target, times.shape[-1]).bool()
            wanted = torch.where(true, torch.where(silent, late, first.clamp(max=by)), wanted)
        error = (wanted - times).square().sum(-1)
        long = error > self.huber**2
        norm = torch.where(long, error, 1.0).sqrt() - self.huber / 2
        return torch.where(long, norm, error / (2 * (self.huber or 1))).mean()


@dataclass(frozen=True)
class SquaredTime(TimeLoss):
    """1/2 sum over outputs and batch of (t - wanted)^2 (SpikeProp), every class having a time for all outputs.

    Args:
        times: the wanted time of each class, steps.
    """

    times: tuple[float, ...] = (16.0, 10.0)
    summed = True

    def __post_init__(self) -> None:
        if not (self.times and all(math.isfinite(t) and t >= 0 for t in self.times)):
            raise ConfigError(
                f"SquaredTime: times are {self.times}, expected a finite time of at least 0 for each class"
            )

    def of_times(self, times: Tensor, target: Tensor, steps: float) -> Tensor:
        _within("SquaredTime", "times", max(self.times), steps)
        if target.numel() and int(target.max()) >= len(self.times):
            raise ConfigError(f"SquaredTime: there are {len(self.times)} times, expected one for each class")
        wanted = torch.tensor(self.times, device=times.device, dtype=times.dtype)[target]
        return 0.5 * (times - wanted[:, None]).square().sum()


@dataclass(frozen=True)
class OneEarly(TimeLoss):
    """1/2 sum over outputs and batch of (t - wanted)^2 (SpikeProp): the true class early, the others late.

    Args:
        early, late: wanted times, steps.
    """

    early: float = 10.0
    late: float = 16.0
    summed = True

    def __post_init__(self) -> None:
        if not 0 <= self.early < self.late < math.inf:
            raise ConfigError(f"OneEarly: early {self.early} and late {self.late}: expected 0 <= early < late, finite")

    def of_times(self, times: Tensor, target: Tensor, steps: float) -> Tensor:
        _within("OneEarly", "late", self.late, steps)
        true = F.one_hot(target, times.shape[-1]).bool()
        wanted = torch.full_like(times, self.late).masked_fill(true, self.early)
        return 0.5 * (times - wanted).square().sum()


@dataclass(frozen=True)
class TimeMargin(TimeLoss):
    """Only late true classes and early others have an error: mean over the batch of the sum of its squares (MT-Spike).

    Args:
        on: the true class should fire by then, as a share of T.
        off: the others not before, as a share of T.
    """

    on: float = 0.3
    off: float = 0.5

    def __post_init__(self) -> None:
        if not 0 <= self.on < self.off <= 1:
            raise ConfigError(f"TimeMargin: on {self.on} and off {self.off}: expected 0 <= on < off <= 1")

    def of_times(self, times: Tensor, target: Tensor, steps: float) -> Tensor:
        true = F.one_hot(target, times.shape[-1]).bool()
        share = times / steps
        error = torch.where(true, (share - self.on).clamp(min=0), (self.off - share).clamp(min=0))
        return error.square().sum(-1).mean()


@dataclass(frozen=True)
class EarlyCrossEntropy(TimeLoss):
    """Cross-entropy of a softmax over -t / tau, and alpha (exp(t_true / tau_early) - 1) for an early one (EventProp).

    Args:
        tau: steps that make a difference.
        alpha: weight of the second part.
        tau_early: its time constant, steps.
    """

    tau: float = 2.0
    alpha: float = 0.01
    tau_early: float = 10.0

    def __post_init__(self) -> None:
        for name in ("tau", "tau_early"):
            positive("EarlyCrossEntropy", name, getattr(self, name), "time")
        if not 0 <= self.alpha < math.inf:
            raise ConfigError(f"EarlyCrossEntropy: alpha is {self.alpha}, expected a finite weight of at least 0")

    def of_times(self, times: Tensor, target: Tensor, steps: float) -> Tensor:
        true = times.gather(1, target[:, None])
        return F.cross_entropy(-times / self.tau, target) + self.alpha * torch.expm1(true / self.tau_early).mean()


def _within(owner: str, name: str, time: float, steps: float) -> None:
    if time >= steps:
        raise ConfigError(
            f"{owner}: {name} reach to {time:g}, after the end of the run: expected below its {steps:g} steps"
        )
