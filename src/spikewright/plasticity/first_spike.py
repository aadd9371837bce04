"""First-spike networks as their events: a body of convolutions, once-firing neurons and pools, run layer by layer.

`Cascade` reads such a body and runs it event by event, on as many threads as torch uses. Its layers are the very
modules of the body: what is learned here is what the `SNN` then runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from spikewright.encode import Encoder, Latency
from spikewright.errors import ConfigError
from spikewright.neurons import OnceIF, Synapse
from spikewright.plasticity import loops
from spikewright.shares import in_shares
from spikewright.snn import SNN

__all__ = ["Cascade", "Events", "Geometry", "Layer", "events_of"]

Array = np.ndarray[Any, Any]
CHUNK = 128  # samples a thread takes at a time


class Events(NamedTuple):
    """First spikes of N samples: those of sample n are at[ends[n, 0]:ends[n, T]], step by step.

    `at` holds neurons as numbers within [C, H, W], 2 bytes each where that is enough.
    """

    at: Array
    ends: Array  # int64 [N, T + 1]

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def bytes(self) -> int:
        """Memory it takes."""
        return int(self.at.nbytes + self.ends.nbytes)

    @staticmethod
    def joined(parts: Sequence[Events]) -> Events:
        """Those of all parts, one after the other."""
        starts = np.cumsum([0, *(len(p.at) for p in parts)])
        ends = [p.ends + start for p, start in zip(parts, starts, strict=False)]
        return Events(np.concatenate([p.at for p in parts]), np.concatenate(ends))


def events_of(times: Array, steps: int) -> Events:
    """First-spike times [N, M] (uint8, `steps`: never) as events."""
    ends = np.empty((len(times), steps + 1), np.int64)
    at = np.empty(int((times < steps).sum()), np.uint16 if times.shape[1] <= 1 << 16 else np.uint32)
    loops.sort(times, steps, at, ends)
    return Events(at, ends)


class Geometry(NamedTuple):
    """Sizes of a convolution as the loops take them."""

    shape: tuple[int, int, int]
    kernel: int
    padding: int
    features: int

    @property
    def rows(self) -> int:
        """Rows of its output."""
        return self.shape[1] + 2 * self.padding - self.kernel + 1

    @property
    def columns(self) -> int:
        """Columns of its output."""
        return self.shape[2] + 2 * self.padding - self.kernel + 1


@dataclass(frozen=True)
class Layer:
    """One convolution with its neurons and its pool.

    Attributes:
        name: of the convolution in the body.
        conv: the module that holds the weights.
        geometry: its sizes.
        threshold: of its neurons; infinity where the body only adds potentials up.
        pool: (size, stride, padding), (1, 1, 0) for none.
    """

    name: str
    conv: nn.Conv2d
    geometry: Geometry
    threshold: float
    pool: tuple[int, int, int] = (1, 1, 0)

    @property
    def out_shape(self) -> tuple[int, int, int]:
        """[features, rows, columns] behind the pool."""
        size, stride, padding = self.pool
        g = self.geometry
        return (g.features, *((n + 2 * padding - size) // stride + 1 for n in (g.rows, g.columns)))  # type: ignore[return-value]

    def weights(self) -> Array:
        """The weights as the loops take them, a copy: flat [C, K, K reversed, F]."""
        w = self.conv.weight.detach().cpu().permute(1, 2, 3, 0).flip(2)
        return w.contiguous().numpy().reshape(-1).copy()

    def put(self, w: Array) -> None:
        """Write weights in the loops' order into the module."""
        g = self.geometry
        shaped = torch.from_numpy(w.copy()).view(g.shape[0], g.kernel, g.kernel, g.features).flip(2).permute(3, 0, 1, 2)
        with torch.no_grad():
            self.conv.weight.copy_(shaped)

    def run(self, events: Events, w: Array) -> Array:
        """First-spike times behind the pool: events -> uint8 [N, features * rows * columns]."""
        out = np.empty((len(events), math.prod(self.out_shape)), np.uint8)
        loops.fire(*events, w, *self.geometry_arguments, self.threshold, *self.pool, out)
        return out

    @property
    def geometry_arguments(self) -> tuple[tuple[int, int, int], int, int, int]:
        """(shape, kernel, padding, features)."""
        return self.geometry.shape, self.geometry.kernel, self.geometry.padding, self.geometry.features


