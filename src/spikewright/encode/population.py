"""Population codes: a value becomes the spike times of several cells, each with a range of its own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from spikewright.encode.latency import Latency
from spikewright.errors import ConfigError, positive, whole

__all__ = ["Population"]


@dataclass(frozen=True)
class Population(Latency):
    """Gaussian receptive fields (Bohte et al. 2002): each value drives m cells that fire the earlier the nearer it is.

    Centres mu_i = (2 i - 3) / (2 (m - 2)), i = 1 .. m, width 1 / (beta (m - 2)) over 0..1; a_i = exp(-(x - mu_i)^2 /
    (2 sigma^2)), t_i = round((T - 1)(1 - a_i)), never from `cut` of the sequence on (classically 9 of 10 steps).
    [B, C, ...] becomes [B, C m, ...], the cells of a channel next to each other.

    Args:
        m: cells a value, above 2.
        beta: how narrow the fields are.
        cut: share of the sequence (or window) from which a cell stays silent.
        window: spread the times over so many steps, t_i = window (1 - a_i), and do not round them.
    """

    m: int = 6
    beta: float = 1.5
    cut: float = 0.9
    window: float | None = None

    def __post_init__(self) -> None:
        whole("Population", "m", self.m, 3)
        if self.window is not None and not 0 < self.window < math.inf:
            raise ConfigError(
                f"Population: window is {self.window}, expected a finite number of steps above 0, or none"
            )
        positive("Population", "beta", self.beta)
        if not 0 < self.cut <= 1:
            raise ConfigError(f"Population: cut is {self.cut}, expected a share above 0 and at most 1")

    @property
    def cells(self) -> int:
        return self.m

    @property
    def centres(self) -> list[float]:
        """mu_1 .. mu_m; the first lies half a spacing below 0."""
        return [(2 * i - 3) / (2 * (self.m - 2)) for i in range(1, self.m + 1)]

    def activity(self, x: Tensor) -> Tensor:
        """a_i, how near each value is to each centre: [B, C, ...] -> [B, C m, ...]."""
        mu = torch.tensor(self.centres, dtype=x.dtype, device=x.device).view(-1, *[1] * (x.dim() - 2))
        sigma = 1 / (self.beta * (self.m - 2))
        return torch.exp(-((x[:, :, None] - mu) ** 2) / (2 * sigma**2)).flatten(1, 2)

    def of(self, x: Tensor, steps: int) -> Tensor:
        if self.window is not None:
            t = self.window * (1 - self.activity(x))
            return torch.where(t < self.cut * self.window, t, math.inf)
        t = torch.round((steps - 1) * (1 - self.activity(x)))
        return torch.where(t < max(self.cut * (steps - 1), 0.5), t, math.inf)

    def decode(self, spikes: Tensor) -> Tensor:
        """Mean of the centres, weighed by how early each cell fires: [T, B, C m, ...] -> [B, C, ...]."""
        a = (1 - self.first(spikes) / max(1, len(spikes) - 1)).clamp(min=0).unflatten(1, (-1, self.m))
        mu = torch.tensor(self.centres, dtype=a.dtype, device=a.device).view(-1, *[1] * (a.dim() - 3))
        return (a * mu).sum(2) / a.sum(2).clamp(min=1e-9)
