"""Activations that are what a neuron does in T steps, or become it while the network is trained: QCFS, Whetstone's
sharpening, and the smoothed rate of a LIF neuron."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from spikewright.convert.activations import Activation
from spikewright.errors import ConfigError, positive, whole

__all__ = ["QCFS", "Scheduled", "Sharpening", "SoftLIF"]

LEAST = 1e-3


class QCFS(Activation):
    """theta / L floor(L clip(z / theta, 0, 1) + 1/2): quantised clip-floor-shift, with theta a parameter.

    What an integrate-and-fire neuron that starts at theta/2 hands on in L steps of constant current z. The floor's
    derivative is taken as 1, so dy/dz is 1 between 0 and theta and 0 outside; theta learns through the clip. (Bu et al.
    2022, eq. of the activation; as their later code, which clips before it rounds, has the gradient.)

    Args:
        levels: L, at least 1.
        limit: initial theta.
    """

    def __init__(self, levels: int = 4, limit: float = 8.0) -> None:
        super().__init__()
        whole("QCFS", "levels", levels)
        positive("QCFS", "limit", limit)
        self.levels, self.limit = levels, limit
        self.theta = nn.Parameter(torch.tensor(float(limit)))

    @property
    def threshold(self) -> float:
        return float(self.theta.detach())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _ClipFloorShift.apply(x, self.theta, self.levels)
        return out

    @torch.no_grad()
    def constrain(self) -> None:
        """Keep theta above zero; the trainer calls it after every step."""
        self.theta.clamp_(min=LEAST)

    def extra_repr(self) -> str:
        return f"levels={self.levels}, theta={self.threshold:.4g}"


class _ClipFloorShift(torch.autograd.Function):
    """(z, theta, L) -> the activation, in a few passes over memory instead of twenty."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, theta: Tensor, levels: int) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, theta)
        ctx.levels = levels
        return _ClipFloorShift.level(_ClipFloorShift.share(x, theta), levels).mul_(theta).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor | None, None]:  # type: ignore[override]
        x, theta = ctx.saved_tensors
        share, wide = _ClipFloorShift.share(x, theta), g.to(theta.dtype)
        inside = torch.ops.aten.hardtanh_backward(wide, share, 0, 1)
        of_theta = share.mul(inside).sum() if ctx.needs_input_grad[1] else None
        if of_theta is not None:
            of_theta = _ClipFloorShift.level(share, ctx.levels).mul_(wide).sum() - of_theta
        return inside.to(g.dtype), of_theta, None

    @staticmethod
    def share(x: Tensor, theta: Tensor) -> Tensor:
        """z / theta, in theta's precision: half of it would move the levels."""
        return torch.empty_like(x, dtype=theta.dtype).copy_(x).div_(theta)

    @staticmethod
    def level(share: Tensor, levels: int) -> Tensor:
        """floor(L clip(z / theta) + 1/2) / L, in place."""
        return share.clamp_(0, 1).mul_(levels).add_(0.5).floor_().div_(levels)


class Sharpening(Activation):
    """A bounded ReLU (or sigmoid) that becomes a step: in training as sharp as `sharpness` says, in evaluation a step.

    With w = 1 - sharpness: clip((z - 1/2) / (w + 0.001) + 1/2, 0, 1), or 1 / (1 + exp(-k (z - 1/2))) with k = 4 ln(2 +
    sqrt 3) / (w + 0.001); at sharpness 1, and whenever it is not being trained, 1 where z >= 1/2. (Severa et al. 2019,
    released code; there the sigmoid's step is at 0.) A neuron of threshold 1/2 does the last in one step.
    """

    sharpness: Tensor

    def __init__(self, shape: Literal["relu", "sigmoid"] = "relu") -> None:
        super().__init__()
        if shape not in ("relu", "sigmoid"):
            raise ConfigError(f"Sharpening: shape is {shape!r}, expected 'relu' or 'sigmoid'")
        self.shape = shape
        self.register_buffer("sharpness", torch.zeros(()))

    @property
    def threshold(self) -> float:
        return 0.5

    @property
    def top(self) -> float:
        return 1.0

    def forward(self, x: Tensor) -> Tensor:
        width = 1 - float(self.sharpness)
        if width <= 0 or not self.training:
            return (x >= 0.5).to(x.dtype) + 0 * x  # a step has a slope, of 0
        if self.shape == "relu":
            return ((x - 0.5) / (width + 1e-3) + 0.5).clamp(0, 1)
        return torch.sigmoid((x - 0.5) * (4 * math.log(2 + math.sqrt(3)) / (width + 1e-3)))

    def extra_repr(self) -> str:
        return f"{self.shape}, sharpness={float(self.sharpness):.3g}"


