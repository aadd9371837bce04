"""Models on disk: model.json says how the network is built, model.safetensors holds its weights.

A network is described by reading its constructor arguments back: every class of the library, and the torch layers it
uses, keep them as attributes of the same name. Building looks the class up in a fixed table, so a file can name parts
but never run code. A body with classes of the user's own is saved too; loading it takes `body=`.
"""

from __future__ import annotations

import inspect
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import spikewright.arch
import spikewright.classifiers
import spikewright.convert
import spikewright.neurons
import spikewright.times
from spikewright.clock import Temporal
from spikewright.encode import Encoder, Latency
from spikewright.errors import ConfigError, ModelFileError, expect
from spikewright.fronts import Front
from spikewright.neurons.biological import Biological
from spikewright.neurons.integrate_and_fire import IntegrateAndFire
from spikewright.neurons.parts import Leak, Reset
from spikewright.neurons.stepwise import Stepwise
from spikewright.readout import Readout, Timing
from spikewright.snn import SNN
from spikewright.storage import load_pair, save_pair
from spikewright.surrogate import Surrogate
from spikewright.times.integrate import Causal
from spikewright.times.layer import Dense, Timed
from spikewright.times.lif import Leaky

__all__ = ["build", "describe", "load_model", "save_model"]

FORMAT = 1
_TORCH = (
    *(nn.Conv1d, nn.Conv2d, nn.Linear, nn.BatchNorm1d, nn.BatchNorm2d, nn.AvgPool1d, nn.AvgPool2d, nn.MaxPool1d),
    *(nn.MaxPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.Flatten, nn.Unflatten),
    *(
        nn.Dropout,
        nn.Dropout1d,
        nn.Dropout2d,
        nn.Identity,
        nn.ReLU,
        nn.PReLU,
        nn.Sigmoid,
        nn.Tanh,
        nn.LayerNorm,
        nn.GroupNorm,
    ),
    *(nn.ZeroPad2d, nn.PixelShuffle, nn.PixelUnshuffle),
)


@cache
def _table() -> dict[str, type]:
    own = [c for base in (nn.Module, Encoder, Front, Readout, Leak, Reset, Surrogate) for c in _subclasses(base)]
    mine = {c.__name__: c for c in own if c.__module__.startswith("spikewright.") and not _abstract(c)}
    return {f"nn.{c.__name__}": c for c in _TORCH} | mine


def _abstract(kind: type) -> bool:
    """A base class, which names no part."""
    bases = (Temporal, IntegrateAndFire, Stepwise, Biological, Latency, Timing, Timed, Dense, Causal, Leaky)
    return kind in bases or kind.__name__.startswith("_")


def _subclasses(base: type) -> list[type]:
    direct: list[type] = base.__subclasses__()
    return [c for child in direct for c in (child, *_subclasses(child))]


