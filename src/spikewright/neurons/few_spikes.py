"""A neuron that says a number in K steps by a few weighted spikes (Stoeckl & Maass 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from spikewright.clock import State, Temporal
from spikewright.errors import ConfigError, expect, whole
from spikewright.kernels import block_of
from spikewright.surrogate import Surrogate, Triangle

__all__ = ["FewSpikes"]


class FewSpikes(Temporal):
    """Few-spikes neuron: it sums its current over K steps, and in the K steps after says what it makes of the sum.

        z[t] = [v > threshold[t]],  hands on weight[t] z[t],  v <- v - drop[t] z[t],   t = 0 .. K - 1

    With threshold = drop = weight = limit 2^-(t+1) (`binary`), the spikes are the K binary digits of v, rounded down on
    a grid of limit 2^-K and clipped there; a v on the grid itself loses a digit, for > is strict. Other numbers make
    other functions of v (`spikewright.convert.few_spikes`).

    Args:
        threshold, drop, weight: K numbers each.
        window: the neuron listens in the steps (window - 1) K .. window K - 1 and speaks in the K steps after them;
            before and afterwards it is silent. The first layer has window 1.
        surrogate: derivative of the spike at v - threshold.
    """

    spikes = True

    def __init__(
        self,
        threshold: tuple[float, ...] = (0.5, 0.25, 0.125),
        drop: tuple[float, ...] = (0.5, 0.25, 0.125),
        weight: tuple[float, ...] = (0.5, 0.25, 0.125),
        window: int = 1,
        surrogate: Surrogate = Triangle(),  # noqa: B008 - frozen
    ):
        super().__init__()
        self.threshold, self.drop, self.weight = (tuple(map(float, n)) for n in (threshold, drop, weight))
        sizes = {len(self.threshold), len(self.drop), len(self.weight)}
        if len(sizes) > 1 or 0 in sizes or not all(map(math.isfinite, self.threshold + self.drop + self.weight)):
            raise ConfigError(
                f"FewSpikes: {len(self.threshold)} thresholds, {len(self.drop)} drops, {len(self.weight)} weights: "
                "expected K finite numbers of each"
            )
        whole("FewSpikes", "window", window)
        self.window, self.surrogate = window, expect("FewSpikes", "surrogate", surrogate, Surrogate)

    @classmethod
    def binary(cls, bits: int, limit: float, window: int = 1) -> FewSpikes:
        """Whose spikes are the binary digits of a number from 0 to (almost) `limit`."""
        digits = tuple(limit * 2.0 ** -(t + 1) for t in range(bits))
        return cls(digits, digits, digits, window)

    @property
    def bits(self) -> int:
        """K, the steps it takes to say a number."""
        return len(self.threshold)

    def run(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """current [T, B, ...] -> (weighted spikes [T, B, ...], (v [B, ...], steps so far))."""
        x = block_of(current)
        v, at = state or (torch.zeros_like(x[0]), torch.zeros((), dtype=torch.long, device=x.device))
        start, speaks, out = 0 if at.is_meta else int(at), self.window * self.bits, []
        for t, i in enumerate(x.unbind(0), start - speaks):
            v = v + (i if -self.bits <= t < 0 else 0 * i)  # what is not finite stays to be seen
            if 0 <= t < self.bits:
                z = self.surrogate.spike(v - self.threshold[t], 1.0, True)
                v = v - self.drop[t] * z
                out.append(self.weight[t] * z)
            else:
                out.append(torch.zeros_like(v))
        return torch.stack(out).to(current.dtype), (v, at + len(x))

    def say(self, v: Tensor) -> Tensor:
        """What the neuron says of a sum: the function it stands for."""
        total = torch.zeros_like(v)
        for threshold, drop, weight in zip(self.threshold, self.drop, self.weight, strict=True):
            z = (v > threshold).to(v.dtype)
            total, v = total + weight * z, v - drop * z
        return total

    def extra_repr(self) -> str:
        return f"bits={self.bits}, window={self.window}"
