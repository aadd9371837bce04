"""Synaptic operations, counted from the inputs that occurred and the synapses that exist.

For every `nn.Linear`, `nn.Conv1d` and `nn.Conv2d` a nonzero input value costs one operation for every synapse it
reaches, for a dense layer of spike times a time that is finite. That fan-out is exact: at the edge of an image a pixel
reaches fewer kernel positions, a stride skips some, and padding is no input. Whether the operation is an accumulate
(AC) or a multiply-accumulate (MAC) is a property of the layer:

- *Events, ACs.* All inputs of the layer are whole multiples of one quantum, 9 at the most: spikes (0, 1), signed or
  scaled spikes, event counts, spikes through average pooling (k of 4, k of 9). Each unit is an event of its own that
  adds a weight, because that is what the hardware an AC stands for does: it routes spikes one by one, a pooled spike
  with the weight divided by the pool's size. So ACs = sum over inputs of |units| x fan-out.
- *Analog values, MACs.* Anything else: the image fed to the first layer by direct encoding, filtered currents, ReLU
  activations. A product per nonzero input and synapse, at every step. (A constant image could be multiplied once and
  the product kept, and a filter commutes with the weights, so other hardware could do with less; what is counted is
  what this network computes.)

Over nine units are a number, not a few events: adding a weight ten times costs more than to multiply once. The decision
is made once for a layer, over all inputs it ever saw, so it depends neither on batches nor on their order. It goes by
values, not by where they come from: an image of up to ten grey levels counts as events too.

Batch norm folds into the weights before inference and costs nothing; pooling and dropout are not counted either. A
weight of zero is an operation like another. A bias is one AC per output and step, kept apart. Layers with weights of
another kind are listed as `uncounted` rather than passed over in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.clock import Clock
from spikewright.times.layer import Dense

__all__ = ["Counts", "LayerCount", "Operations", "counting"]

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | Dense
MOST_UNITS = 9
MOST_MAGNITUDES = (
    32  # distinct values a layer of events may show before it is called analog: 9 units, rounded differently
)
SAMPLE = 4096


@dataclass(frozen=True)
class Operations:
    """Operations of one image through all steps.

    Attributes:
        acs: accumulates caused by spikes ("SynOps").
        macs: multiply-accumulates caused by analog values.
        bias_acs: additions of biases.
        dense: operations if every input were nonzero at every step.
        event_dense: the part of `dense` that belongs to the layers fed by spikes.
        neuron_updates: neurons times steps.
        ann_macs: multiply-accumulates of one dense pass, what the same body costs as an ANN.
        ann_bias_acs: additions of biases in that pass.
    """

    acs: float
    macs: float
    bias_acs: float
    dense: float
    event_dense: float
    neuron_updates: float
    ann_macs: float
    ann_bias_acs: float


@dataclass
class LayerCount:
    """What one layer was fed with. All counts are exact integers, summed over everything the layer saw.

    Attributes:
        name: the layer's name in the body.
        dense: synapses, times the rows (steps and samples) that passed.
        reached: synapses reached by nonzero inputs.
        biases: bias additions.
        magnitudes: |input| -> synapses reached by inputs of that magnitude; None once there are too many.
        rounding: relative spacing of the input's floating-point numbers.
    """

    name: str
    dense: int = 0
    reached: int = 0
    biases: int = 0
    magnitudes: dict[float, int] | None = field(default_factory=lambda: {1.0: 0})
    rounding: float = 0.0

    def add(self, x: Tensor, fan_out: Tensor, rows: int | None = None) -> None:
        """x [rows, channels, positions] met synapses: fan_out int64 [positions], per channel; `rows` if not x's own."""
        self.rounding = max(self.rounding, torch.finfo(x.dtype).eps if x.is_floating_point() else 0.0)
        self.dense += (x.shape[0] if rows is None else rows) * x.shape[1] * int(fan_out.sum())
        nonzero = x != 0
        reached = _reach(nonzero, fan_out)
        self.reached += reached
        if self.magnitudes is None:
            return
        magnitude = x.abs()
        for value in self.magnitudes:
            found = _reach(magnitude == value, fan_out)
            self.magnitudes[value] += found
            reached -= found
        if not reached:
            return
        for value in self.magnitudes:
            nonzero &= magnitude != value
        for value in _few_distinct(magnitude[nonzero]):
            self.magnitudes[value] = _reach(magnitude == value, fan_out)
            if len(self.magnitudes) > MOST_MAGNITUDES:
                self.magnitudes = None
                return

    @property
    def quantum(self) -> float | None:
        """What one event weighs; None if the layer's inputs are analog, 1 if there were none."""
        seen = sorted(value for value, reached in (self.magnitudes or {}).items() if reached)
        if not seen:
            return 1.0 if self.reached == 0 else None
        tolerance = 4 * self.rounding
        for parts in range(1, MOST_UNITS + 1):
            units = [value * parts / seen[0] for value in seen]
            if units[-1] > MOST_UNITS * (1 + tolerance):
                return None
            if all(abs(u - round(u)) <= tolerance * u for u in units):
                return seen[0] / parts
        return None

    @property
    def acs(self) -> int:
        """Accumulates; 0 if the inputs are analog."""
        quantum = self.quantum
        if quantum is None or self.magnitudes is None:
            return 0
        return sum(round(value / quantum) * reached for value, reached in self.magnitudes.items())

    @property
    def macs(self) -> int:
        """Multiply-accumulates; 0 if the inputs are events."""
        return self.reached if self.quantum is None else 0


