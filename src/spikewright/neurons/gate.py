"""Max pooling of spikes: a gate that follows the input with the most of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from spikewright.clock import State, Temporal
from spikewright.kernels import block_of

__all__ = ["MaxPoolGate"]

Size = int | tuple[int, int]


class MaxPoolGate(Temporal):
    """Of every window, lets through at each step the value of the input whose sum so far is the highest.

    The sum includes the present step; of equal sums the first input in the window counts. A max pool of rates
    (Rueckauer et al. 2017): over time the mean output tends to the maximum of the inputs' means.

    Args:
        kernel_size, stride, padding, dilation, ceil_mode: as in `nn.MaxPool2d`.
    """

    def __init__(
        self,
        kernel_size: Size = 2,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, stride
        self.padding, self.dilation, self.ceil_mode = padding, dilation, ceil_mode

    def run(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """[T, B, C, H, W] -> [T, B, C, H', W'], or [T, B, (C,) L] -> [T, B, (C,) L']; the state is the sums."""
        x = block_of(current)
        start = torch.zeros_like(x[:1]) if state is None else state[None]
        sums = torch.cat([start, x]).cumsum(0)[1:]
        plane = 2 if x.dim() == 5 else 1  # dimensions a window has
        pool = functional.max_pool2d if plane == 2 else functional.max_pool1d
        window = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        front = x.shape[:-plane]
        rows = front.numel()
        _, at = pool(sums.reshape(rows, 1, *x.shape[-plane:]), *window, return_indices=True)
        out = x.reshape(rows, x.shape[-plane:].numel()).gather(1, at.flatten(1))
        return out.view(*front, *at.shape[2:]).to(current.dtype), sums[-1]

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
