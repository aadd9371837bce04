"""Stopped anywhere, by whatever, and resumed: the run must end bit for bit as an undisturbed one does."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import forked
import pytest
import torch

import spikewright as sw
from spikewright import training
from spikewright.engine.trainer import Trainer
from spikewright.storage import Checkpoints

RUNS: dict[str, dict[str, Any]] = {
    "two-phase": {},
    "surrogate": {"arch": "4C3-P2-D0.2-20-10", "steps": 3, "epochs": 2, "batch": 20, "lr": 2e-2},
    "stbp": {"arch": "4C3-P2-20-10", "steps": 4, "epochs": 2, "batch": 20, "lr": 2e-2},
    "tssl-bp": {"arch": "4C3-P2-20-10", "steps": 4, "epochs": 2, "batch": 20, "lr": 1e-2},
    "s4nn": {"arch": "30-10", "epochs": 2, "batch": 20, "average": 0.05},
    "hybrid-stdb": {"arch": "4C3-P2-20-10", "steps": 8, "epochs": 1, "batch": 20, "lr": 1e-2, "tune_epochs": 1}
    | {"tune_batch": 20, "samples": 20, "estimate_steps": 8, "search": "0.4,0.8"},
}

Undisturbed = Callable[[str], tuple[Path, list[str]]]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The folder of an undisturbed run of a method, and the trace of the points it passed."""
    done: dict[str, tuple[Path, list[str]]] = {}

    def get(method: str) -> tuple[Path, list[str]]:
        if method not in done:
            folder = tmp_path_factory.mktemp(method) / "run"
            outcome = forked.run(forked.train, folder, method, **RUNS[method])
            assert outcome.code == 0, outcome
            summary = json.loads((folder / "summary.json").read_text())
            assert 0 < summary["spikes_per_image"] < summary["neuron_updates_per_image"]  # silence would prove nothing
            assert not forked.leftovers(folder)
            done[method] = folder, outcome.value
        return done[method]

    return get


