"""Running recipes: from a method's name and a data set to a trained network and a run folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import spikewright
from spikewright import provenance, recipes
from spikewright.data import Augment, Dataset, load
from spikewright.engine.bars import samples_bar
from spikewright.engine.forecast import Forecast
from spikewright.engine.forecast import forecast as _forecast
from spikewright.engine.optim import AdamW, Constant, Optimizer, Schedule
from spikewright.engine.session import Session, isolated_randomness, mixed_seed, seed_all
from spikewright.errors import ConfigError, ModelFileError
from spikewright.losses import CrossEntropy, Loss
from spikewright.measure import evaluate
from spikewright.phases import Fit, Phase
from spikewright.recipes import Recipe
from spikewright.snn import SNN
from spikewright.storage import RunFolder, load_pair, read_json, save_pair, write_json

__all__ = ["DEFAULT_METHOD", "fit", "forecast", "resume", "train"]

DEFAULT_METHOD = "surrogate"
LONG = 500  # steps beyond which the closing measurement counts operations
COUNTED = 500  # on so many test samples only


def train(
    method: str | Recipe = DEFAULT_METHOD,
    data: Dataset | str = "digits",
    *,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    limit: int | None = None,
    test_limit: int | None = None,
    seed: int = 0,
    validation: float = 0.1,
    device: str = "auto",
    precision: str = "auto",
    memory: str = "normal",
    progress: bool = True,
    take_over: bool = False,
    checkpoint_minutes: float = 2.0,
    **settings: Any,
) -> SNN:
    """Train a recipe and return the network with the weights that validation chose, in evaluation mode.

    Args:
        method: a recipe's name, or a recipe.
        data: a data set, or the name of one.
        out: run folder for config.json, metrics.jsonl, summary.json and the model; None keeps nothing.
        data_dir: where to look for the data first.
        limit: train on the first so many samples of the shuffled training set.
        test_limit: test on so many samples, drawn by the seed.
        seed: everything random is a function of it.
        validation: fraction of the training set held out to choose among epochs.
        device, precision, memory, checkpoint_minutes: see `Session`.
        progress: show progress on standard error.
        take_over: take a run folder that a process which has died left locked.
        settings: fields of the recipe, over the paper's settings for this data set.

    Raises ConfigError, DataError, NumericError, ResourceError, BusyError.
    """
    plan, data = _planned(method, data, data_dir, settings)
    config = {
        "method": plan.name,
        "data": data.name,
        "data_dir": str(data_dir) if data_dir else None,
        "limit": limit,
        "test_limit": test_limit,
        "seed": seed,
        "validation": validation,
        "device": device,
        "precision": precision,
        "memory": memory,
        "settings": asdict(plan),
    }
    return _run(plan, data, config, out, progress, take_over, checkpoint_minutes)


def forecast(
    method: str | Recipe = DEFAULT_METHOD,
    data: Dataset | str = "digits",
    *,
    data_dir: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    memory: str = "normal",
    **settings: Any,
) -> Forecast:
    """What training a recipe's first phase would take of memory, from a few samples; the arguments are those of
    `train`."""
    plan, data = _planned(method, data, data_dir, settings)
    session = Session(data.with_steps(plan.steps), device=device, precision=precision, memory=memory, progress=False)
    with isolated_randomness():
        first = next(iter(plan.plan(session.data)), None)
    if not isinstance(first, Fit):
        raise ConfigError(f"{plan.name} does not begin by training with gradients: there is no step to measure")
    return _forecast(first, session)


def _planned(
    method: str | Recipe, data: Dataset | str, data_dir: str | Path | None, settings: dict[str, Any]
) -> tuple[Recipe, Dataset]:
    if isinstance(data, str):
        data = load(data, data_dir=data_dir)
    if not isinstance(method, Recipe):
        return recipes.get(method).for_data(data.name, **settings), data
    if settings:
        raise ConfigError(f"settings {', '.join(settings)} were given beside a ready recipe: set them on the recipe")
    return method, data


def resume(
    run: str | Path, *, data: Dataset | None = None, progress: bool = True, checkpoint_minutes: float = 2.0
) -> SNN:
    """Go on with a run where its last checkpoint stands; the result is that of an undisturbed run, bit for bit.

    `data` is needed when the run was given a data set of your own.

    Raises ModelFileError when the folder is no run, is damaged, or its data have changed.
    """
    run = Path(run)
    if not (run / "config.json").exists():
        raise ModelFileError(f"{run} is no run folder: it has no config.json")
    match config := read_json(run / "config.json"):
        case {
            "method": str(method),
            "data": str(name),
            "data_dir": str() | None as data_dir,
            "limit": int() | None,
            "test_limit": int() | None,
            "seed": int(),
            "validation": int() | float(),
            "device": str(),
            "precision": str(),
            "memory": str(),
            "settings": dict(settings),
        }:
            data = load(name, data_dir=data_dir) if data is None else data
            plan = recipes.get(method).for_data("", **settings)
        case _:
            raise ModelFileError(f"{run / 'config.json'} is not a run's configuration: restore it from a copy")
    return _run(plan, data, config, run, progress, True, checkpoint_minutes, resuming=True)


def fit(
    snn: SNN,
    data: Dataset,
    *,
    loss: Loss | None = None,
    epochs: int = 5,
    batch: int = 64,
    optimizer: Optimizer | None = None,
    schedule: Schedule | None = None,
    clip: float | None = None,
    augment: Augment | None = None,
    seed: int = 0,
    validation: float = 0.1,
    device: str = "auto",
    precision: str = "auto",
    memory: str = "normal",
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Train a network of your own by gradients, in place; returns one record an epoch.

    With a validation part, the weights of its best epoch are kept. The test set is not touched.
    """
    data = data.with_steps(snn.steps)
    session = Session(data, seed, validation, device, precision, memory, progress=progress)
    phase = Fit(
        snn,
        loss or CrossEntropy(),
        epochs,
        batch,
        optimizer or AdamW(),
        schedule or Constant(),
        clip,
        augment=augment,
    )
    with isolated_randomness():
        phase.run(session)
    return session.records


