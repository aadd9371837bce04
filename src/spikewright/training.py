"""Running recipes: from a method's name and a data set to a trained network and a run folder."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import spikewright
from spikewright import provenance, recipes
from spikewright.data import Augment, Dataset, load
from spikewright.engine.optim import AdamW, Constant, Optimizer, Schedule
from spikewright.engine.session import Session, isolated_randomness, mixed_seed, seed_all
from spikewright.errors import ConfigError, ModelFileError
from spikewright.losses import CrossEntropy, Loss
from spikewright.measure import Evaluation, evaluate
from spikewright.phases import Fit, Phase
from spikewright.recipes import Recipe
from spikewright.snn import SNN
from spikewright.storage import RunFolder, load_pair, read_json, save_pair, write_json

__all__ = ["DEFAULT_METHOD", "fit", "resume", "train"]

DEFAULT_METHOD = "surrogate"


def train(
    method: str | Recipe = DEFAULT_METHOD,
    data: Dataset | str = "digits",
    *,
    out: str | Path | None = None,
    data_dir: str | Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    validation: float = 0.1,
    device: str = "auto",
    precision: str = "auto",
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
        seed: everything random is a function of it.
        validation: fraction of the training set held out to choose among epochs.
        device, precision, checkpoint_minutes: see `Session`.
        progress: show progress on standard error.
        take_over: take a run folder that a process which has died left locked.
        settings: fields of the recipe, over the paper's settings for this data set.

    Raises ConfigError, DataError, NumericError, ResourceError, BusyError.
    """
    if isinstance(data, str):
        data = load(data, data_dir=data_dir)
    if isinstance(method, Recipe):
        if settings:
            raise ConfigError(f"settings {', '.join(settings)} were given beside a ready recipe: set them on the recipe")
        plan = method
    else:
        plan = recipes.get(method).for_data(data.name, **settings)
    config = {
        "method": plan.name,
        "data": data.name,
        "data_dir": str(data_dir) if data_dir else None,
        "limit": limit,
        "seed": seed,
        "validation": validation,
        "device": device,
        "precision": precision,
        "settings": asdict(plan),
    }
    return _run(plan, data, config, out, progress, take_over, checkpoint_minutes)