@dataclass(frozen=True)
class Scheduled:
    """Sharpens the layers of a network one after the other, the first one first.

    Args:
        start: epochs before the first layer begins.
        each: epochs in which a layer goes from 0 to 1.
        pause: epochs between two layers.
    """

    start: float = 30.0
    each: float = 4.0
    pause: float = 2.0

    def __post_init__(self) -> None:
        if not (0 <= self.start < math.inf and 0 < self.each < math.inf and 0 <= self.pause < math.inf):
            raise ConfigError(
                f"Scheduled: start {self.start}, each {self.each}, pause {self.pause}: expected epochs of at least 0, "
                "and above 0 for each layer"
            )

    def sharpness(self, layer: int, epoch: float) -> float:
        """Of the layer with this number, after so many epochs."""
        begun = epoch - self.start - layer * (self.each + self.pause)
        return min(max(begun / self.each, 0.0), 1.0)

    def end(self, layers: int) -> float:
        """Epochs until the last of so many layers is a step."""
        return self.start + layers * self.each + (layers - 1) * self.pause

    def __call__(self, network: nn.Module, epoch: float) -> None:
        """Set the sharpness of every layer as it is after so many epochs."""
        layers = [m for m in network.modules() if isinstance(m, Sharpening)]
        for i, layer in enumerate(layers):
            layer.sharpness.fill_(self.sharpness(i, epoch))


class SoftLIF(Activation):
    """The rate of a LIF neuron at current gain z + bias, smoothed at its threshold, times an amplitude.

    r(J) = 1 / (tau_ref + tau_rc ln(1 + 1/j)) with j = sigma ln(1 + exp((J - 1) / sigma)), which at sigma -> 0 is
    max(J - 1, 0). While training, normal noise of `noise` Hz is added to the rates in the forward pass alone, for the
    variability of spikes. (Hunsberger & Eliasmith 2015.) Times are in milliseconds, rates in Hz.

    Args:
        tau_ref, tau_rc: refractory time and membrane time constant, ms.
        sigma: width of the smoothing.
        gain, bias: J = gain z + bias; a bias of 1 begins at threshold.
        amplitude: what a rate of 1 Hz hands on.
        noise: standard deviation, Hz.
    """

    def __init__(
        self,
        tau_ref: float = 2.0,
        tau_rc: float = 20.0,
        sigma: float = 0.02,
        gain: float = 1.0,
        bias: float = 1.0,
        amplitude: float = 0.01,
        noise: float = 10.0,
    ) -> None:
        super().__init__()
        values = {"tau_ref": tau_ref, "tau_rc": tau_rc, "sigma": sigma, "gain": gain, "amplitude": amplitude}
        for name, value in values.items():
            positive("SoftLIF", name, value)
        if not math.isfinite(bias):
            raise ConfigError(f"SoftLIF: bias is {bias}, expected a finite current")
        if not 0 <= noise < math.inf:
            raise ConfigError(f"SoftLIF: noise is {noise}, expected a finite standard deviation of at least 0 Hz")
        self.tau_ref, self.tau_rc, self.sigma = tau_ref, tau_rc, sigma
        self.gain, self.bias, self.amplitude, self.noise = gain, bias, amplitude, noise

    @property
    def threshold(self) -> float:
        return self.top

    @property
    def top(self) -> float:
        return self.amplitude * 1000 / self.tau_ref

    def rate(self, current: Tensor) -> Tensor:
        """r(J) in Hz."""
        x = (current - 1) / self.sigma
        low = -x - math.log(self.sigma)  # ln(1 + 1/j) far below threshold, where j underflows
        j = self.sigma * F.softplus(x, threshold=30.0)
        log = torch.where(x < -20, low, torch.log1p(1 / torch.where(x < -20, torch.ones_like(j), j)))
        return 1000 / (self.tau_ref + self.tau_rc * log)

    def forward(self, x: Tensor) -> Tensor:
        rate = self.rate(self.gain * x.float() + self.bias if x.dtype != torch.float64 else self.gain * x + self.bias)
        if self.training and self.noise:
            rate = rate + self.noise * torch.randn_like(rate)
        return (self.amplitude * rate).to(x.dtype)

    def extra_repr(self) -> str:
        return (
            f"tau_ref={self.tau_ref:g}, tau_rc={self.tau_rc:g}, sigma={self.sigma:g}, gain={self.gain:g}, "
            f"bias={self.bias:g}, amplitude={self.amplitude:g}, noise={self.noise:g}"
        )
