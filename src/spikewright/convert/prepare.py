"""The passes that make a traced ANN ready: what has no part in inference dropped, norms folded, pools put in order.

Each takes a graph and returns another one that computes the same, and says in `log` what it did. The layers of a graph
from `trace` are copies, so weights may be changed in place.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from spikewright.arch import Normalize
from spikewright.convert.activations import Activation
from spikewright.convert.graph import INPUT, Add, Affine, Graph
from spikewright.convert.trace import LINEAR, WEIGHTS
from spikewright.errors import ConfigError
from spikewright.neurons import HeldDropout, MaxPoolGate

__all__ = [
    "ACTIVATIONS",
    "DROPOUTS",
    "activations",
    "average_instead_of_max",
    "dropped",
    "feeding",
    "folded",
    "gated",
    "spiking_pools",
    "with_output_activation",
]

ACTIVATIONS = (nn.ReLU, Activation)
"""What becomes a neuron."""
Log = list[str]
DROPOUTS = (nn.Dropout, HeldDropout)
"""Dropout of single units, which can be held over a sequence."""
_DROPPED = (nn.Identity, *DROPOUTS, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout)
_SCORES = (nn.Softmax, nn.LogSoftmax)


def activations(graph: Graph) -> list[str]:
    """Names of the layers that become neurons, in order."""
    return graph.of(*ACTIVATIONS)


def feeding(graph: Graph, name: str, kinds: tuple[type, ...]) -> list[str]:
    """The layers of `kinds` (and "input") that reach `name` through none of the same kind."""
    found: dict[str, None] = {}
    stack = list(graph.inputs(name))
    while stack:
        source = stack.pop()
        if source == INPUT or isinstance(graph.get_submodule(source), kinds):
            found[source] = None
        else:
            stack += graph.inputs(source)
    return list(found)


def dropped(graph: Graph, log: Log, hold: bool = False) -> Graph:
    """Without dropout (of units only if not `hold`), identities, and a softmax at the end (it changes no verdict)."""
    gone: dict[str, list[str]] = {}
    for name in graph.of(*_DROPPED):
        layer = graph.get_submodule(name)
        if hold and isinstance(layer, DROPOUTS):
            graph = graph.replaced({name: nn.Dropout(layer.p).eval()})
        elif len(graph.layers) > 1:
            graph = _out(graph, name)
            gone.setdefault(type(layer).__name__, []).append(name)
    for kind, names in gone.items():
        log.append(f"dropped {names[0] if len(names) == 1 else f'{len(names)} layers that are {kind}'}")
    for name in graph.of(*_SCORES):
        if graph.output != name:
            raise ConfigError(f"cannot convert {name!r}: a softmax inside a network is no sum of spikes; take it out")
        graph = _out(graph, name)
        log.append(f"dropped {name}: the highest score stays the highest")
    return graph


def _out(graph: Graph, name: str) -> Graph:
    (source,) = graph.inputs(name)
    if graph.output == name and graph.wiring[-2][0] != source:  # keep what it read as the last layer
        graph = graph.upto(name)
    return graph.without(name)


def folded(graph: Graph, log: Log) -> Graph:
    """Batch norm (by its running statistics) and other per-channel factors in the weights of the layer before.

    W' = W g / sqrt(var + eps), b' = beta + (b - mean) g / sqrt(var + eps) for each output channel. Where the layer
    before has other readers, or is none with weights, a norm becomes an `Affine` of its own.
    """
    for name in graph.of(nn.BatchNorm1d, nn.BatchNorm2d, Affine):
        (source,) = graph.inputs(name)
        weight, bias = _factors(graph.get_submodule(name), name)
        before = graph.layers.get(source)
        if isinstance(before, WEIGHTS) and graph.users(source) == [name]:
            _fold(before, weight, bias)
            graph = _out(graph, name) if graph.output != name else graph.without(name)
            log.append(f"folded {name} into {source}")
        elif not isinstance(graph.get_submodule(name), Affine):
            affine = Affine(len(weight)).to(weight)
            with torch.no_grad():
                affine.weight.copy_(weight)
                affine.bias.copy_(bias)
            like = next((p for p in graph.parameters() if p.is_floating_point()), weight)
            graph = graph.replaced({name: affine.to(like)})
            log.append(f"kept {name} as a factor and an offset: no layer with weights ends in it alone")
    return graph


def _factors(layer: nn.Module, name: str) -> tuple[Tensor, Tensor]:
    """(weight, bias) a channel in float64."""
    if isinstance(layer, Affine):
        return layer.weight.detach().double(), layer.bias.detach().double()
    norm: nn.BatchNorm2d = layer  # type: ignore[assignment]
    if norm.running_mean is None or norm.running_var is None:
        raise ConfigError(f"cannot convert {name!r}: it keeps no running statistics; train with track_running_stats")
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    shift = -norm.running_mean.double() * scale
    if norm.weight is not None:
        scale, shift = scale * norm.weight.detach().double(), shift * norm.weight.detach().double()
    return scale, shift if norm.bias is None else shift + norm.bias.detach().double()


@torch.no_grad()
def _fold(layer: nn.Module, weight: Tensor, bias: Tensor) -> None:
    own: Tensor = layer.weight  # type: ignore[assignment]
    old: Tensor | None = layer.bias  # type: ignore[assignment]
    offset = bias if old is None else bias + old.double() * weight
    own.copy_(own.double() * weight.view(-1, *[1] * (own.dim() - 1)))
    layer.bias = nn.Parameter(offset.to(own))


def average_instead_of_max(graph: Graph, log: Log) -> Graph:
    """Average pools in place of max pools. This changes what the network computes: train it so, or expect a loss."""
    for name in graph.of(nn.MaxPool1d, nn.MaxPool2d):
        old = graph.get_submodule(name)
        kind = nn.AvgPool1d if isinstance(old, nn.MaxPool1d) else nn.AvgPool2d
        if getattr(old, "dilation", 1) not in (1, (1,), (1, 1)):
            raise ConfigError(f"cannot convert {name!r}: an average pool has no dilation; use max_pool='gate'")
        new = kind(old.kernel_size, old.stride, old.padding, ceil_mode=old.ceil_mode, count_include_pad=False)  # type: ignore
        graph = graph.replaced({name: new})
        log.append(f"replaced max pool {name} by an average pool: the ANN itself changes")
    return graph


def gated(graph: Graph, log: Log) -> tuple[Graph, dict[str, nn.Module]]:
    """Max pools behind their activation (which commutes with the maximum), and the gates that take their places."""
    gates: dict[str, nn.Module] = {}
    for name in graph.of(nn.MaxPool1d, nn.MaxPool2d):
        users = graph.users(name)
        if len(users) == 1 and isinstance(graph.get_submodule(users[0]), ACTIVATIONS):
            graph = graph.swapped(name, users[0])
            log.append(f"moved {users[0]} before max pool {name}: the maximum is the same")
        pool: nn.MaxPool2d = graph.get_submodule(name)  # type: ignore[assignment]
        window: Any = pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode
        gates[name] = MaxPoolGate(*window)
        log.append(f"max pool {name} lets the input through that has summed to most")
    return graph, gates


def spiking_pools(graph: Graph, log: Log) -> tuple[Graph, list[str]]:
    """Neurons behind every average pool of spikes; the names of these activations, which take their input's scale."""
    new: list[str] = []
    for name in graph.of(nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d):
        behind = feeding(graph, name, (*ACTIVATIONS, *WEIGHTS))
        if all(isinstance(graph.layers.get(source), ACTIVATIONS) for source in behind):
            label = f"{name}_neuron"
            graph = graph.after(name, label, nn.ReLU())
            new.append(label)
            log.append(f"average pool {name} gets neurons of its own")
    return graph, new


def with_output_activation(graph: Graph, log: Log) -> Graph:
    """With an activation behind the last layer, for outputs that spike."""
    if isinstance(graph.get_submodule(graph.output), ACTIVATIONS):
        return graph
    log.append(f"{graph.output} gets neurons behind it: outputs below zero will be silent")
    return graph.after(graph.output, "neuron_out", nn.ReLU())


def checked(graph: Graph) -> Graph:
    """The graph, if nothing is left that no pass knows; ConfigError names the layer."""
    for name, layer in graph.layers.items():
        if not isinstance(
            layer, (*WEIGHTS, *LINEAR, *ACTIVATIONS, Normalize, Add, nn.Dropout, nn.MaxPool1d, nn.MaxPool2d)
        ):
            raise ConfigError(f"cannot convert {name!r} ({type(layer).__name__}): no pass knows what to make of it")
    if not activations(graph):
        raise ConfigError("the model has no ReLU: there is nothing that could become a spiking neuron")
    return graph
