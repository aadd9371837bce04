"""A conversion method, one choice for each part, and the chain of passes that carries it out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn

from spikewright.arch import Normalize
from spikewright.convert import prepare
from spikewright.convert.activations import Activation
from spikewright.convert.calibration import Calibration
from spikewright.convert.correct import Correction, shifted
from spikewright.convert.estimate import Estimator, Job, Percentile, scaled
from spikewright.convert.graph import INPUT, Graph
from spikewright.convert.place import Form, Placed, place
from spikewright.convert.trace import WEIGHTS, trace
from spikewright.encode import Direct, Encoder, Normalized
from spikewright.errors import ConfigError, positive
from spikewright.neurons import IF, LIF, Delay, Factor, HeldDropout, Reset, Subtract
from spikewright.readout import Rate, Readout
from spikewright.snn import SNN
from spikewright.surrogate import ATan, Surrogate

__all__ = ["Converted", "Method", "Spiking", "converted"]


@dataclass(frozen=True)
class Spiking:
    """The neuron that takes an activation's place.

    A method with another neuron gives any function (v_th, size, activation) -> module in its place.

    Args:
        reset: subtract keeps the overshoot; `HardReset()` loses it.
        strict: fire at v > v_th instead of v >= v_th.
        leak: factor a step that the membrane keeps; 1 does not leak.
        v_init: membrane at the start, in thresholds (1/2: half of one).
        delay: spikes reach the next layer one step later.
        surrogate: the derivative, if the network is trained on.
    """

    reset: Reset = field(default_factory=Subtract)
    strict: bool = False
    leak: float = 1.0
    v_init: float = 0.0
    delay: bool = False
    surrogate: Surrogate = field(default_factory=ATan)

    def __call__(self, v_th: float, size: float, activation: nn.Module) -> nn.Module:
        """A neuron with this threshold, handing on `size` a spike."""
        start = self.v_init * v_th
        if self.leak == 1:
            return IF(v_th, self.reset, self.surrogate, self.strict, start, size)
        kind = Factor(self.leak)
        return LIF(
            leak=kind,
            v_th=v_th,
            reset=self.reset,
            surrogate=self.surrogate,
            strict=self.strict,
            v_init=start,
            size=size,
        )


Neuron = Callable[[float, float, nn.Module], nn.Module]


@dataclass(frozen=True)
class Method:
    """How an ANN becomes an SNN.

    Args:
        estimate: how the thresholds are found.
        k: factor on all unit-spike thresholds, below 1 for fewer steps.
        form: where the thresholds are written; all forms give the same spikes.
        neuron: what takes an activation's place.
        shift: current added at every step, in thresholds; 1/(2T) centres the rounding of a run of T steps.
        encode: how the input enters. Anything but `Direct` needs values, after a leading `Normalize`, that it can take.
        pool: "linear" average pools pass fractions on, "spiking" ones have neurons of their own.
        max_pool: "gate" follows the input that sums to most, "average" puts an average pool in its place.
        spiking_output: neurons behind the last layer as well, whose spikes are counted.
        bias: "any", or "none": refuse a network with biases, which the method has no place for.
        dropout: "drop" it, or "hold" it, one mask a sequence, for a network that is trained on.
        readout: of the outputs; by default their mean.
        correct: what mends the result on calibration data, in order.
    """

    estimate: Estimator = field(default_factory=Percentile)
    k: float = 1.0
    form: Form = "weights"
    neuron: Neuron = field(default_factory=Spiking)
    shift: float = 0.0
    encode: Encoder = field(default_factory=Direct)
    pool: Literal["linear", "spiking"] = "linear"
    max_pool: Literal["gate", "average"] = "gate"
    spiking_output: bool = False
    bias: Literal["any", "none"] = "any"
    dropout: Literal["drop", "hold"] = "drop"
    readout: Readout = field(default_factory=Rate)
    correct: tuple[Correction, ...] = ()

    def __post_init__(self) -> None:
        positive("Method", "k", self.k, "factor")
        if not math.isfinite(self.shift):
            raise ConfigError(f"Method: shift is {self.shift}, expected a finite number of thresholds")
        if self.correct and self.form != "spikes":
            raise ConfigError(f"Method: corrections work on the form 'spikes', found {self.form!r}")


@dataclass(frozen=True)
class Converted:
    """A conversion and what is known of it.

    Attributes:
        snn: the result.
        ann: the prepared ANN, whose activations have the names of the neurons.
        thresholds: theta of every activation, in the ANN's units.
        estimated: the same as estimated, before the factor k.
        scale: what a neuron's mean output is to be multiplied by to compare it with the activation.
        out: what the mean scores are to be multiplied by to compare them with the ANN's.
        log: what was dropped, folded, moved and replaced.
    """

    snn: SNN
    ann: Graph
    thresholds: dict[str, float]
    estimated: dict[str, float]
    scale: dict[str, float]
    out: float
    log: list[str]


@torch.no_grad()
def converted(
    model: nn.Module,
    data: Calibration,
    method: Method,
    steps: int,
    *,
    seed: int = 0,
    progress: Callable[[str], None] = lambda said: None,
) -> Converted:
    """Carry out a method: trace, prepare, estimate, place, swap, correct. The model stays as it is.

    Raises ConfigError for what the method cannot convert, by name and place; DataError for calibration data that are
    empty or do not fit.
    """
    sample = next(iter(data))
    log: list[str] = []
    graph, gates, inherit = prepared(model, sample, method, log)
    ann = graph.copied()
    graph, encode = _front(graph, method.encode, log)

    def spiking(part: Graph, thetas: Mapping[str, float]) -> nn.Module:
        return _swapped(_placed(part, thetas, "spikes", method), method, gates).body()

    job = Job(data, encode, spiking, tuple(inherit), seed, progress)
    estimated = method.estimate(graph, job)
    thetas = scaled(graph, estimated, method.k)
    placed = _placed(graph, thetas, method.form, method)
    graph = _swapped(placed, method, gates)
    for correction in method.correct:
        graph = correction(ann, graph, placed, encode, data, steps, seed)
        log.append(str(correction))
    snn = SNN(graph.body(), steps, encode, method.readout).eval()
    return Converted(snn, ann, thetas, estimated, placed.scale, placed.out, log)


def prepared(
    model: nn.Module, sample: torch.Tensor, method: Method, log: list[str]
) -> tuple[Graph, dict[str, nn.Module], list[str]]:
    """The ANN as the method wants it; the gates of its max pools, and the activations that only pools feed."""
    graph = trace(model, sample)
    graph = prepare.folded(prepare.dropped(graph, log, hold=method.dropout == "hold"), log)
    gates: dict[str, nn.Module] = {}
    if method.max_pool == "average":
        graph = prepare.average_instead_of_max(graph, log)
    else:
        graph, gates = prepare.gated(graph, log)
    inherit: list[str] = []
    if method.pool == "spiking":
        graph, inherit = prepare.spiking_pools(graph, log)
    if method.spiking_output:
        graph = prepare.with_output_activation(graph, log)
    graph = prepare.checked(graph)
    biased = next((n for n in graph.of(*WEIGHTS) if getattr(graph.get_submodule(n), "bias", None) is not None), None)
    if method.bias == "none" and biased is not None:
        raise ConfigError(
            f"{biased!r} has a bias (or a folded batch norm), for which this method has no place: train with "
            "bias=False and without batch norm, or convert by 'rueckauer'"
        )
    return graph, gates, inherit


def _front(graph: Graph, encode: Encoder, log: list[str]) -> tuple[Graph, Encoder]:
    """With spikes for input, a leading normalisation belongs in front of the encoder."""
    first = next((n for n in graph.users(INPUT)), "")
    layer = graph.layers.get(first)
    if not encode.spikes or not isinstance(layer, Normalize) or len(graph.users(INPUT)) > 1:
        return graph, encode
    log.append(f"moved {first} in front of the encoder")
    return graph.without(first), Normalized(encode, layer.mean, layer.std)


def _placed(graph: Graph, thetas: Mapping[str, float], form: Form, method: Method) -> Placed:
    if method.shift:
        graph = shifted(graph.copied(), {n: theta * method.shift for n, theta in thetas.items()})
    tops = {n: top for n in prepare.activations(graph) if (top := _top(graph.get_submodule(n))) is not None}
    return place(graph, thetas, form, tops)


def _top(layer: nn.Module) -> float | None:
    return layer.top if isinstance(layer, Activation) else None


def _swapped(placed: Placed, method: Method, gates: Mapping[str, nn.Module]) -> Graph:
    """With neurons for activations and gates for max pools."""
    graph = placed.graph
    names = prepare.activations(graph)
    changes = {n: method.neuron(placed.v_th[n], placed.size[n], graph.get_submodule(n)) for n in names}
    like = next((p for p in graph.parameters() if p.is_floating_point()), torch.empty(0))
    changes |= {n: HeldDropout(graph.get_submodule(n).p).eval() for n in graph.of(*prepare.DROPOUTS)}  # type: ignore
    changes |= {n: gate for n, gate in gates.items() if n in graph.layers}
    graph = graph.replaced({n: layer.to(like) for n, layer in changes.items()})
    if getattr(method.neuron, "delay", False):
        for name in names:
            graph = graph.after(name, f"{name}_delay", Delay())
    return graph