def _run(
    plan: Recipe,
    data: Dataset,
    config: dict[str, Any],
    out: str | Path | None,
    progress: bool,
    take_over: bool,
    checkpoint_minutes: float,
    resuming: bool = False,
) -> SNN:
    if config["limit"] is not None:
        data = data.limited(config["limit"], config["seed"])
    if config["test_limit"] is not None:
        data = data.limited(config["test_limit"], config["seed"], "test")
    data = data.with_steps(plan.steps)
    session = Session(
        data,
        config["seed"],
        config["validation"],
        config["device"],
        config["precision"],
        config["memory"],
        progress=progress,
        checkpoint_minutes=checkpoint_minutes,
    )
    stamp = provenance.stamp(session.accelerator.device)  # now: the source may change while a long run trains
    session.path = path = None if out is None else Path(out)
    with RunFolder(path, take_over) if path and session.accelerator.is_main_process else nullcontext() as folder:
        session.folder = folder
        if resuming and path is not None:
            _take_up(session, config, path)
        elif folder is not None:
            _start(folder, session, config)
        with isolated_randomness(), _no_empty_run(session):
            phase, facts, ann = _phases(plan, session)
        stamp["command"] = config.get("command", stamp["command"])  # of the run's beginning, if it was resumed
        summary = _summary(plan, session, config, phase, facts, ann) | stamp
        if folder is not None:
            phase.snn.save(folder.path)
            write_json(folder.path / "summary.json", summary)
            shutil.rmtree(folder.path / "checkpoint", ignore_errors=True)
    return phase.snn.eval()


@contextmanager
def _no_empty_run(session: Session) -> Iterator[None]:
    """Leave no folder that looks like a run when nothing was trained, because of a bad setting for instance."""
    try:
        yield
    except BaseException:
        path = session.path
        if session.folder and path and not (path / "metrics.jsonl").exists() and not (path / "checkpoint").exists():
            (path / "config.json").unlink(missing_ok=True)
        raise


def _start(folder: RunFolder, session: Session, config: dict[str, Any]) -> None:
    """Begin the records of a run."""
    path = folder.path / "config.json"
    if path.exists():
        raise ConfigError(f"{folder.path} already holds a run: choose another --out, or go on with it by --resume")
    facts = {"data_checksum": session.data.checksum, "version": spikewright.__version__}
    write_json(path, config | facts | {"command": provenance.command()})


def _take_up(session: Session, config: dict[str, Any], path: Path) -> None:
    """Take up the records of a run that was stopped: load its newest checkpoint, drop the lines written after it."""
    if (path / "summary.json").exists():
        raise ConfigError(f"{path} is finished already: its figures are in summary.json")
    if config.get("data_checksum") != session.data.checksum:
        raise ModelFileError(f"{path} was trained on other data ({config['data']} has changed): start a new run")
    at = (_finished_phases(path), 0)
    checkpoints = session.checkpoints
    if checkpoints is not None and (found := checkpoints.latest()) is not None:
        session.ticks, tensors, state = found
        session.resumed = (tensors, state)
        at = max(at, (state["phase"], state["progress"]["epoch"]))
        if checkpoints.damaged:
            names = ", ".join(checkpoints.damaged)
            session.console.print(f"[yellow]warning:[/] damaged checkpoints passed over: {names}", soft_wrap=True)
    if session.folder is not None:
        session.folder.truncate_lines("metrics.jsonl", lambda line: (line["phase"], line["epoch"]) <= at)


