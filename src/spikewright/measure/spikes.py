"""Spikes: how many, in which layer, and which layers are silent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.clock import Clock, Temporal
from spikewright.measure.operations import body_of
from spikewright.snn import SNN, inference
from spikewright.times.layer import Timed

__all__ = ["CHUNK", "SpikeCount", "firing_rates", "silent_layers", "watching"]

CHUNK = 64  # steps run at a time, so that memory does not grow with T
FEW = 4  # for rates alone, which are also looked at in the middle of a training


@dataclass
class SpikeCount:
    """Spikes of one layer and its neuron updates (neurons x steps), summed over everything it saw."""

    spikes: int = 0
    updates: int = 0

    @property
    def rate(self) -> float:
        """Spikes per neuron and step."""
        return self.spikes / self.updates if self.updates else 0.0


@contextmanager
def watching(network: nn.Module) -> Iterator[dict[str, SpikeCount]]:
    """Count the spikes of every neuron layer in the forwards made inside the context, by the layer's name in the body.

    A layer that hands on currents is counted by the spikes behind them (`Temporal.spikes_in`); one without spikes, a
    synapse's filter, does not appear. A signed or scaled spike is one spike.
    """
    counts: dict[str, SpikeCount] = {}
    handles = [
        module.register_forward_hook(_hook(counts, name or type(module).__name__))
        for name, module in body_of(network).named_modules()
        if isinstance(module, (Temporal, Timed))
    ]
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def _hook(counts: dict[str, SpikeCount], name: str) -> Any:
    def hook(module: Temporal | Timed, args: tuple[Any, ...], out: Tensor) -> None:
        clock = Clock.running(module)
        if isinstance(module, Timed):
            if module.spikes:
                count = counts.setdefault(name, SpikeCount())
                count.spikes += int((out < clock.steps).sum())
                count.updates += len(out) * out.shape[-1] * clock.steps
            return
        spikes = module.spikes_in(out.detach().unflatten(0, (clock.steps, -1)), clock.began(module))
        if spikes is not None:
            count = counts.setdefault(name, SpikeCount())
            count.spikes += int(spikes.count_nonzero())
            count.updates += spikes.numel()

    return hook


@torch.no_grad()
def firing_rates(snn: SNN, x: Tensor) -> dict[str, float]:
    """Spikes per neuron and step of every spiking layer, over a batch x [B, ...], in evaluation mode."""
    with inference(snn), watching(snn) as counts:
        snn.scores(x, chunk=FEW)
    return {name: count.rate for name, count in counts.items()}


def silent_layers(rates: dict[str, float]) -> list[str]:
    """Names of the layers without a single spike: nothing behind them can learn or decide."""
    return [name for name, rate in rates.items() if rate == 0]
