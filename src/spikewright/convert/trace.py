"""From any torch model to a `Graph`: traced with torch.fx, every operation a layer of its own, the rest refused.

What a model calls (modules, functions, methods, in place or not) is looked up in `FUNCTIONS`; views that flatten are
recognised by the shapes that a sample has on its way. A layer called twice becomes two layers.
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from spikewright.arch import Normalize, ScaledSumPool
from spikewright.clock import Temporal
from spikewright.convert.activations import Activation, Clip
from spikewright.convert.graph import INPUT, Add, Affine, Concat, Graph
from spikewright.errors import ConfigError, DataError
from spikewright.neurons import HeldDropout
from spikewright.snn import SNN, inference

__all__ = ["LINEAR", "POOLS", "WEIGHTS", "trace"]

WEIGHTS = (nn.Conv1d, nn.Conv2d, nn.Linear, Affine)
"""Layers with weights and perhaps a bias: a change of scale is absorbed here."""
POOLS = (nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d)
LINEAR = (*POOLS, ScaledSumPool, nn.Flatten, Concat, Add, nn.ZeroPad2d, nn.PixelShuffle, nn.PixelUnshuffle)
"""Layers that take a factor on their input through to their output."""
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, Normalize)
_GONE = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, HeldDropout)
_LAST = (nn.Softmax, nn.LogSoftmax)
_ACTIVATIONS = (nn.ReLU, Activation)
_KNOWN = (*WEIGHTS, *LINEAR, *_NORMS, *_GONE, *_LAST, *_ACTIVATIONS, nn.MaxPool1d, nn.MaxPool2d)
_REMEDIES: dict[str, str] = {
    **dict.fromkeys(
        ("SiLU", "GELU", "ELU", "LeakyReLU", "PReLU", "Hardswish", "Mish", "SELU", "CELU", "Softplus", "silu", "gelu"),
        "its values are negative or unlike a rate: train the network with ReLU in its place",
    ),
    **dict.fromkeys(
        ("Tanh", "Sigmoid", "tanh", "sigmoid", "Hardsigmoid", "hardsigmoid", "hardswish", "softplus", "leaky_relu"),
        "a firing rate is zero or proportional to its current, which this is not: train with ReLU in its place",
    ),
    **dict.fromkeys(
        ("LayerNorm", "GroupNorm", "InstanceNorm2d", "layer_norm", "group_norm"),
        "its statistics are the sample's own and no weights can take them up: train with batch norm",
    ),
    **dict.fromkeys(
        ("matmul", "bmm", "MultiheadAttention", "scaled_dot_product_attention", "einsum"),
        "a product of two activations is no sum of spikes: only layers with fixed weights can be converted",
    ),
    **dict.fromkeys(
        ("LSTM", "GRU", "RNN"),
        "a recurrent layer has a time of its own: train it as a spiking network directly",
    ),
}
_REMEDY = "put one of ReLU, Conv, Linear, BatchNorm, pooling, add, cat or flatten in its place, or leave it outside"


def trace(model: nn.Module, sample: Tensor) -> Graph:
    """The model as a graph of copied layers, in evaluation mode.

    Args:
        model: any module of one input [B, ...] and one output; an `SNN` stands for its body.
        sample: an input [B, ...], by which shapes become known.

    Raises ConfigError naming the layer, where it is, and what could be done: control flow that depends on data,
    operations that no spiking layer can take over, an output that is no tensor [B, classes].
    """
    model = model.body if isinstance(model, SNN) else model
    model = nn.Sequential(model) if _leaf(model) else model
    if not len(sample):
        raise DataError("the calibration data are empty: give at least one sample")
    x = sample[:1].expand(3, *sample.shape[1:]).clone()  # a batch size that no other dimension is likely to have
    with inference(model), torch.no_grad():
        module = fx.GraphModule(model, _Tracer().traced(model))
        reader = _Reader(module)
        try:
            _Shapes(module).run(x)
        except Exception as error:
            reader.refuse_what_is_odd()
            said = str(error).strip().splitlines()[0]
            raise ConfigError(f"the calibration data {tuple(sample.shape)} do not fit the model: {said}") from error
        found = reader.read()
        out = found(x)
    if out.dim() != 2:
        raise ConfigError(
            f"the model hands on {tuple(out.shape[1:])} a sample, expected one row of class scores: flatten its end"
        )
    return found


class _Tracer(fx.Tracer):
    """Knows where it is, for messages."""

    def __init__(self) -> None:
        super().__init__()
        self.path: list[str] = []

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _leaf(m) or super().is_leaf_module(m, module_qualified_name)

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.path.append(self.path_of_module(m))
        out = super().call_module(m, forward, args, kwargs)
        self.path.pop()
        return out

    def traced(self, model: nn.Module) -> fx.Graph:
        try:
            return self.trace(model)
        except Exception as error:
            where = f"{self.path[-1]!r} ({type(model.get_submodule(self.path[-1])).__name__})" if self.path else "it"
            said = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ConfigError(
                f"the model cannot be traced, {where} has control flow or Python that depends on the data ({said}): "
                "write its forward as a fixed sequence of operations"
            ) from error


def _leaf(module: nn.Module) -> bool:
    """Whether a module is a layer of a known kind; one that adds to it in a forward of its own is looked into."""
    return isinstance(module, (Temporal, Activation)) or any(type(module).forward is kind.forward for kind in _KNOWN)


class _Shapes(fx.Interpreter):
    """Runs a traced graph on a sample and notes the shape of every tensor; "many" for a tuple of tensors."""

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, Tensor):
            n.meta["shape"] = tuple(value.shape)
        elif isinstance(value, (tuple, list)) and any(isinstance(v, (Tensor, tuple)) for v in value):
            n.meta["shape"] = "many"
        return value


class _Reader:
    """Turns a traced graph into layers, collecting what has to be refused."""

    def __init__(self, module: fx.GraphModule):
        self.module = module
        self.layers: dict[str, nn.Module] = {}
        self.wiring: list[tuple[str, ...]] = []
        self.env: dict[fx.Node, str] = {}
        self.refused: list[str] = []

    def read(self) -> Graph:
        inputs = [n for n in self.module.graph.nodes if n.op == "placeholder" and _is_tensor(n)]
        if len(inputs) != 1:
            raise ConfigError(f"the model takes {len(inputs)} inputs, expected one tensor [B, ...]")
        self.env[inputs[0]] = INPUT
        last = None
        for node in self.module.graph.nodes:
            if node.op == "output":
                last = node.args[0]
            elif node.op in ("call_module", "call_function", "call_method") and "shape" in node.meta:
                self._node(node)
        self._raise()
        if not isinstance(last, fx.Node) or last not in self.env or not self.wiring:
            raise ConfigError("the model hands on no tensor made by its layers: let it return the class scores alone")
        return _live(self.layers, self.wiring, self.env[last])

    def refuse_what_is_odd(self) -> None:
        """Refuse the operations that no table knows, if there are any: a run that failed may have failed by them."""
        for node in self.module.graph.nodes:
            if node.op == "call_module":
                layer = self.module.get_submodule(str(node.target))
                if _copied(layer) is None:
                    self._refuse(node, type(layer).__name__)
            elif node.op in ("call_function", "call_method") and _name(node) not in _USUAL:
                self._refuse(node, _name(node))
        self._raise()

    def _refuse(self, node: fx.Node, kind: str) -> None:
        self.refused.append(f"{node.name!r} ({kind}{self._place(node)}): {_REMEDIES.get(kind, _REMEDY)}")

    def _raise(self) -> None:
        if self.refused:
            more = f" (and {len(self.refused) - 3} more)" if len(self.refused) > 3 else ""
            raise ConfigError(f"cannot convert {'; '.join(self.refused[:3])}{more}")

    def _node(self, node: fx.Node) -> None:
        sources = [n for n in node.all_input_nodes if n in self.env]
        if not sources:
            return  # made from constants alone
        kind, layer = self._layer(node)
        if layer is None or not _is_tensor(node):
            self._refuse(node, kind)
            self.env[node] = self.env[sources[0]]
            return
        if isinstance(layer, (Add, Concat)):
            given = node.args[0] if isinstance(node.args[0], (list, tuple)) else node.args
            sources = [n for n in given if isinstance(n, fx.Node)]
        else:
            sources = sources[:1]
        inputs = [self.env[n] for n in sources]
        for part in layer if isinstance(layer, nn.Sequential) else [layer]:
            inputs = [self._add(node.name, part, inputs)]
        (self.env[node],) = inputs
        if _in_place(node, self.module):  # whoever reads the source from now on reads what it has become
            (self.env[sources[0]],) = inputs

    def _add(self, name: str, layer: nn.Module, inputs: list[str]) -> str:
        while hasattr(Graph, name) or name in (INPUT, "wiring", "training") or name in self.layers:
            name += "_"
        self.layers[name] = layer
        self.wiring.append((name, *inputs))
        return name

    def _layer(self, node: fx.Node) -> tuple[str, nn.Module | None]:
        """What a node is called, and the layer for it; None if there is none."""
        if node.op == "call_module":
            module = self.module.get_submodule(str(node.target))
            return type(module).__name__, _copied(module)
        kind = _name(node)
        source = node.args[0] if node.args else node.kwargs.get("input")
        tensors = [a for a in node.args if isinstance(a, fx.Node) and a in self.env]
        if kind in _ADD and len(tensors) == 2 and node.kwargs.get("alpha", 1) == 1:
            same = all(_shape(t) == _shape(node) for t in tensors)
            return kind, Add() if same else None
        if kind in ("cat", "concat", "concatenate"):
            parts = node.args[0] if node.args else ()
            dim = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else 0)
            wired = isinstance(parts, (list, tuple)) and all(p in self.env for p in parts)
            return kind, Concat(dim % len(_shape(node))) if wired and isinstance(dim, int) and dim else None
        if kind in _ARITHMETIC and len(tensors) == 1:
            return kind, self._arithmetic(kind, node)
        if not isinstance(source, fx.Node) or source not in self.env:
            return kind, None
        if kind == "batch_norm":
            return kind, self._batch_norm(*node.args[1:], **node.kwargs)
        if kind in _VIEWS:
            return kind, _view(_shape(source), _shape(node), kind, node)
        if kind not in FUNCTIONS:
            return kind, None
        rest = node.args[1:]
        try:
            return kind, FUNCTIONS[kind](
                *rest, **{k: v for k, v in node.kwargs.items() if k not in ("input", "inplace")}
            )
        except TypeError:
            return kind, None

    def _arithmetic(self, kind: str, node: fx.Node) -> nn.Module | None:
        """x + c, x - c, x * c, x / c with a number or one number a channel."""
        first, second = node.args[:2]
        swapped = not (isinstance(first, fx.Node) and first in self.env)
        other = first if swapped else second
        value = self._constant(other)
        shape = _shape(node)
        if value is None or len(shape) < 2 or (swapped and kind.strip("_") not in ("add", "mul", "iadd", "imul")):
            return None
        value = value.detach().double()
        squeezed = tuple(d for d in value.shape if d != 1)
        if value.numel() != 1 and (squeezed != (shape[1],) or value.dim() < len(shape) - 1):
            return None
        layer, number = Affine(shape[1]).to(value), value.flatten()
        with torch.no_grad():
            match kind.strip("_").removeprefix("i"):
                case "add":
                    layer.bias.copy_(number.expand(shape[1]))
                case "sub":
                    layer.bias.copy_(-number.expand(shape[1]))
                case "mul":
                    layer.weight.copy_(number.expand(shape[1]))
                case _:
                    layer.weight.copy_((1 / number).expand(shape[1]))
        return layer.to(next((p for p in self.module.parameters() if p.is_floating_point()), torch.empty(0)))

    def _batch_norm(self, mean: Any, var: Any, weight: Any = None, bias: Any = None, *rest: Any, **more: Any) -> Any:
        """A functional batch norm by running statistics, as a factor and an offset; None if it has none."""
        usual: tuple[Any, ...] = (False, 0.1, 1e-5)  # training, momentum, eps
        training, _, eps = rest + usual[len(rest) :]
        training, eps = more.get("training", training), more.get("eps", eps)
        mean, var, weight, bias = (self._constant(v) for v in (mean, var, weight, bias))
        if training or mean is None or var is None:
            return None
        scale = (var.double() + eps).rsqrt() * (1 if weight is None else weight.detach().double())
        layer = Affine(len(mean)).to(scale)
        with torch.no_grad():
            layer.weight.copy_(scale)
            layer.bias.copy_((0 if bias is None else bias.detach().double()) - mean.double() * scale)
        return layer.to(mean)

    def _constant(self, value: Any) -> Tensor | None:
        if isinstance(value, (int, float)):
            return torch.tensor(float(value), dtype=torch.float64)
        if isinstance(value, fx.Node) and value.op == "get_attr":
            found: Any = self.module
            for part in str(value.target).split("."):
                found = getattr(found, part, None)
            return found if isinstance(found, Tensor) else None
        return None

    def _place(self, node: fx.Node) -> str:
        if node.op == "call_module":
            return f" at {node.target}"
        stack = node.meta.get("nn_module_stack") or {}
        path = list(stack)[-1] if stack else ""
        return f" in {path}" if path else " in forward"


def _live(layers: dict[str, nn.Module], wiring: list[tuple[str, ...]], output: str) -> Graph:
    """The layers the output is made from."""
    needed = {output}
    for name, *inputs in reversed(wiring):
        if name in needed:
            needed.update(inputs)
    kept = [w for w in wiring if w[0] in needed]
    last = next(i for i, w in enumerate(kept) if w[0] == output)
    kept = kept[: last + 1]
    return Graph({name: layers[name] for name, *_ in kept}, kept)


def _copied(module: nn.Module) -> nn.Module | None:
    """A copy of a layer of the model, as the graph will have it; None if there is no such layer."""
    if isinstance(module, Temporal) and not isinstance(module, HeldDropout):
        return None
    if isinstance(module, nn.ReLU6):
        return Clip(6.0)
    if isinstance(module, nn.Hardtanh):
        return Clip(module.max_val) if module.min_val == 0 else None
    if isinstance(module, nn.ReLU):
        return nn.ReLU()
    if isinstance(module, nn.AdaptiveMaxPool2d):
        return None
    return copy.deepcopy(module).eval() if isinstance(module, _KNOWN) else None


def _is_tensor(node: fx.Node) -> bool:
    return isinstance(node.meta.get("shape"), tuple)


def _shape(node: fx.Node) -> tuple[int, ...]:
    return tuple(node.meta["shape"])


def _name(node: fx.Node) -> str:
    """What a function or method is called."""
    return node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))


def _in_place(node: fx.Node, module: fx.GraphModule) -> bool:
    if node.op == "call_module":
        return bool(getattr(module.get_submodule(str(node.target)), "inplace", False))
    return bool(node.kwargs.get("inplace")) or _name(node).endswith("_") or node.target in _IN_PLACE


def _view(before: tuple[int, ...], after: tuple[int, ...], kind: str, node: fx.Node) -> nn.Module | None:
    """Flatten, mean over all positions or nothing, told by the shapes."""
    if after == before:
        return nn.Identity()
    if kind == "mean":
        dims: Any = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
        dims = sorted(d % len(before) for d in ([dims] if isinstance(dims, int) else dims or ()))
        if dims != list(range(2, len(before))) or len(before) not in (3, 4):
            return None
        pool = nn.AdaptiveAvgPool2d(1) if len(before) == 4 else nn.AdaptiveAvgPool1d(1)
        return pool if len(after) == len(before) else nn.Sequential(pool, nn.Flatten())
    if len(after) == 2 and after[0] == before[0] and after[1] == torch.Size(before[1:]).numel():
        return nn.Flatten()
    return None


def _max_pool(kind: type[nn.Module]) -> Callable[..., nn.Module | None]:
    def layer(size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, **rest: Any) -> nn.Module | None:
        if rest.get("return_indices"):
            return None
        return kind(size, stride or None, padding, dilation, ceil_mode=rest.get("ceil_mode", False))

    return layer


def _clamp(min: Any = None, max: Any = None) -> nn.Module | None:
    if min != 0:
        return None
    return nn.ReLU() if max is None else Clip(float(max))


def _plain(*args: Any, **kwargs: Any) -> nn.Module:
    return nn.Identity()


_ADD = ("add", "iadd", "add_", "__add__")
_ARITHMETIC = (*_ADD, "sub", "isub", "sub_", "mul", "imul", "mul_", "truediv", "itruediv", "div", "div_", "multiply")
_VIEWS = ("view", "reshape", "flatten", "squeeze", "mean", "unsqueeze")
_IN_PLACE = (operator.iadd, operator.imul, operator.isub, operator.itruediv)
FUNCTIONS: dict[str, Callable[..., nn.Module | None]] = {
    "relu": lambda: nn.ReLU(),
    "relu_": lambda: nn.ReLU(),
    "relu6": lambda: Clip(6.0),
    "hardtanh": lambda min_val=-1.0, max_val=1.0: Clip(max_val) if min_val == 0 else None,
    "clamp": _clamp,
    "clamp_": _clamp,
    "clip": _clamp,
    "clamp_min": lambda min: _clamp(min),
    "clamp_min_": lambda min: _clamp(min),
    "max_pool2d": _max_pool(nn.MaxPool2d),
    "max_pool1d": _max_pool(nn.MaxPool1d),
    "avg_pool2d": lambda *a, **k: nn.AvgPool2d(*a, **k),
    "avg_pool1d": lambda *a, **k: nn.AvgPool1d(*a, **k),
    "adaptive_avg_pool2d": lambda output_size: nn.AdaptiveAvgPool2d(output_size),
    "adaptive_avg_pool1d": lambda output_size: nn.AdaptiveAvgPool1d(output_size),
    "softmax": lambda dim=None, **_: nn.Softmax(dim),
    "log_softmax": lambda dim=None, **_: nn.LogSoftmax(dim),
    **dict.fromkeys(
        ("dropout", "dropout2d", "feature_dropout", "alpha_dropout", "contiguous", "clone", "detach"), _plain
    ),
    **dict.fromkeys(("contiguous", "clone", "detach", "float", "to", "type_as"), _plain),
}
"""What a function or method does, as a layer made from its arguments after the input; None: it cannot be."""
_USUAL = {
    *(*FUNCTIONS, *_ADD, *_ARITHMETIC, *_VIEWS),
    *("cat", "concat", "concatenate", "batch_norm", "getattr", "getitem", "size", "dim", "_assert", "eq"),
}
"""Known by a table, or no operation on values."""
