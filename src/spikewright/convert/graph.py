"""A network as data: named layers and how they are wired. What conversion works on, and the body it hands on."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError

__all__ = ["INPUT", "Add", "Affine", "Concat", "Graph"]

INPUT = "input"
"""What a graph's wiring calls the input."""


class Add(nn.Module):
    """The sum of its inputs."""

    samplewise = True

    def forward(self, *x: Tensor) -> Tensor:
        total = x[0]
        for other in x[1:]:
            total = total + other
        return total


class Concat(nn.Module):
    """Its inputs behind one another along `dim`, which counts the batch as 0."""

    samplewise = True

    def __init__(self, dim: int = 1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, *x: Tensor) -> Tensor:
        return torch.cat(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class Affine(nn.Module):
    """A factor and an offset for each channel, y = weight x + bias: [N, C, ...] -> [N, C, ...].

    A batch norm that no layer takes up becomes one, and so does a change of scale on a skip connection.
    """

    samplewise = True

    def __init__(self, features: int) -> None:
        super().__init__()
        self.features = features
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        channels = (-1,) + (1,) * (x.dim() - 2)
        return x * self.weight.view(channels) + self.bias.view(channels)

    def extra_repr(self) -> str:
        return f"{self.features}"


class Graph(nn.Module):
    """Layers wired to a graph without cycles. In `forward` each is called once, in the order of the wiring.

    The editing methods return another graph that shares the layers; none changes the one it is called on.

    Args:
        layers: name -> layer.
        wiring: (layer, inputs...) for every layer, after the layers it reads; "input" is the input, and the last
            entry's output is the output.

    Raises ConfigError for a wiring that names what does not exist (yet).
    """

    def __init__(self, layers: Mapping[str, nn.Module], wiring: Sequence[Sequence[str]]) -> None:
        super().__init__()
        self.wiring = tuple((str(name), *map(str, inputs)) for name, *inputs in wiring)
        known = {INPUT}
        for name, *inputs in self.wiring:
            missing = [i for i in inputs if i not in known]
            if name not in layers or name in known or missing or not inputs:
                raise ConfigError(
                    f"graph: {name!r} reads {inputs}, expected layers that come before it, and a layer of that name"
                )
            known.add(name)
        if not self.wiring or len(self.wiring) != len(layers):
            raise ConfigError(f"graph: {len(layers)} layers, {len(self.wiring)} of them wired; wire each once")
        for name, *_ in self.wiring:
            self.add_module(name, layers[name])
        read = {i: at for at, (_, *inputs) in enumerate(self.wiring) for i in inputs}  # by whom last
        self._done = [[i for i, last in read.items() if last == at] for at in range(len(self.wiring))]

    @property
    def layers(self) -> dict[str, nn.Module]:
        """name -> layer, in order."""
        return dict(self.named_children())

    def forward(self, x: Tensor) -> Tensor:
        return self.values(x, ())[self.output]

    def values(
        self, x: Tensor, keep: Iterable[str] | None = None, given: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """What each layer hands on: name -> value of the layers in `keep` (None: all) and of the output.

        `given` takes the place of what these layers would have handed on; what only they need is not computed.
        """
        given = given or {}
        kept = {INPUT, *(n for n, *_ in self.wiring)} if keep is None else {*keep, self.output}
        needed = set(self.needed(kept - {INPUT}, given))
        found: dict[str, Tensor] = {INPUT: x}
        for (name, *inputs), done in zip(self.wiring, self._done, strict=True):
            if name in needed:
                layer = self.get_submodule(name)
                found[name] = given[name] if name in given else layer(*(found[i] for i in inputs))
            for past in done:
                if past not in kept:
                    found.pop(past, None)
        return found

    def needed(self, wanted: Iterable[str], given: Mapping[str, Tensor]) -> list[str]:
        """The layers that `wanted` are made from, not looking behind those that are given."""
        needed = set(wanted)
        for name, *inputs in reversed(self.wiring):
            if name in needed and name not in given:
                needed.update(inputs)
        return [name for name, *_ in self.wiring if name in needed]

    # ---- looking

    @property
    def output(self) -> str:
        """Name of the layer that hands on the output."""
        return self.wiring[-1][0]

    def inputs(self, name: str) -> list[str]:
        """What a layer reads."""
        return next(list(inputs) for n, *inputs in self.wiring if n == name)

    def users(self, name: str) -> list[str]:
        """The layers that read a layer."""
        return [n for n, *inputs in self.wiring if name in inputs]

    def of(self, *kinds: type) -> list[str]:
        """Names of the layers of these classes, in order."""
        return [n for n, layer in self.layers.items() if isinstance(layer, kinds)]

    # ---- editing

    def replaced(self, changes: Mapping[str, nn.Module]) -> Graph:
        """With other layers in these places."""
        return Graph(self.layers | dict(changes), self.wiring)

    def without(self, name: str) -> Graph:
        """Without a layer of one input: whoever read it reads what it read."""
        (source,) = self.inputs(name)
        layers = {n: layer for n, layer in self.layers.items() if n != name}
        wiring = [(n, *(source if i == name else i for i in ins)) for n, *ins in self.wiring if n != name]
        if self.output == name and wiring and wiring[-1][0] != source:
            raise ConfigError(f"graph: the output would be {source!r}, which is not the last layer")
        return Graph(layers, wiring)

    def after(self, name: str, new: str, layer: nn.Module) -> Graph:
        """With a new layer right behind `name` ("input" too), read by all who read that."""
        wiring: list[tuple[str, ...]] = [(new, INPUT)] if name == INPUT else []
        for n, *ins in self.wiring:
            wiring.append((n, *(new if i == name else i for i in ins)))
            if n == name:
                wiring.append((new, name))
        return Graph({**self.layers, new: layer}, wiring)

    def between(self, source: str, target: str, new: str, layer: nn.Module) -> Graph:
        """With a new layer on the way from `source` to `target` alone."""
        wiring: list[tuple[str, ...]] = []
        for n, *ins in self.wiring:
            if n == target:
                wiring.append((new, source))
                ins = [new if i == source else i for i in ins]
            wiring.append((n, *ins))
        return Graph({**self.layers, new: layer}, wiring)

    def swapped(self, first: str, second: str) -> Graph:
        """With two layers of one input that follow one another in each other's place."""
        if self.inputs(second) != [first] or self.users(first) != [second]:
            raise ConfigError(f"graph: {second!r} does not follow {first!r} alone")
        (source,) = self.inputs(first)
        wiring: list[tuple[str, ...]] = []
        for n, *ins in self.wiring:
            if n == first:
                wiring += [(second, source), (first, second)]
            elif n != second:
                wiring.append((n, *(first if i == second else i for i in ins)))
        return Graph(self.layers, wiring)

    def upto(self, name: str) -> Graph:
        """The part that `name` is made from; it hands on what `name` would."""
        needed = {name}
        for n, *ins in reversed(self.wiring):
            if n in needed:
                needed.update(ins)
        cut = self.wiring[: [n for n, *_ in self.wiring].index(name) + 1]
        wiring = [w for w in cut if w[0] in needed]
        return Graph({n: self.get_submodule(n) for n, *_ in wiring}, wiring)

    def copied(self) -> Graph:
        """A graph with copies of the layers."""
        return Graph({n: copy.deepcopy(layer) for n, layer in self.layers.items()}, self.wiring)

    def body(self) -> nn.Module:
        """The same as an `nn.Sequential` where it is a chain, which runs faster; else the graph."""
        before = [INPUT, *(n for n, *_ in self.wiring)]
        if any(w[1:] != (source,) for w, source in zip(self.wiring, before, strict=False)):
            return self
        chain = nn.Sequential()
        for name, layer in self.layers.items():
            chain.add_module(name, layer)
        return chain