def spread(trace: list[str], rarest: int = 0) -> list[int]:
    """One place of every point that occurs, early for some and late for others, and `rarest` steps more."""
    places = []
    for k, name in enumerate(dict.fromkeys(trace)):
        where = [i for i, found in enumerate(trace) if found == name]
        places.append(where[k * 5 % len(where)])
    steps = [i for i, found in enumerate(trace) if found == "step"]
    return sorted({*places, *steps[1 :: max(1, len(steps) // max(1, rarest))][:rarest]})


def finish(folder: Path, method: str) -> forked.Outcome:
    """What a user does after a kill: resume, or start again where there is no run yet."""
    if (folder / "config.json").exists():
        return forked.run(forked.resume, folder)
    assert forked.run(forked.resume, folder).code == 4
    if (folder / ".lock").exists():
        assert forked.run(forked.train, folder, method, **RUNS[method]).code == 7  # the dead process's lock
    return forked.run(forked.train, folder, method, take_over=True, **RUNS[method])


def kill_and_finish(folder: Path, method: str, *places: int) -> None:
    for n, place in enumerate(places):
        action, options = (forked.train, {"method": method, **RUNS[method]}) if n == 0 else (forked.resume, {})
        outcome = forked.run(action, folder, at=place, **options)
        assert outcome.code == -signal.SIGKILL, (place, outcome)
    if not (folder / "summary.json").exists():
        outcome = finish(folder, method)
        assert outcome.code == 0, (places, outcome)
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)  # left when the kill came after the last line of all
    (folder / ".lock").unlink(missing_ok=True)


def test_killed_at_every_phase_of_every_write_of_two_phases(tmp_path: Path, undisturbed: Undisturbed) -> None:
    reference, trace = undisturbed("two-phase")
    places = spread(trace, rarest=3)
    named = {trace[place] for place in places}
    assert len(places) >= 20
    assert {"step", "stepped", "half-written", "half-line", "line", "folder-renamed", "set-aside", "testing"} <= named
    assert {"moved phase-0.safetensors", "moved phase-0.json", "moved model.safetensors", "renamed"} <= named

    def wrong(place: int) -> list[str]:
        folder = tmp_path / str(place)
        kill_and_finish(folder, "two-phase", place)
        return forked.differences(folder, reference) + forked.leftovers(folder)

    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(places, pool.map(wrong, places), strict=True))
    assert not {f"{place} {trace[place]}": what for place, what in found.items() if what}


@pytest.mark.parametrize("method", ["surrogate", "stbp", "tssl-bp", "s4nn", "hybrid-stdb"])
def test_recipes_killed_within_an_epoch_between_line_and_checkpoint_and_in_the_evaluation(
    tmp_path: Path, undisturbed: Undisturbed, method: str
) -> None:
    reference, trace = undisturbed(method)
    steps = [i for i, name in enumerate(trace) if name == "step"]
    places = [steps[1], trace.index("stepped", steps[3]), steps[4], trace.index("line"), trace.index("testing")]
    for place in places:
        folder = tmp_path / str(place)
        kill_and_finish(folder, method, place)
        assert forked.differences(folder, reference) == [], (place, trace[place])


def test_killed_again_while_resuming(tmp_path: Path, undisturbed: Undisturbed) -> None:
    reference, trace = undisturbed("two-phase")
    between = trace.index("moved phase-0.json")  # after the first phase, before the second
    for n, places in enumerate([(60, 10, 1), (between, 1, 40), (between + 1, 0), (trace.index("testing"), 2)]):
        folder = tmp_path / str(n)
        kill_and_finish(folder, "two-phase", *places)
        assert forked.differences(folder, reference) == [], places


# ------------------------------------------------------------------------------------- would the comparison notice?


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, undisturbed: Undisturbed) -> Path:
    """A run of two phases that was killed within the last epoch of its second."""
    folder = tmp_path_factory.mktemp("stopped") / "run"
    steps = [i for i, name in enumerate(undisturbed("two-phase")[1]) if name == "step"]
    assert forked.run(forked.train, folder, "two-phase", at=steps[-1]).code == -signal.SIGKILL
    return folder


def forgetting(folder: Path, what: str) -> None:
    """Resume as if `what` had not been saved."""
    latest = Checkpoints.latest

    def partial(self: Checkpoints) -> Any:
        step, tensors, state = latest(self)
        if what in state["progress"]:
            state["progress"][what] = type(state["progress"][what])()
        if what == "phase":
            state["phase"] = 0
        zeroed = {k: torch.zeros_like(v) if k.startswith(f"{what}.") else v for k, v in tensors.items()}
        kept = {k: v for k, v in tensors.items() if not k.startswith(f"{what}.")}
        return step, zeroed if what == "model" else kept, state

    Checkpoints.latest = partial
    forked.resume(folder)


def test_a_restored_run_that_forgets_nothing_is_the_same(
    tmp_path: Path, stopped: Path, undisturbed: Undisturbed
) -> None:
    copy = shutil.copytree(stopped, tmp_path / "copy")
    assert forked.run(forgetting, copy, "nothing").code == 0
    assert forked.differences(copy, undisturbed("two-phase")[0]) == []


@pytest.mark.parametrize("what", ["model", "optimizer", "epoch", "step", "loss", "hits", "seen"])
def test_a_restored_run_that_forgets_anything_is_noticed(
    tmp_path: Path, stopped: Path, undisturbed: Undisturbed, what: str
) -> None:
    copy = shutil.copytree(stopped, tmp_path / "copy")
    outcome = forked.run(forgetting, copy, what)
    assert outcome.code or forked.differences(copy, undisturbed("two-phase")[0])


def falling_accuracy(action: Callable[..., None], *arguments: Any, **options: Any) -> None:
    """With a validation accuracy that only falls, so that the first epoch's weights are the chosen ones."""
    Trainer._accuracy = lambda self, split: 0.5 / (1 + self.at.epoch)
    action(*arguments, **options)


def forgetting_best(folder: Path, what: str) -> None:
    falling_accuracy(forgetting, folder, what)


def test_chosen_weights_of_an_earlier_epoch_survive_and_losing_them_is_noticed(tmp_path: Path) -> None:
    options = {"method": "surrogate", **RUNS["surrogate"]}
    outcome = forked.run(falling_accuracy, forked.train, tmp_path / "whole", **options)
    assert json.loads((tmp_path / "whole" / "summary.json").read_text())["chosen_epoch"] == 1
    last = len(outcome.value) - 1 - outcome.value[::-1].index("step")
    assert forked.run(falling_accuracy, forked.train, tmp_path / "0", at=last, **options).code == -signal.SIGKILL
    for what, same in [("nothing", True), ("best", False), ("best_epoch", False), ("best_accuracy", False)]:
        copy = shutil.copytree(tmp_path / "0", tmp_path / what)
        outcome = forked.run(forgetting_best, copy, what)
        assert (outcome.code == 0 and not forked.differences(copy, tmp_path / "whole")) == same, what


# ----------------------------------------------------------------------------------------------- damaged checkpoints


def newest(folder: Path) -> Path:
    return sorted((folder / "checkpoint").glob("step-*"))[-1]


def flip(path: Path, place: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 4
    path.write_bytes(data)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "flipped bit in the tensors": lambda cp: flip(cp / "tensors.safetensors", 0.9),
    "flipped bit in the state": lambda cp: flip(cp / "state.json"),
    "flipped bit in the sums": lambda cp: flip(cp / "SHA256SUMS", 0.1),
    "cut tensors": lambda cp: (cp / "tensors.safetensors").write_bytes((cp / "tensors.safetensors").read_bytes()[:-9]),
    "empty state": lambda cp: (cp / "state.json").write_bytes(b""),
    "no sums": lambda cp: (cp / "SHA256SUMS").unlink(),
    "no tensors": lambda cp: (cp / "tensors.safetensors").unlink(),
    "another's sums": lambda cp: shutil.copy(sorted(cp.parent.glob("step-*"))[0] / "SHA256SUMS", cp),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_newest_checkpoint_falls_back_with_a_warning(
    tmp_path: Path, stopped: Path, undisturbed: Undisturbed, name: str
) -> None:
    copy = shutil.copytree(stopped, tmp_path / "copy")
    assert len(list((copy / "checkpoint").glob("step-*"))) >= 2
    DAMAGES[name](newest(copy))
    outcome = forked.run(forked.resume_aloud, copy)
    assert outcome.code == 0, outcome
    assert newest(stopped).name in outcome.err and "warning" in outcome.err
    assert forked.differences(copy, undisturbed("two-phase")[0]) == []


def test_fallback_to_a_checkpoint_of_a_phase_that_is_finished_loses_no_line(
    tmp_path: Path, undisturbed: Undisturbed
) -> None:
    reference, trace = undisturbed("two-phase")
    folder = tmp_path / "run"
    place = trace.index("finished")  # the first phase's weights are in place; both checkpoints are of its course
    assert forked.run(forked.train, folder, "two-phase", at=place).code == -signal.SIGKILL
    flip(newest(folder) / "tensors.safetensors")
    assert forked.run(forked.resume, folder).code == 0
    assert forked.differences(folder, reference) == []


def test_without_a_good_checkpoint_nothing_starts_from_scratch(tmp_path: Path, stopped: Path) -> None:
    copy = shutil.copytree(stopped, tmp_path / "copy")
    for checkpoint in (copy / "checkpoint").glob("step-*"):
        flip(checkpoint / "tensors.safetensors")
    before = (copy / "metrics.jsonl").read_bytes()
    outcome = forked.run(forked.command, "train", "--resume", str(copy))
    assert outcome.code == 4
    assert outcome.err.count("\n") == 1 and outcome.err.startswith("error: ") and "verifies" in outcome.err
    assert (copy / "metrics.jsonl").read_bytes() == before


# ------------------------------------------------------------------------------------------------- what is refused


def test_a_finished_run_is_not_resumed(tmp_path: Path, undisturbed: Undisturbed) -> None:
    copy = shutil.copytree(undisturbed("surrogate")[0], tmp_path / "copy")
    with pytest.raises(sw.errors.ConfigError, match="finished"):
        training.resume(copy)
    assert not forked.differences(copy, undisturbed("surrogate")[0])


@pytest.mark.parametrize("kind", ["missing", "empty", "file"])
def test_what_is_no_run_is_not_resumed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run"
    if kind == "empty":
        path.mkdir()
    elif kind == "file":
        path.write_text("{}")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(sw.errors.ModelFileError, match="no run folder"):
        training.resume(path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"data_checksum": "0" * 64}, "other data"),
        ({"limit": 50}, "other data"),
        ({"settings": {"no-such": 1}}, "no-such"),
        ({"settings": None}, "configuration"),
        ({"data": None}, "configuration|unknown"),
        ({"seed": "zero"}, "configuration|seed"),
        ({"limit": "many"}, "configuration|limit"),
        ({"validation": None}, "configuration|validation"),
        ({"device": 3}, "configuration|device"),
    ],
)
def test_a_run_with_another_configuration_is_not_resumed(
    tmp_path: Path, undisturbed: Undisturbed, change: dict[str, Any], match: str
) -> None:
    copy = shutil.copytree(undisturbed("surrogate")[0], tmp_path / "copy")
    (copy / "summary.json").unlink()
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(sw.errors.SpikewrightError, match=match) as caught:
        training.resume(copy, progress=False)
    assert "\n" not in str(caught.value)
    assert not (copy / "summary.json").exists()


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"data": "digits"}', "{", '"text"'])
def test_a_damaged_configuration_is_not_resumed(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(sw.errors.ModelFileError) as caught:
        training.resume(tmp_path)
    assert "config.json" in str(caught.value) and "\n" not in str(caught.value)


# -------------------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize(
    ("name", "code", "when"),
    [
        ("SIGINT", 130, "step"),
        ("SIGTERM", 143, "step"),
        ("SIGHUP", 129, "step"),
        ("SIGTERM", 143, "writing"),
        ("SIGHUP", 129, "validating"),
        ("SIGINT", 130, "last validation"),
    ],
)
def test_a_signal_saves_within_one_step_and_the_run_goes_on_bit_for_bit(
    tmp_path: Path, undisturbed: Undisturbed, name: str, code: int, when: str
) -> None:
    reference, trace = undisturbed("two-phase")
    steps = [i for i, found in enumerate(trace) if found == "step"]
    validations = [i for i, found in enumerate(trace) if found == "validating"]
    place = {
        "step": steps[4],
        "writing": trace.index("half-written", steps[4]),
        "validating": validations[1],
        "last validation": validations[-1],
    }[when]
    folder = tmp_path / "run"
    words = ["train", "two-phase", "--out", str(folder), "--limit", "60", "--validation", "0.2", "--quiet"]
    outcome = forked.run(forked.command, *words, "--checkpoint-minutes", "0", at=place, do=name)
    assert outcome.code == code, outcome
    assert outcome.err.count("\n") == 1 and outcome.err.startswith("error: ") and name in outcome.err
    assert "Traceback" not in outcome.err and outcome.out == ""
    assert not (folder / "summary.json").exists()
    found = Checkpoints(folder / "checkpoint").latest()
    assert found is not None and found[0] == sum(i <= place for i in steps)
    assert forked.run(forked.resume, folder).code == 0
    assert forked.differences(folder, reference) == []


