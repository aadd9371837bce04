"""Converting a network of one's own: any torch model, a method by name, data to calibrate on."""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from spikewright import provenance, recipes
from spikewright.convert import Calibration, Method, Report, converted, examined
from spikewright.data import Dataset, load
from spikewright.engine.bars import samples_bar
from spikewright.engine.session import isolated_randomness
from spikewright.errors import ConfigError, ModelFileError, whole
from spikewright.measure import evaluate
from spikewright.recipes.conversion import ConversionRecipe
from spikewright.snn import SNN
from spikewright.storage import RunFolder, write_json

if TYPE_CHECKING:
    from spikewright.flags import ConvertOptions

__all__ = ["ConversionWarning", "conversion", "convert", "load_user_model", "methods", "run_conversion"]

LOOKED_AT = 256


class ConversionWarning(UserWarning):
    """A conversion that loses more than 5 points on its calibration data."""


def convert(
    ann: nn.Module,
    *,
    calibrate_on: Any,
    method: str | Method = "rueckauer",
    steps: int | None = None,
    samples: int = 1000,
    seed: int = 0,
    **settings: Any,
) -> SNN:
    """A trained ANN as a spiking network; the ANN stays as it is.

    Args:
        ann: any torch model of one input and one output, traced with torch.fx: Conv1d, Conv2d, Linear, batch norm,
            ReLU and clipped ReLU, average, adaptive and max pooling, dropout, flatten, sums and concatenations.
        calibrate_on: a data set (its training part), a split, a tensor of inputs [N, ...], or a pair (inputs, labels).
        method: a conversion recipe's name (`methods()`), or a `Method` of your own parts.
        steps: T of the result; the recipe's own by default.
        samples: how many calibration samples are used at most.
        seed: of their choice, and of random encoders.
        settings: fields of the recipe, `percentile=99.99` for instance.

    Warns (`ConversionWarning`) when more than 5 points of accuracy are lost on the calibration data, naming the layer.
    Raises ConfigError naming what cannot be converted, DataError for unfit data.
    """
    return conversion(
        ann, calibrate_on=calibrate_on, method=method, steps=steps, samples=samples, seed=seed, **settings
    )[0]


def conversion(
    ann: nn.Module,
    *,
    calibrate_on: Any,
    method: str | Method = "rueckauer",
    steps: int | None = None,
    samples: int = 1000,
    seed: int = 0,
    looked_at: int = LOOKED_AT,
    progress: Callable[[str], None] = lambda said: None,
    **settings: Any,
) -> tuple[SNN, Report]:
    """The same, with the report of what came of it over `looked_at` of the samples."""
    steps, chosen = _method(method, steps, settings)
    data = Calibration.of(calibrate_on, ann, samples, seed=seed)
    with torch.random.fork_rng(devices=[]):
        found = converted(ann, data, chosen, steps, seed=seed, progress=progress)
        report = examined(found, data, steps, samples=looked_at, seed=seed)
    if report.warning:
        warnings.warn(report.warning, ConversionWarning, stacklevel=3)
    return found.snn, report


def load_user_model(where: str, weights: Path | None = None) -> nn.Module:
    """The model that "FILE.py:FUNCTION" makes, with weights from a safetensors file, in evaluation mode.

    The file is the user's own program and is run. Raises ConfigError for a file, function or result that is not what it
    should be, ModelFileError for weights that do not fit.
    """
    file, _, function = where.rpartition(":")
    path = Path(file)
    if not file or not path.is_file():
        raise ConfigError(f"{where!r} names no file, expected MODEL.py:FUNCTION with a function that makes the model")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{file!r} is no Python file, expected MODEL.py:FUNCTION")
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # its own imports
    try:
        with isolated_randomness():
            spec.loader.exec_module(module)
            make = getattr(module, function, None)
            if not callable(make):
                raise ConfigError(f"{file!r} has no function {function!r} that makes the model")
            model = make()
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(f"{where!r} failed: {type(error).__name__}: {str(error).splitlines()[:1]}") from error
    finally:
        sys.path.pop(0)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{where!r} makes a {type(model).__name__}, expected a torch module")
    if weights is not None:
        try:
            model.load_state_dict(load_file(weights))
        except (OSError, SafetensorError, RuntimeError) as error:
            said = " ".join(str(error).split())[:200]
            raise ModelFileError(f"{str(weights)!r} does not fit the model of {where!r}: {said}") from error
    return model.eval()


def run_conversion(where: str, options: ConvertOptions, out: Path, settings: dict[str, Any]) -> None:
    """The command `convert`: the SNN, conversion.json, summary.json and config.json into a run folder."""
    model = load_user_model(where, options.weights)
    data = load(options.data, data_dir=options.data_dir)
    console = Console(stderr=True, quiet=options.quiet)
    with RunFolder(out) as folder:
        if (out / "config.json").exists():
            raise ConfigError(f"{out} already holds a run: choose another --out")
        console.print(f"converting by {options.method} ...", style="dim")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConversionWarning)
            snn, report = conversion(
                model,
                calibrate_on=data,
                method=options.method,
                seed=options.seed,
                progress=lambda said: console.print(said, style="dim"),
                **settings,
            )
        if report.warning:
            console.print(f"[yellow]warning:[/] {report.warning}", highlight=False, soft_wrap=True)
        snn.save(folder.path)
        write_json(out / "conversion.json", report.to_json())
        write_json(out / "summary.json", _summary(model, snn, data, options, report, settings, console))
        config = {"method": options.method, "data": data.name, "model": where, "settings": settings}
        write_json(out / "config.json", config | {"data_dir": str(options.data_dir) if options.data_dir else None})


def _summary(
    model: nn.Module,
    snn: SNN,
    data: Dataset,
    options: ConvertOptions,
    report: Report,
    settings: dict[str, Any],
    console: Console,
) -> dict[str, Any]:
    kind = recipes.get(options.method)
    summary: dict[str, Any] = {"method": options.method, "family": kind.family, "paper": kind.paper}
    summary |= {"dataset": data.name, "note": data.note, "seed": options.seed, "steps": snn.steps}
    summary |= {"conversion_lost": report.lost, "loses_most": report.culprit.name, "settings": settings}
    if options.test != 0:
        test = data.test if options.test is None else data.test.subset(torch.arange(min(options.test, len(data.test))))
        with samples_bar(console, "testing") as told:
            figures = evaluate(snn, test, progress=told).to_json()
        ann = evaluate(SNN(model, steps=1), test).accuracy
        summary |= {"ann_test_accuracy": ann, "test_accuracy": figures.pop("accuracy"), **figures}
    return summary | provenance.stamp(torch.device("cpu"))


def methods() -> list[str]:
    """Names of the recipes that convert."""
    return [name for name in recipes.names() if issubclass(recipes.get(name), ConversionRecipe)]


def _method(method: str | Method, steps: int | None, settings: dict[str, Any]) -> tuple[int, Method]:
    if isinstance(method, Method):
        if settings:
            raise ConfigError(f"settings {', '.join(settings)} were given beside a ready method: set them on its parts")
        if steps is None:
            raise ConfigError("steps is missing: a method of your own does not say how many time steps to run")
        return whole("", "steps", steps), method
    kind = recipes.get(method)
    if not issubclass(kind, ConversionRecipe):
        raise ConfigError(f"recipe {method!r} does not convert a given ANN; these do: {', '.join(methods())}")
    given = {} if steps is None else {"steps": whole("", "steps", steps)}
    plan = kind.for_data("", **given, **settings)
    return plan.steps, plan.method()
