"""Connections: which synapse belongs to which pair of neurons, made once for each kind.

A connection shows rules the same picture whatever its kind: at each of P places sit F neurons, each with S synapses.
`index[p, s]` is the presynaptic neuron of synapse s at place p, -1 where it looks at padding. Weights are [F, S] where
all places share them (a convolution; a dense layer is one place) and [P, F, S] where each has its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from spikewright.errors import ConfigError

__all__ = ["Connection", "convolution", "dense", "local"]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Connection:
    """The pre and post views of one layer of synapses.

    Attributes:
        index: presynaptic neuron of each synapse at each place, -1 for padding: int64 [P, S].
        features: F, neurons at a place.
        shared: whether all places use the same weights.
        grid: places down and across, P = grid[0] * grid[1].
    """

    index: Array
    features: int
    shared: bool
    grid: tuple[int, int] = (1, 1)

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """[F, S] if shared, else [P, F, S]."""
        places, synapses = self.index.shape
        return (self.features, synapses) if self.shared else (places, self.features, synapses)

    def pre(self, x: Array, padding: float = 0) -> Array:
        """What each synapse sees of presynaptic values x [inputs]: [P, 1, S], `padding` beyond the edge."""
        return np.where(self.index >= 0, x.reshape(-1)[self.index], padding)[:, None, :]

    def post(self, y: Array) -> Array:
        """What each neuron adds of postsynaptic values y [P, F]: [P, F, 1]."""
        return y.reshape(len(self.index), self.features, 1)

    def reduced(self, dw: Array) -> Array:
        """Updates [P, F, S] in the shape of the weights: summed over the places that share them."""
        return dw.sum(0) if self.shared else dw

    def drive(self, w: Array, x: Array) -> Array:
        """Current of spikes x [inputs] through weights w: [P, F]."""
        return (self.pre(x) * w).sum(-1)


def dense(inputs: int, features: int) -> Connection:
    """Every input to every neuron: one place."""
    return Connection(np.arange(inputs)[None], features, True)


def convolution(
    shape: tuple[int, int, int], features: int, kernel: int, padding: int = 0, stride: int = 1
) -> Connection:
    """A square convolution over inputs [C, H, W]; synapses in the order of `nn.Conv2d.weight[f].flatten()`."""
    index, grid = _windows(shape, kernel, padding, stride)
    return Connection(index, features, True, grid)


def local(shape: tuple[int, int, int], features: int, kernel: int, padding: int = 0, stride: int = 1) -> Connection:
    """Receptive fields like a convolution's, but each place has weights of its own (Saunders 2019)."""
    index, grid = _windows(shape, kernel, padding, stride)
    return Connection(index, features, False, grid)


def _windows(shape: tuple[int, int, int], kernel: int, padding: int, stride: int) -> tuple[Array, tuple[int, int]]:
    channels, height, width = shape
    rows, columns = ((size + 2 * padding - kernel) // stride + 1 for size in (height, width))
    if rows < 1 or columns < 1:
        raise ConfigError(
            f"a kernel of {kernel} x {kernel} does not fit inputs of {height} x {width} with a padding of {padding}: "
            "use a smaller kernel, or larger images"
        )
    numbers = np.full((channels, height + 2 * padding, width + 2 * padding), -1, np.int64)
    numbers[:, padding : padding + height, padding : padding + width] = np.arange(np.prod(shape)).reshape(shape)
    windows = np.lib.stride_tricks.sliding_window_view(numbers, (kernel, kernel), (1, 2))[:, ::stride, ::stride]
    return windows.transpose(1, 2, 0, 3, 4).reshape(rows * columns, -1), (rows, columns)