class Cascade:
    """The layers of an `SNN` whose neurons fire once, up to the first module of another kind.

    Args:
        snn: encoder a `Latency`, body a `nn.Sequential` of Conv2d, OnceIF, and behind it, where there is a pool,
            MaxPool2d, OnceIF; a last Conv2d may be followed by Synapse(Factor(1)), which adds its potentials up.
        shape: (C, H, W) of the encoded images.

    Raises ConfigError naming the layer that does not fit.
    """

    def __init__(self, snn: SNN, shape: tuple[int, int, int]):
        self.snn = snn
        if not isinstance(snn.encode, Latency):
            raise ConfigError(
                f"local learning by first spikes needs an encoder of one spike an input, found {snn.encode}: "
                "use RankOrder or another latency code"
            )
        if not 1 <= snn.steps < loops.SILENT:
            raise ConfigError(f"local learning by first spikes takes 1 to 254 steps, found {snn.steps}")
        self.encode: Latency = snn.encode
        self.steps = snn.steps
        self.shape = shape
        self.layers = list(_layers(snn.body, shape))

    @classmethod
    def of(cls, snn: SNN, images: Tensor) -> Cascade:
        """The cascade for images like these [B, C, H, W]."""
        coded = snn.encode.run(images[:1], 0, 1, snn.steps)
        if coded.dim() != 5:
            raise ConfigError(f"local learning of convolutions takes images [B, C, H, W], found {tuple(images.shape)}")
        channels, height, width = coded.shape[2:]
        return cls(snn, (channels, height, width))

    @classmethod
    def features(cls, body: nn.Module, encode: Encoder, shape: tuple[int, int, int]) -> int:
        """How many neurons the last pool has for images of that shape: inputs of what comes behind it."""
        found = cls.of(SNN(body, 1, encode), torch.zeros(1, *shape))
        return math.prod(found.layers[-1].out_shape)

    def index(self, name: str) -> int:
        """Where the layer of that name stands; ConfigError lists those there are."""
        names = [layer.name for layer in self.layers]
        if name not in names:
            raise ConfigError(f"there is no layer {name!r} to learn: the body has {', '.join(names) or 'none'}")
        return names.index(name)

    def encoded(self, images: Tensor) -> Array:
        """First-spike times of images [B, C, H, W]: uint8 [B, channels * rows * columns]."""
        times = self.encode.times(images, self.steps).flatten(1)
        return times.clamp(max=self.steps).to(torch.uint8).numpy()

    def times(self, images: Tensor, upto: int) -> Array:
        """First-spike times behind the first `upto` layers: images [B, C, H, W] -> uint8 [B, neurons]."""
        weights = [layer.weights() for layer in self.layers[:upto]]

        def work(part: Tensor) -> Array:
            times = self.encoded(part)
            for layer, w in zip(self.layers, weights, strict=False):
                times = layer.run(events_of(times, self.steps), w)
            return times

        def several(start: int, stop: int) -> Array:
            return np.concatenate([work(part) for part in images[start:stop].split(CHUNK)])

        return np.concatenate(in_shares(several, len(images), CHUNK))

    def events(self, images: Tensor, upto: int, inhibit: bool = False, timeless: bool = False) -> Events:
        """Those times as events; `inhibit` leaves the earliest channel of each place only, `timeless` lets all fire at
        step 0, map after map, for a layer that asks no more than who fired."""
        times = self.times(images, upto)
        if inhibit:
            loops.inhibited(times, self.layers[upto - 1].out_shape[0] if upto else self.shape[0], self.steps)
        if timeless:
            times[times < self.steps] = 0
        return events_of(times, self.steps)


def _layers(body: nn.Module, shape: tuple[int, int, int]) -> Iterator[Layer]:
    if type(body) is not nn.Sequential:
        raise ConfigError(f"local learning reads a plain nn.Sequential body, found {type(body).__name__}")
    rest = list(body.named_children())
    while rest and isinstance(rest[0][1], nn.Conv2d):
        name, conv = rest.pop(0)
        geometry = _geometry(name, conv, shape)  # type: ignore[arg-type]
        neuron = rest.pop(0)[1] if rest else None
        if isinstance(neuron, Synapse) and neuron.leak.coefficients() == (1.0, 1.0):
            yield Layer(name, conv, geometry, math.inf)  # type: ignore[arg-type]
            return
        if not isinstance(neuron, OnceIF) or not neuron.strict or neuron.v_init != 0:
            raise ConfigError(
                f"layer {name!r} is followed by {neuron}, expected OnceIF with strict=True and v_init=0, which is what "
                "local learning by first spikes simulates"
            )
        pool = (1, 1, 0)
        if len(rest) > 1 and isinstance(rest[0][1], nn.MaxPool2d) and isinstance(rest[1][1], OnceIF):
            pool = _pool(*rest.pop(0))
            rest.pop(0)
        layer = Layer(name, conv, geometry, neuron.v_th, pool)  # type: ignore[arg-type]
        yield layer
        shape = layer.out_shape


def _geometry(name: str, conv: nn.Conv2d, shape: tuple[int, int, int]) -> Geometry:
    kernel, padding = conv.kernel_size, conv.padding
    plain = conv.stride == (1, 1) and conv.dilation == (1, 1) and conv.groups == 1 and conv.padding_mode == "zeros"
    if not plain or conv.bias is not None or len({*kernel}) > 1 or isinstance(padding, str) or len({*padding}) > 1:
        raise ConfigError(
            f"layer {name!r}: local learning takes square convolutions of stride 1 without bias, found {conv}"
        )
    if conv.in_channels != shape[0]:
        raise ConfigError(
            f"layer {name!r} takes {conv.in_channels} channels, its input has {shape[0]}: set in_channels={shape[0]}"
        )
    found = Geometry(shape, kernel[0], int(padding[0]), conv.out_channels)
    if found.rows < 1 or found.columns < 1:
        raise ConfigError(
            f"layer {name!r}: inputs of {shape[1]} x {shape[2]} are too small for kernels of {kernel[0]} x {kernel[1]} "
            f"and a padding of {padding[0]}: use larger images, or smaller kernels and pools"
        )
    return found


def _pool(name: str, pool: Any) -> tuple[int, int, int]:
    pairs = [(v, v) if isinstance(v, int) else v for v in (pool.kernel_size, pool.stride, pool.padding)]
    if any(a != b for a, b in pairs) or pool.dilation != 1 or pool.ceil_mode:
        raise ConfigError(f"layer {name!r}: local learning takes square pools without dilation, found {pool}")
    return pairs[0][0], pairs[1][0], pairs[2][0]