def _arguments(kind: type) -> list[str]:
    if is_dataclass(kind):
        return [f.name for f in fields(kind) if f.init]
    named = (p for p in inspect.signature(kind).parameters.values() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
    return [p.name for p in named if p.name not in ("device", "dtype")]


def describe(part: Any) -> Any:
    """JSON value from which `build` makes an equal part; ConfigError names a class it does not know."""
    if part is None or isinstance(part, (bool, int, float, str)):
        return part
    if isinstance(part, (tuple, list)):
        return [describe(p) for p in part]
    if isinstance(part, dict):
        return {"type": "dict", "of": {str(key): describe(value) for key, value in part.items()}}
    kind = type(part)
    if kind is nn.Sequential:  # by its own list: a layer used twice has two names
        return {"type": "nn.Sequential", "layers": {name: describe(child) for name, child in part._modules.items()}}
    name = f"nn.{kind.__name__}" if kind in _TORCH else kind.__name__
    if _table().get(name) is not kind:
        raise ConfigError(f"a {kind.__name__} cannot be described in model.json: it is not one of the library's parts")
    values = {key: getattr(part, key) for key in _arguments(kind)}
    if isinstance(values.get("bias"), Tensor):
        values["bias"] = True
    elif "bias" in values and kind in _TORCH:
        values["bias"] = bool(values["bias"])
    return {"type": name, **{key: describe(value) for key, value in values.items()}}


def build(value: Any) -> Any:
    """The part that `describe` described; ModelFileError names what it cannot build."""
    if isinstance(value, list):
        return tuple(build(v) for v in value)
    if not isinstance(value, dict):
        return value
    name = value.get("type")
    if name == "nn.Sequential":
        layers = nn.Sequential()
        for child, layer in value["layers"].items():
            layers.add_module(child, expect("nn.Sequential", child, build(layer), nn.Module))
        return layers
    if name == "dict":
        return {key: build(v) for key, v in value["of"].items()}
    if name not in _table():
        raise ModelFileError(f"model.json names the part {name!r}, which this version does not know")
    return _table()[name](**{key: build(v) for key, v in value.items() if key != "type"})


def save_model(snn: SNN, folder: Path) -> None:
    """Write `snn` as model.json + model.safetensors into `folder` (made if need be), whole or not at all."""
    try:
        body = describe(snn.body)
    except ConfigError:
        body = {"custom": type(snn.body).__name__}
    meta = {
        "format": FORMAT,
        "spikewright": spikewright.__version__,
        "steps": snn.steps,
        "encode": describe(snn.encode),
        "readout": describe(snn.readout),
        "body": body,
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_pair(folder, "model", dict(snn.state_dict()), meta)


def load_model(folder: str | Path, body: nn.Module | None = None) -> SNN:
    """Read a network written by `SNN.save` (or a run folder), in evaluation mode.

    Args:
        body: the module the weights belong to, needed when it has classes of your own.

    Raises ModelFileError when a file is missing, damaged or does not fit the body, ConfigError without such a folder.
    """
    folder = Path(folder)
    try:
        tensors, meta = load_pair(folder, "model")
    except ConfigError as error:
        if not folder.is_dir():
            raise
        raise ModelFileError(f"{folder} holds no model: {error}") from error
    if meta.get("format") != FORMAT:
        raise ModelFileError(f"{folder / 'model.json'} has format {meta.get('format')!r}, this version reads {FORMAT}")
    described = meta.get("body")
    if body is None and isinstance(described, dict) and "custom" in described:
        raise ModelFileError(
            f"{folder} holds the weights of a {described['custom']!r}, a class of your own: "
            "pass load_model(folder, body=...)"
        )
    try:
        with torch.random.fork_rng(devices=[]):
            if body is None:
                with torch.device("meta"):  # sizes are compared before anything is allocated
                    _compare(_body(described), tensors, folder)
                body = _body(described)
            encode = expect("model", "encode", build(meta["encode"]), Encoder)
            snn = SNN(body, meta["steps"], encode, expect("model", "readout", build(meta["readout"]), Readout))
        dtypes = {t.dtype for t in tensors.values() if t.is_floating_point()}
        snn.to(dtypes.pop() if len(dtypes) == 1 else torch.float32)
        _compare(snn.body, tensors, folder)
        snn.load_state_dict(tensors)
    except ModelFileError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelFileError(f"{folder / 'model.json'} does not describe a network: {said}") from error
    return snn.eval()


def _body(described: Any) -> nn.Module:
    return expect("model", "body", build(described), nn.Module)


def _compare(body: nn.Module, tensors: dict[str, Tensor], folder: Path) -> None:
    wanted = {f"body.{name}": _kind(t) for name, t in body.state_dict().items()}
    found = {name: _kind(t) for name, t in tensors.items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            raise ModelFileError(
                f"{folder / 'model.safetensors'}: tensor {name!r} is {found.get(name, 'missing')}, "
                f"the network has {wanted.get(name, 'none of that name')}"
            )


def _kind(tensor: Tensor) -> str:
    """Shape and sort of a tensor; the precision is the file's to choose."""
    sort = "float" if tensor.is_floating_point() else str(tensor.dtype).removeprefix("torch.")
    return f"{sort} {tuple(tensor.shape)}"