def resume(run: str | Path, *, progress: bool = True, checkpoint_minutes: float = 2.0) -> SNN:
    """Go on with a run where its last checkpoint stands; the result is that of an undisturbed run, bit for bit.

    Raises ModelFileError when the folder is no run, is damaged, or its data have changed.
    """
    run = Path(run)
    if not (run / "config.json").exists():
        raise ModelFileError(f"{run} is no run folder: it has no config.json")
    config = read_json(run / "config.json")
    try:
        data = load(config["data"], data_dir=config["data_dir"])
        plan = recipes.get(config["method"])(**config["settings"])
    except (KeyError, TypeError) as error:
        raise ModelFileError(f"{run / 'config.json'} is not a run's configuration: {error}") from error
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
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Train a network of your own by gradients, in place; returns one record an epoch.

    With a validation part, the weights of its best epoch are kept. The test set is not touched.
    """
    data = data.with_steps(snn.steps)
    session = Session(data, seed, validation, device, precision, progress=progress)
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
    if phase.chosen:
        snn.load_state_dict(phase.chosen)
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
    data = data.with_steps(plan.steps)
    session = Session(
        data,
        config["seed"],
        config["validation"],
        config["device"],
        config["precision"],
        progress=progress,
        checkpoint_minutes=checkpoint_minutes,
    )
    stamp = provenance.stamp(session.accelerator.device)  # now: the source may change while a long run trains
    main = session.accelerator.is_main_process
    with (RunFolder(Path(out), take_over) if out is not None and main else nullcontext()) as folder:
        session.folder = folder
        if folder is not None:
            _open(folder, session, config, resuming)
        with isolated_randomness():
            phase, facts = _phases(plan, session)
        summary = _summary(plan, session, config, phase, facts) | stamp
        if folder is not None:
            phase.snn.save(folder.path)
            write_json(folder.path / "summary.json", summary)
            shutil.rmtree(folder.path / "checkpoint", ignore_errors=True)
    return phase.snn.eval()


def _open(folder: RunFolder, session: Session, config: dict[str, Any], resuming: bool) -> None:
    """Start the records of a run, or take up those of one that was stopped."""
    path = folder.path / "config.json"
    full = config | {"data_checksum": session.data.checksum, "version": spikewright.__version__}
    if not resuming:
        if path.exists():
            raise ConfigError(f"{folder.path} already holds a run: choose another --out, or go on with it by --resume")
        write_json(path, full)
        return
    if (folder.path / "summary.json").exists():
        raise ConfigError(f"{folder.path} is finished already: its figures are in summary.json")
    if config.get("data_checksum") != session.data.checksum:
        raise ModelFileError(f"{folder.path} was trained on other data ({config['data']} has changed): start a new run")
    found = session.checkpoints.latest() if session.checkpoints else None
    if found is not None:
        session.ticks, tensors, state = found
        session.resumed = (tensors, state)
    at = session.resumed[1] if session.resumed else {"phase": _finished_phases(folder), "progress": {"epoch": 0}}
    folder.truncate_lines(
        "metrics.jsonl", lambda line: (line["phase"], line["epoch"]) <= (at["phase"], at["progress"]["epoch"])
    )


def _finished_phases(folder: RunFolder) -> int:
    return len(list((folder.path / "checkpoint").glob("phase-*.json")))


def _phases(plan: Recipe, session: Session) -> tuple[Phase, dict[str, Any]]:
    """Run the phases of a plan, skipping those a stopped run had finished."""
    facts: dict[str, Any] = {}
    seed_all(mixed_seed(session.seed, "plan", 0))
    last: Phase | None = None
    for session.phase, phase in enumerate(plan.plan(session.data)):
        last = phase
        kept = _kept(session)
        if kept is not None:
            tensors, facts = kept
            phase.snn.materialise(session.train.batch(torch.arange(1)))
            phase.snn.load_state_dict(_part(tensors, "last."))
            phase.chosen = _part(tensors, "chosen.")
        else:
            if session.resumed is not None and session.resumed[1]["phase"] != session.phase:
                session.resumed = None
            facts = phase.run(session)
            session.resumed = None
            if session.folder is not None:
                tensors = {f"last.{k}": v for k, v in phase.snn.state_dict().items()}
                tensors |= {f"chosen.{k}": v for k, v in phase.chosen.items()}
                folder = session.folder.path / "checkpoint"
                folder.mkdir(exist_ok=True)
                save_pair(folder, f"phase-{session.phase}", tensors, {"facts": facts})
        seed_all(mixed_seed(session.seed, "plan", session.phase + 1))
    if last is None:
        raise ConfigError(f"recipe {plan.name!r} has a plan without phases")
    return last, facts


def _kept(session: Session) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    if session.folder is None or not (session.folder.path / "checkpoint" / f"phase-{session.phase}.json").exists():
        return None
    tensors, meta = load_pair(session.folder.path / "checkpoint", f"phase-{session.phase}")
    return tensors, meta["facts"]


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _summary(
    plan: Recipe, session: Session, config: dict[str, Any], phase: Phase, facts: dict[str, Any]
) -> dict[str, Any]:
    """Touch the test set: the last epoch's weights and those that validation chose. The network keeps the latter."""
    data, snn = session.data, phase.snn
    session.console.print("testing ...", style="dim")
    last: Evaluation | None = None
    if phase.chosen and facts.get("chosen_epoch") != facts.get("epochs"):
        last = evaluate(snn, data.test)
        snn.load_state_dict(phase.chosen)
    figures = evaluate(snn, data.test).to_json()
    accuracy = figures.pop("accuracy")
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
        "test_accuracy_last_epoch": last.accuracy if last else accuracy,
        **facts,
        **figures,
        "precision": session.precision,
        "settings": config["settings"],
    }
