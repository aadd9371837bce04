"""Experiments: found by listing, tables beside the paper's, finished runs taken as they are."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path

import pytest

from spikewright import cli, experiments
from spikewright.errors import ConfigError
from spikewright.experiments import Experiment
from spikewright.measure import evaluation

NAMES = experiments.names()
TINY: dict[str, list[str]] = {
    "shadow-training": ["--arch", "8C3-P2-20-10", "--epochs", "80", "--steps", "20"],
    "hybrid-conversion": ["--arch", "8C3-P2-20-10", "--epochs", "9", "--steps", "8,6", "--long-steps", "20"],
    "deep-residual": ["--archs", "8C3-P2-20-10,8C3-MP2-20-10", "--epochs", "6", "--steps", "20", "--direct", "2"]
    + ["--direct-epochs", "1", "--batch", "20"],
    "noise": ["--arch", "8C3-P2-20-10", "--epochs", "3", "--steps", "4", "--batch", "20", "--goal", "12"],
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluation, "TIMED_SECONDS", 0.0)


def test_the_listing_finds_every_file() -> None:
    root = Path(inspect.getfile(experiments)).parent
    assert {p.stem.replace("_", "-") for p in root.glob("*.py") if p.stem != "__init__"} == set(NAMES)
    assert set(TINY) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_experiment_says_what_it_is(name: str) -> None:
    kind = experiments.get(name)
    row = next(row for row in experiments.listing() if row["name"] == name)
    assert issubclass(kind, Experiment) and row["paper"] and row["about"].endswith(".")
    assert kind().folder.name == f"experiment-{name}-{kind().data}"


@pytest.mark.parametrize("name", TINY)
def test_it_writes_the_papers_table_beside_ours(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "experiment",
        name,
        "--data",
        "digits",
        "--limit",
        "150",
        "--test-limit",
        "300",
        "--out",
        "e",
        "--quiet",
        *TINY[name],
    ]
    assert cli.main([*words, "--record", "r.json"]) == 0
    out = capsys.readouterr().out
    record = json.loads(Path("e/experiment.json").read_text())
    assert record == json.loads(Path("r.json").read_text())
    assert (
        record["rows"]
        and record["dataset"] == "digits"
        and {"150 of", "300 of"} <= set(re.findall(r"\d+ of", record["note"]))
    )
    figures = [row["ours"] for row in record["rows"] if row["unit"] == "%"]
    assert len(figures) >= 2 and all(0 <= f <= 100 for f in figures) and max(figures) > 10
    assert all(f"{f:.2f} %" in out for f in figures)
    assert record["curves"] and Path("e/experiment.png").stat().st_size > 1000
    stamps = {p: p.stat().st_mtime_ns for p in Path("e").rglob("summary.json")}
    assert cli.main(words) == 0  # finished runs are taken as they are
    assert stamps == {p: p.stat().st_mtime_ns for p in Path("e").rglob("summary.json")} and stamps


def test_exclusive_or_is_learned() -> None:
    rows = experiments.get("spikeprop-xor")(variants="plain", seeds=2, quiet=True).run()
    assert [row.ours for row in rows] == [100.0] and "passes" in rows[0].note


def test_a_wrong_name_is_told() -> None:
    with pytest.raises(ConfigError, match="did you mean 'shadow-training'"):
        experiments.get("shadow-trainings")
    with pytest.raises(ConfigError, match="there are"):
        experiments.get("x")
