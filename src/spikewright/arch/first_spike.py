"""Networks of neurons that fire once: convolutions with thresholds, and pools that hand on their first spike."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.neurons import Factor, OnceIF, Synapse
from spikewright.shares import in_shares

__all__ = ["Block", "SpikeConv2d", "first_spike_layers"]

SPARSE = 0.1  # share of nonzero inputs up to which adding them up one by one is faster


class SpikeConv2d(nn.Conv2d):
    """A convolution (square, stride 1, no bias) that passes over the zeros of its input where it can: without
    gradients, on the CPU, when few inputs are spikes. Then its work is in proportion to them.

    Args:
        in_channels, out_channels: maps in and out.
        kernel_size: its side.
        padding: zeros around the input.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Any, padding: Any = 0):
        super().__init__(in_channels, out_channels, kernel_size, padding=padding, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, F, H', W']."""
        wanted = x.dim() == 4 and x.shape[1] == self.in_channels and x.dtype == self.weight.dtype
        plain = x.dtype in (torch.float32, torch.float64) and x.device.type == "cpu" and not torch.is_grad_enabled()
        if not (wanted and plain) or torch.is_autocast_enabled("cpu") or not x.numel():
            return super().forward(x)
        side, margin = int(self.kernel_size[0]), int(self.padding[0])
        rows, columns = (n + 2 * margin - side + 1 for n in x.shape[2:])
        if rows < 1 or columns < 1 or int(x.count_nonzero()) > SPARSE * x.numel():
            return super().forward(x)
        from spikewright.plasticity.loops import scatter  # compiles, or finds in the cache

        out = x.new_empty(len(x), rows, columns, self.out_channels)
        w = self.weight.detach().permute(1, 2, 3, 0).flip(2).contiguous().flatten().numpy()
        rows_last = x.detach().permute(0, 2, 3, 1).contiguous()
        arrays = (rows_last.numpy(), w, side, margin, out.numpy())
        in_shares(lambda start, stop: scatter(*arrays, start, stop), len(x), 32)
        return out.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class Block:
    """One layer: `features` maps of `kernel` x `kernel`, initial weights N(mean, std)
    cut to low .. high, then a max pool.

    Args:
        v_th: threshold of the neurons; None: they never fire and the potentials themselves are handed on.
        pool: (size, stride, padding), None for none.
    """

    features: int
    kernel: int
    padding: int
    v_th: float | None
    pool: tuple[int, int, int] | None = None
    mean: float = 0.8
    std: float = 0.05
    low: float = 0.0
    high: float = 1.0


def first_spike_layers(channels: int, blocks: Sequence[Block]) -> OrderedDict[str, nn.Module]:
    """The named layers conv1, fire1, pool1, gate1, conv2, ... for inputs of that many channels; their weights are drawn
    from torch's global generator."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for n, block in enumerate(blocks, 1):
        conv = SpikeConv2d(channels, block.features, block.kernel, block.padding)
        nn.init.normal_(conv.weight, block.mean, block.std)
        conv.weight.data.clamp_(block.low, block.high)
        layers[f"conv{n}"] = conv
        layers[f"fire{n}"] = Synapse(Factor(1.0)) if block.v_th is None else OnceIF(block.v_th)
        if block.pool:
            layers[f"pool{n}"] = nn.MaxPool2d(*block.pool)
            layers[f"gate{n}"] = OnceIF(0.5)
        channels = block.features
    return layers
