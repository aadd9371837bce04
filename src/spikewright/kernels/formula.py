"""A surrogate's formula, read off its own torch code, so that compiled kernels need no second copy of it.

`trace` runs `surrogate.derivative` on symbols (torch.fx) and keeps the operations; `source` spells them as the body of
a scalar function, for Numba or for Triton. A formula with anything else in it is not traced, and its neuron takes the
reference path.
"""

from __future__ import annotations

import copy
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import torch
from torch import fx

from spikewright.surrogate import Surrogate

__all__ = ["PARAMETERS", "Formula", "slope", "trace"]

PARAMETERS = 4
"""Numbers of its own that a surrogate may have in a kernel."""

NUMBA = {
    "where": "({1} if {0} else {2})",
    "exp": "exp({0})",
    "sigmoid": "(float32(1) / (float32(1) + exp(-{0})))",
    "abs": "abs({0})",
    "minimum": "min({0}, {1})",
    "maximum": "max({0}, {1})",
    "cast": "float32({0})",
}
TRITON = NUMBA | {
    "where": "tl.where({0}, {1}, {2})",
    "exp": "tl.exp({0})",
    "sigmoid": "(1.0 / (1.0 + tl.exp(-{0})))",
    "abs": "tl.abs({0})",
    "minimum": "tl.minimum({0}, {1}, tl.PropagateNan.ALL)",
    "maximum": "tl.maximum({0}, {1}, tl.PropagateNan.ALL)",
    "cast": "{0}",
}
DIALECTS = {"numba": NUMBA, "triton": TRITON}

INFIX: dict[Any, str] = {
    operator.add: "+",
    operator.sub: "-",
    operator.mul: "*",
    operator.truediv: "/",
    operator.lt: "<",
    operator.le: "<=",
    operator.gt: ">",
    operator.ge: ">=",
}
SAME = {"broadcast_to", "clone", "to", torch.as_tensor}  # what shapes and types need, a scalar does not


class _Untraceable(Exception):
    """The formula holds an operation that no kernel knows."""


@dataclass(frozen=True)
class Formula:
    """g(x, v_th, age; parameters) of one kind of surrogate. Two of the same kind share it, whatever their numbers."""

    graph: fx.Graph
    parameters: tuple[str, ...]

    def values(self, surrogate: Surrogate) -> list[float]:
        """The numbers of this surrogate, in the order in which the formula takes them."""
        return [float(getattr(surrogate, name)) for name in self.parameters]

    def source(self, dialect: str) -> str:
        """The body of a function of x, v_th, age and the parameters (`p_` and their name), ending in `return`."""
        return _Writer(DIALECTS[dialect]).write(self.graph)


def slope(formula: Formula | None, dialect: str) -> str:
    """The source of a function `slope(x, v_th, age, ...)` with room for `PARAMETERS` numbers; None: g = 1."""
    names = [] if formula is None else [f"p_{name}" for name in formula.parameters]
    names += [f"_{i}" for i in range(len(names), PARAMETERS)]
    body = "return " + DIALECTS[dialect]["cast"].format("1.0") if formula is None else formula.source(dialect)
    return "\n".join([f"def slope(x, v_th, age, {', '.join(names)}):", *(f"    {line}" for line in body.splitlines())])


def trace(surrogate: Surrogate, strict: bool) -> Formula | None:
    """The surrogate's derivative as a formula; None where it cannot be had."""
    try:
        return _trace(_Kind(surrogate), strict)
    except TypeError:  # a user's own surrogate holds what may change unseen
        return None


class _Kind:
    """A surrogate less its numbers, as a key."""

    def __init__(self, surrogate: Surrogate):
        self.surrogate = surrogate
        numbers = surrogate.parameters()
        held = {f.name: getattr(surrogate, f.name) for f in fields(surrogate)} | vars(surrogate)
        rest = {name: value for name, value in sorted(held.items()) if name not in numbers}
        if not all(isinstance(value, (int, float, str)) for value in rest.values()):
            raise TypeError(rest)
        self.key = (type(surrogate), *rest.items())

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Kind) and self.key == other.key