class Counts:
    """The counts of all layers so far, and the layers' fan-outs, computed once for an input size."""

    def __init__(self) -> None:
        self.layers: dict[str, LayerCount] = {}
        self.uncounted: list[str] = []
        self._fan_outs: dict[tuple[nn.Module, torch.Size, torch.device], Tensor] = {}

    @property
    def acs(self) -> int:
        """Accumulates caused by events, of all layers."""
        return sum(layer.acs for layer in self.layers.values())

    @property
    def macs(self) -> int:
        """Multiply-accumulates caused by analog values, of all layers."""
        return sum(layer.macs for layer in self.layers.values())

    @property
    def bias_acs(self) -> int:
        """Additions of biases, of all layers."""
        return sum(layer.biases for layer in self.layers.values())

    @property
    def dense(self) -> int:
        """Operations if every input were nonzero at every step."""
        return sum(layer.dense for layer in self.layers.values())

    def operations(self, images: int, steps: int, neuron_updates: float = 0.0) -> Operations:
        """Per image, after `images` samples of `steps` steps with that many neuron updates in all."""
        return Operations(
            acs=self.acs / images,
            macs=self.macs / images,
            bias_acs=self.bias_acs / images,
            dense=self.dense / images,
            event_dense=sum(layer.dense for layer in self.layers.values() if layer.quantum is not None) / images,
            neuron_updates=neuron_updates / images,
            ann_macs=self.dense / images / steps,
            ann_bias_acs=self.bias_acs / images / steps,
        )

    def _see(self, name: str, layer: Layer, x: Tensor) -> None:
        count, rows = self.layers.setdefault(name, LayerCount(name)), None
        if isinstance(layer, Dense):  # every time is one event; over T steps a synapse could have had T
            steps = Clock.running(layer).steps
            rows, x = len(x) * steps, (x < steps).to(x.dtype)
        if isinstance(layer, (nn.Linear, Dense)):
            x, size = x.reshape(-1, x.shape[-1], 1), x.shape[-1:]
        else:
            x, size = x.flatten(2), x.shape[2:]
        key = (layer, size, x.device)
        if key not in self._fan_outs:
            self._fan_outs[key] = _fan_out(layer, size).to(x.device)
        count.add(x, self._fan_outs[key], rows)


def body_of(network: nn.Module) -> nn.Module:
    """The body of an `SNN`; any other module itself."""
    body = getattr(network, "body", None)
    return body if isinstance(body, nn.Module) else network


@contextmanager
def counting(network: nn.Module) -> Iterator[Counts]:
    """Count the operations of every forward of `network` (an `SNN`, or any module) made inside the context.

    The hooks are gone afterwards; a layer used several times in one forward counts every time. Names are those within
    the body. Layers behind `torch.nn.functional` calls cannot be seen.
    """
    counts, handles = Counts(), []
    for name, module in body_of(network).named_modules():
        if isinstance(module, Layer):
            label = name or type(module).__name__
            handles.append(module.register_forward_pre_hook(_before(counts, label), with_kwargs=True))
            handles.append(module.register_forward_hook(_after(counts, label)))
        elif getattr(module, "lateral", 0):
            handles.append(module.register_forward_hook(_lateral(counts, name or type(module).__name__)))
        elif any(p.dim() > 1 for p in module.parameters(recurse=False)):
            counts.uncounted.append(name or type(module).__name__)
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()


def _before(counts: Counts, name: str) -> Any:
    def hook(layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        counts._see(name, layer, (args[0] if args else kwargs["input"]).detach())

    return hook


def _after(counts: Counts, name: str) -> Any:
    def hook(layer: Any, args: tuple[Any, ...], out: Tensor) -> None:
        if getattr(layer, "bias", None) is not None:
            counts.layers[name].biases += out.numel()

    return hook


def _lateral(counts: Counts, name: str) -> Any:
    def hook(layer: Any, args: tuple[Any, ...], out: Tensor) -> None:
        rows = out.detach().reshape(out.shape[0], -1, 1)
        counts.layers.setdefault(name, LayerCount(name)).add(rows, torch.tensor([layer.lateral], device=out.device))

    return hook


def _reach(which: Tensor, fan_out: Tensor) -> int:
    """Synapses reached by the inputs marked in which [rows, channels, positions]."""
    return int((which.sum((0, 1)) * fan_out).sum())


def _few_distinct(values: Tensor) -> list[float]:
    """The distinct values; of more than `MOST_MAGNITUDES` only that many and one, often found without sorting all."""
    for part in (values[:SAMPLE], values):
        distinct: list[float] = part.unique().tolist()
        if len(distinct) > MOST_MAGNITUDES:
            return distinct[: MOST_MAGNITUDES + 1]
    return distinct


def _fan_out(layer: Layer, size: torch.Size) -> Tensor:
    """Synapses that one input reaches, per position: int64 [positions], for an input of spatial size `size`.

    For a convolution that is the transposed convolution of ones: the derivative of the sum of all outputs by the
    inputs when every weight is 1, which knows stride, padding of any mode, dilation and edges.
    """
    if isinstance(layer, (nn.Linear, Dense)):
        return torch.tensor([layer.out_features])
    kind = nn.Conv1d if isinstance(layer, nn.Conv1d) else nn.Conv2d
    one: Any = nn.utils.skip_init(  # draws no random numbers
        kind,  # type: ignore[arg-type]
        1,
        1,
        layer.kernel_size,
        stride=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        bias=False,
        padding_mode=layer.padding_mode,
        dtype=torch.float64,
    )
    with torch.enable_grad():
        nn.init.ones_(one.weight)
        x = torch.zeros(1, 1, *size, dtype=torch.float64, requires_grad=True)
        (reach,) = torch.autograd.grad(one(x).sum(), x)
    return reach.flatten().round().long() * (layer.out_channels // layer.groups)