def _finished_phases(path: Path) -> int:
    return len(list((path / "checkpoint").glob("phase-*.json")))


def _phases(plan: Recipe, session: Session) -> tuple[Phase, dict[str, Any], SNN | None]:
    """Run the phases of a plan, passing over those a stopped run had finished: (the last, facts of all, the ANN)."""
    facts: dict[str, Any] = {}
    last: Phase | None = None
    ann: SNN | None = None
    stopped = session.resumed
    seed_all(mixed_seed(session.seed, "plan", 0))
    for index, phase in enumerate(plan.plan(session.data)):
        session.phase, last = index, phase
        session.resumed = stopped if stopped is not None and stopped[1]["phase"] == index else None
        kept = None if phase.repeats else _kept(phase, session)
        new = phase.run(session) if kept is None else kept
        if kept is None and not phase.repeats:
            if session.folder is not None:
                phase.picture(session.folder.path)
            _keep(phase, session, new)
        facts, ann = facts | new | _sums(facts, new), phase.origin or ann
        seed_all(mixed_seed(session.seed, "plan", index + 1))
    if last is None:
        raise ConfigError(f"recipe {plan.name!r} has a plan without phases")
    return last, facts, ann


def _sums(before: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """What adds up over phases: the time, and the peak of the memory."""
    seconds = [part["train_seconds"] for part in (before, facts) if "train_seconds" in part]
    peaks = [part["train_peak_memory_mb"] for part in (before, facts) if part.get("train_peak_memory_mb") is not None]
    return ({"train_seconds": sum(seconds)} if seconds else {}) | (
        {"train_peak_memory_mb": max(peaks)} if peaks else {}
    )


def _keep(phase: Phase, session: Session, facts: dict[str, Any]) -> None:
    """Put a finished phase's weights on disk."""
    if session.folder is not None and session.path is not None:
        tensors = {f"chosen.{k}": v for k, v in phase.snn.state_dict().items()}
        tensors |= {f"last.{k}": v for k, v in phase.last.items()}
        (session.path / "checkpoint").mkdir(exist_ok=True)
        save_pair(session.path / "checkpoint", f"phase-{session.phase}", tensors, {"facts": facts})


def _kept(phase: Phase, session: Session) -> dict[str, Any] | None:
    """Give a phase the weights a stopped run left of it; its facts, or None if it was not finished."""
    if session.path is None or not (session.path / "checkpoint" / f"phase-{session.phase}.json").exists():
        return None
    tensors, meta = load_pair(session.path / "checkpoint", f"phase-{session.phase}")
    phase.snn.materialise(session.train.batch(torch.arange(1)))
    phase.snn.load_state_dict(_part(tensors, "chosen."))
    phase.last = _part(tensors, "last.")
    return dict(meta["facts"])


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _summary(
    plan: Recipe, session: Session, config: dict[str, Any], phase: Phase, facts: dict[str, Any], ann: SNN | None
) -> dict[str, Any]:
    """Touch the test set, once: the weights that validation chose, and the last epoch's."""
    data, snn = session.data, phase.snn
    precision = "float32" if phase.precise and config["precision"] == "auto" else session.precision
    session.console.print("testing ...", style="dim")
    with samples_bar(session.console, "testing") as told:
        few = COUNTED if snn.steps > LONG else None
        figures = evaluate(snn, data.test, precision=precision, counted=few, progress=told).to_json()
    accuracy = last_accuracy = figures.pop("accuracy")
    if phase.last:
        chosen = {k: v.clone() for k, v in snn.state_dict().items()}
        snn.load_state_dict(phase.last)
        last_accuracy = evaluate(snn, data.test, precision=precision).accuracy
        snn.load_state_dict(chosen)
    if ann is not None:
        facts = {"ann_test_accuracy": evaluate(ann, data.test, precision=precision).accuracy, **facts}
    return {
        "method": plan.name,
        "family": plan.family,
        "paper": plan.paper,
        "paper_accuracy": plan.reports.get(data.name),
        "dataset": data.name,
        "note": data.note,
        "arch": config["settings"].get("arch"),
        "seed": session.seed,
        "train_samples": len(session.train),
        "validation_samples": len(session.valid) if session.valid is not None else 0,
        "test_accuracy": accuracy,
        "test_accuracy_last_epoch": last_accuracy,
        **facts,
        **figures,
        "precision": precision,
        "settings": config["settings"],
    }