def test_a_signal_without_frequent_checkpoints_is_saved_too(tmp_path: Path, undisturbed: Undisturbed) -> None:
    reference, _ = undisturbed("two-phase")
    folder = tmp_path / "run"
    words = ["train", "two-phase", "--out", str(folder), "--limit", "60", "--validation", "0.2", "--quiet"]
    trace = forked.run(forked.train, tmp_path / "trace", "two-phase", checkpoint_minutes=60.0).value
    place = [i for i, found in enumerate(trace) if found == "step"][4]
    assert forked.run(forked.command, *words, at=place, do="SIGTERM").code == 143
    assert forked.run(forked.resume, folder).code == 0
    assert forked.differences(folder, reference) == []


# ------------------------------------------------------------------------------------------------------- full disk


def test_a_full_disk_at_any_point_is_code_5_and_the_run_goes_on(tmp_path: Path, undisturbed: Undisturbed) -> None:
    reference, trace = undisturbed("two-phase")
    writes = [i for i in spread(trace) if trace[i] not in ("step", "stepped", "validating", "testing")]
    for place in writes[2::2]:  # after config.json is there
        folder = tmp_path / str(place)
        outcome = forked.run(forked.train, folder, "two-phase", at=place, do="full")
        assert outcome.code == 5, (trace[place], outcome)
        assert "\n" not in outcome.value and not list(folder.rglob(".tmp-*"))
        if not (folder / "summary.json").exists():
            assert finish(folder, "two-phase").code == 0, trace[place]
            assert forked.differences(folder, reference) == [], trace[place]
