"""What is done to a network between epochs: a pure function of it, the training set and a seeded generator."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.data import Split
from spikewright.snn import SNN, inference
from spikewright.times import Dense
from spikewright.times.network import Uniform

__all__ = ["Redraw", "Upkeep"]


class Upkeep:
    """Base of what `Fit` does between epochs. Subclasses write `__call__`."""

    def __call__(self, snn: SNN, split: Split, generator: torch.Generator) -> int:
        """Look after `snn`, trained on `split`; returns how many neurons were changed."""
        raise NotImplementedError


@dataclass(frozen=True)
class Redraw(Upkeep):
    """Draw the weights of hidden neurons that hardly fire anew (S4NN).

    Args:
        draws: what the weights of each hidden layer are drawn from.
        least: share of the training samples for which a neuron must have fired.
        samples: how many of them are looked at.
    """

    draws: Sequence[Uniform]
    least: float = 0.001
    samples: int = 10_000

    @torch.no_grad()
    def __call__(self, snn: SNN, split: Split, generator: torch.Generator) -> int:
        count = min(self.samples, len(split))
        layers = [m for m in snn.body.modules() if isinstance(m, Dense)][:-1]
        device = next(snn.parameters()).device
        with inference(snn), _fired(layers) as fired:
            for part in torch.arange(count).split(500):
                snn(split.batch(part).to(device))
        changed = 0
        for layer, times, draw in zip(layers, fired, self.draws, strict=True):
            idle = (times < self.least * count).nonzero()[:, 0]
            layer.weight[idle] = draw(len(idle), layer.in_features, generator).to(layer.weight)
            changed += len(idle)
        return changed


@contextmanager
def _fired(layers: list[Dense]) -> Iterator[list[Tensor]]:
    """For how many samples each neuron of these layers fires in the forwards inside the context."""
    found = [torch.zeros(layer.out_features, device=layer.weight.device) for layer in layers]

    def counter(total: Tensor) -> Any:
        def hook(module: nn.Module, args: Any, out: Tensor) -> None:
            total.add_(out.isfinite().sum(0))

        return hook

    handles = [layer.register_forward_hook(counter(total)) for layer, total in zip(layers, found, strict=True)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