@lru_cache(maxsize=256)
def _trace(kind: _Kind, strict: bool) -> Formula | None:
    surrogate = copy.copy(kind.surrogate)
    names = tuple(surrogate.parameters())
    graph = fx.Graph()
    tracer = fx.proxy.GraphAppendingTracer(graph)
    x, v_th, age, *numbers = (
        fx.Proxy(graph.placeholder(name), tracer) for name in ("x", "v_th", "age", *(f"p_{n}" for n in names))
    )
    for name, number in zip(names, numbers, strict=True):
        object.__setattr__(surrogate, name, number)
    try:
        out = surrogate.derivative(x, v_th, age, strict)  # type: ignore[arg-type]
        graph.output(out.node if isinstance(out, fx.Proxy) else float(out))
        formula = Formula(graph, names)
        for dialect in DIALECTS:
            formula.source(dialect)
    except Exception:  # whatever a user's own surrogate does with a symbol: it still has the reference path
        return None
    return formula


class _Writer:
    """Spells a graph in one dialect. x and age are float32 `tensors`, the parameters and the threshold float64
    scalars; as in torch, a scalar that meets a tensor is first rounded to float32."""

    def __init__(self, words: dict[str, str]):
        self.words = words
        self.tensor: set[fx.Node] = set()
        self.text: dict[fx.Node, str] = {}
        self.lines: list[str] = []

    def write(self, graph: fx.Graph) -> str:
        for node in graph.nodes:
            if node.op == "placeholder":
                self.text[node] = node.target
                if node.target in ("x", "age"):
                    self.tensor.add(node)
            elif node.op == "output":
                self.lines.append(f"return {self._tensor(node.args[0])}")
            elif node.op in ("call_function", "call_method"):
                self._line(node)
        return "\n".join(self.lines)

    def _line(self, node: fx.Node) -> None:
        if node.target is getattr:  # x.dtype, x.shape: of no use to a scalar
            return
        if node.target in SAME:
            source = node.args[0]
            if not isinstance(source, fx.Node):
                raise _Untraceable(source)
            self.text[node] = self.text[source]
            self.tensor |= {node} if source in self.tensor else set()
            return
        expression, is_tensor = self._expression(node)
        self.text[node] = f"n{len(self.lines)}"
        self.lines.append(f"{self.text[node]} = {expression}")
        self.tensor |= {node} if is_tensor else set()

    def _expression(self, node: fx.Node) -> tuple[str, bool]:
        args: Any = node.args
        is_tensor = any(isinstance(a, fx.Node) and a in self.tensor for a in args)
        operand: Callable[[Any], str] = self._tensor if is_tensor else self._plain
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
        if node.target in INFIX:
            return f"{operand(args[0])} {INFIX[node.target]} {operand(args[1])}", is_tensor
        if name in ("pow", "__pow__"):
            return self._power(operand(args[0]), args[1]), is_tensor
        if name == "neg":
            return f"-{operand(args[0])}", is_tensor
        if name in ("abs", "exp", "sigmoid"):
            return self.words[name].format(self._tensor(args[0])), True
        if name == "relu":
            return self.words["maximum"].format(self._tensor(args[0]), self._tensor(0.0)), True
        if name == "clamp":
            return self._clamp(args[0], *args[1:], **node.kwargs), True
        if name == "where":
            return self.words["where"].format(self.text[args[0]], self._tensor(args[1]), self._tensor(args[2])), True
        if name == "ones_like":
            return self._tensor(1.0), True
        raise _Untraceable(name)

    def _clamp(self, x: Any, min: Any = None, max: Any = None) -> str:
        out = self._tensor(x)
        out = out if min is None else self.words["maximum"].format(out, self._tensor(min))
        return out if max is None else self.words["minimum"].format(out, self._tensor(max))

    def _power(self, base: str, exponent: Any) -> str:
        if exponent == 0.5:
            return f"sqrt({base})"
        if exponent == 2:
            return f"({base}) * ({base})"
        raise _Untraceable(f"power {exponent}")

    def _plain(self, value: Any) -> str:
        if isinstance(value, fx.Node):
            return self.text[value]
        if not (isinstance(value, (int, float)) and math.isfinite(value)):
            raise _Untraceable(value)
        return repr(float(value))

    def _tensor(self, value: Any) -> str:
        if isinstance(value, fx.Node) and value in self.tensor:
            return self.text[value]
        return self.words["cast"].format(self._plain(value))
