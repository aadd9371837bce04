"""A LIF neuron in whose place noise is trained for one step, and which then runs for any number (Jiang & Zhang)."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from spikewright import kernels
from spikewright.clock import State, Temporal
from spikewright.errors import ConfigError, expect, positive
from spikewright.neurons.parts import HardReset, Reset
from spikewright.noise import bounded, normal
from spikewright.precision import autocast_dtype
from spikewright.surrogate import Rectangle, Surrogate

__all__ = ["NoisyLIF"]

Kind = Literal["gaussian", "uniform", "none"]
Over = Literal["sample", "channel", "batch"]
Match = Literal["range", "variance"]
First = Literal["noise", "rest"]
FLAT = 1e-8  # a membrane that nowhere deviates more from its mean is flat


class NoisyLIF(Temporal):
    """LIF whose membrane is shifted and scaled to stand where noise stood in single-step training.

        first step:  H = N + I                  N: noise in 0..1
        later:       H = M + N' + I             M = beta + (v - mean v) / (alpha max|v - mean v|), v of the step before
        S = [H > v_th],  v = reset(H, S)        N': noise about 1/2 - beta that makes M + N' as wide as N

    M lies within beta +- 1 / alpha and its mean is beta. N' has the half-width 1/2 - 1 / alpha (`match` "range") or
    sqrt(1/4 - 1 / alpha^2) ("variance": the squares of the half-widths add up to that of N). At alpha = 2 there is no
    N'; at alpha = infinity (None) no M, and the steps are independent draws of the trained net. A leak of the membrane
    and the sigma the paper divides by cancel out of M, so there are none here.

    The noise belongs to the neuron, in evaluation too. It is a function of the seed, the sample, the step and the place
    in the network, so neither batches nor blocks of steps change it.

    Args:
        alpha: at least 2, or None for infinity.
        beta: mean of M, 0..1.
        noise: "gaussian" is g / max|g| scaled to 0..1, "uniform" is U(0, 1), "none" their mean, 1/2.
        over: whose mean and maximum are meant: those of a "sample"'s layer, of each "channel" of it, or of the layer
            for the whole "batch", where a sample's result depends on the others.
        match: how wide N' is.
        first: "noise": the first step is the trained one; "rest": it has a flat membrane, M = beta, and N'.
        v_th, surrogate, reset, strict: as for `LIF`.

    Source: Jiang & Zhang on noise-based training, eq. 5-9 (it gives the range of M without beta). It is silent on how
    noise is brought into 0..1, on what a maximum is over, and on a flat membrane, where M = beta here.
    """

    spikes = True
    pools = True
    draws = True

    def __init__(
        self,
        alpha: float | None = 4.0,
        beta: float = 0.5,
        *,
        noise: Kind = "gaussian",
        over: Over = "sample",
        match: Match = "range",
        first: First = "noise",
        v_th: float = 1.0,
        surrogate: Surrogate = Rectangle(),
        reset: Reset = HardReset(),
        strict: bool = True,
    ):
        super().__init__()
        positive("NoisyLIF", "v_th", v_th, "threshold")
        if alpha is not None and not 2 <= alpha < math.inf:
            raise ConfigError(
                f"NoisyLIF: alpha is {alpha}, expected a number of at least 2 (below, the membrane alone is wider than "
                "the noise it stands for), or none for infinity"
            )
        if not 0 <= beta <= 1:
            raise ConfigError(f"NoisyLIF: beta is {beta}, expected a number from 0 to 1")
        choices = {"noise": (noise, Kind), "over": (over, Over), "match": (match, Match), "first": (first, First)}
        for name, (value, kind) in choices.items():
            if value not in get_args(kind):
                raise ConfigError(f"NoisyLIF: {name} is {value!r}, expected {' or '.join(map(repr, get_args(kind)))}")
        self.alpha, self.beta, self.v_th, self.strict = alpha, beta, v_th, strict
        self.noise, self.over, self.match, self.first = noise, over, match, first
        self.surrogate = expect("NoisyLIF", "surrogate", surrogate, Surrogate)
        self.reset = expect("NoisyLIF", "reset", reset, Reset)

    @property
    def rest_width(self) -> float:
        """Half-width of N', what noise is left beside the membrane."""
        share = 0.0 if self.alpha is None else 1 / self.alpha
        return 0.5 - share if self.match == "range" else math.sqrt(0.25 - share**2)

    def run(
        self, current: Tensor, state: State = None, pool: int = 0, keys: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """current [T, B, ...] -> (spikes [T, B, ...], state); `keys` int64 [B] make the noise at rest, else 0, 1, ...

        The state is (v [B, ...], keys [B], steps so far). `pool` as for `LIF`.
        """
        kernels.block_of(current[:1, :0] if current.dim() > 1 else current)  # refuses what is no block
        if state is None:
            rows = torch.arange(current.shape[1], device=current.device) if keys is None else keys
            state = (None, rows, torch.zeros((), dtype=torch.long, device=current.device))
            start = 0  # known: to ask a GPU for it would wait for all work before
        else:
            start = 0 if state[2].is_meta else int(state[2])
        (v, keys, at), out = state, []
        # a single step stays whole: gradients of parts are put together again in another order of channels
        for t, block in enumerate(current.split(1) if len(current) > 1 else [current], start):
            s, (v,) = kernels.integrate_and_fire(
                block,
                (self.membrane(v, block[0].detach(), keys, t),),
                decay=1.0,
                gain=1.0,
                v_th=self.v_th,
                v_init=0.0,
                reset=self.reset,
                surrogate=self.surrogate,
                strict=self.strict,
                pool=pool,
                dtype=autocast_dtype(current.device) or current.dtype,
            )
            out.append(s)
        return out[0] if len(out) == 1 else torch.cat(out), (v, keys, at + len(out))

    def membrane(self, v: Tensor | None, like: Tensor, keys: Tensor, step: int) -> Tensor:
        """What stands beside the current at a step: N, or M + N' of the potential v [B, ...] of the step before."""
        if self.alpha is None or (step == 0 and self.first == "noise"):
            return self._drawn(like, keys, step, 0.5, 0.5)
        around = self._drawn(like, keys, step, self.rest_width, 0.5 - self.beta)
        return around.add_(self.beta) if v is None else self.normalised(v) + around

    def normalised(self, v: Tensor) -> Tensor:
        """M of a potential: [B, ...] -> [B, ...]."""
        if self.alpha is None or not v.numel():
            return torch.full_like(v, self.beta)
        deviation = v - v.mean(self._dims(v), keepdim=True)
        most = deviation.abs().amax(self._dims(v), keepdim=True).clamp(min=FLAT)
        return deviation / (self.alpha * most) + self.beta

    def _drawn(self, like: Tensor, keys: Tensor, step: int, width: float, centre: float) -> Tensor:
        """Noise within centre +- width, of the shape of `like`; images in the order of their memory, channels last."""
        batch, *shape = like.shape
        dtype = kernels.raised(like[:0]).dtype
        if self.noise == "none" or width == 0 or not like.numel():
            return torch.full_like(like, centre, dtype=dtype)
        places = [*shape[1:], shape[0]] if len(shape) == 3 else shape
        gaussian, size = self.noise == "gaussian", math.prod(shape)
        if self.over == "sample" or not gaussian:
            x = bounded(keys, step, size, width, centre, gaussian)
        else:
            x = normal(keys, step, size)
        x = x.view(batch, *places)
        x = x.permute(0, 3, 1, 2) if len(shape) == 3 else x
        if self.over != "sample" and gaussian:
            x = x * (width / x.abs().amax(self._dims(x), keepdim=True)) + centre
        return x.to(dtype)

    def _dims(self, x: Tensor) -> tuple[int, ...]:
        """What a mean or maximum is over; a dense layer is one channel."""
        first = {"batch": 0, "sample": 1, "channel": min(2, x.dim() - 1)}[self.over]
        return tuple(range(first, x.dim()))

    def extra_repr(self) -> str:
        alpha = "infinity" if self.alpha is None else f"{self.alpha:g}"
        return (
            f"alpha={alpha}, beta={self.beta:g}, noise={self.noise}, over={self.over}, match={self.match}, "
            f"first={self.first}, v_th={self.v_th:g}, reset={self.reset}, surrogate={self.surrogate}"
        )
