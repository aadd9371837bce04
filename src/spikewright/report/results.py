"""Reproduced results: one small JSON per recorded run, and RESULTS.md generated from them.

    python -m spikewright.report [results] [--out RESULTS.md] [--check]

A record is a run's summary and, beside it: `goal` (the accuracy to reach, %), `paper` (where that comes from),
`paper_accuracy` (what the paper reports, %), `tolerance` (points below the goal that still count, 0 if absent), `note`
(what differs from the paper: a subset, fewer epochs) and `reproduced`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from spikewright.errors import ConfigError, ModelFileError, SpikewrightError
from spikewright.report import format as f
from spikewright.storage import read_json, write_json
from spikewright.storage.atomic import write_atomic

__all__ = ["generate_results_md", "main", "recorded", "write_result"]

Record = Mapping[str, Any]

_DEFAULTS: dict[str, Any] = {"goal": None, "paper": "", "paper_accuracy": None, "note": "", "reproduced": False}


def write_result(summary: Record, path: Path | str) -> None:
    """Write a record; what a record has beyond a summary is filled in as unknown where it is missing.

    Raises:
        ConfigError: no method or data set, an accuracy that is no fraction of 1, or `reproduced` although the
            goal is missing or was not reached; ResourceError: it cannot be written.
    """
    record = {**_DEFAULTS, **summary}
    for key in ("method", "dataset"):
        if not record.get(key):
            raise ConfigError(
                f"the result for {str(path)!r} has no {key!r}: write the run's summary.json with the goal added"
            )
    for key in ("test_accuracy", "test_accuracy_last_epoch"):
        value = record.get(key)
        if value is not None and not (f.number(value) is not None and 0 <= value <= 1):
            raise ConfigError(f"the result for {str(path)!r} has {key} {value!r}, expected a fraction of 1 or null")
    if record["reproduced"] and not _reached(record):
        raise ConfigError(
            f"the result for {str(path)!r} is called reproduced with {f.percent(record.get('test_accuracy'))}, goal "
            f"{f.percent_of_paper(record['goal'])}: set reproduced to false, or state a tolerance"
        )
    write_json(Path(path), record)


def generate_results_md(results_dir: Path | str) -> str:
    """The text of RESULTS.md from all results/*.json, by data set, method and file name.

    Raises:
        ConfigError: no such folder; ModelFileError: a file that is no record.
    """
    records = _records(Path(results_dir))
    if not records:
        return _HEAD + "\nNo run is recorded yet.\n"
    notes = [f"- `{name}`: {_cell(r['note'])}" for name, r in records if r.get("note")]
    parts = [_HEAD, _table(records, _RESULT), "\n## What they cost\n", _COSTS_TEXT, _table(records, _COST)]
    if notes:
        parts += ["\n## Notes\n", "\n".join(notes) + "\n"]
    return "\n".join(parts)


def recorded() -> dict[str, dict[str, float]]:
    """What the records that come with the package reached on whole data sets: method -> data set -> best, in %."""
    here = Path(__file__).resolve().parents[1]
    folder = next((f for f in (here / "results", here.parents[1] / "results") if f.is_dir()), None)
    best: dict[str, dict[str, float]] = {}
    for _, record in _records(folder) if folder else []:
        accuracy, reached = f.number(record.get("test_accuracy")), best.setdefault(str(record.get("method")), {})
        if accuracy is not None and "subset" not in str(record.get("note")):
            name = str(record.get("dataset"))
            reached[name] = max(reached.get(name, 0.0), round(100 * accuracy, 2))
    return best


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m spikewright.report", description="regenerate RESULTS.md")
    parser.add_argument("results", nargs="?", default="results", type=Path, help="folder of the records")
    parser.add_argument("--out", default=Path("RESULTS.md"), type=Path, help="the file to write")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is not up to date")
    given = parser.parse_args(arguments)
    try:
        text = generate_results_md(given.results)
        if given.check:
            if not given.out.exists() or given.out.read_text(encoding="utf-8") != text:
                raise ConfigError(f"{str(given.out)!r} is not what the records say: run this command without --check")
        else:
            write_atomic(given.out, text.encode())
    except SpikewrightError as error:
        print(error, file=sys.stderr)
        return error.code
    return 0


def _records(folder: Path) -> list[tuple[str, Record]]:
    if not folder.is_dir():
        raise ConfigError(f"{str(folder)!r} is no folder, expected one with a JSON file per recorded run")
    records = []
    for path in folder.glob("*.json"):
        record = read_json(path)
        if not isinstance(record, dict):
            raise ModelFileError(f"{str(path)!r} holds no record, expected a JSON object: write it with write_result")
        records.append((path.stem, record))
    return sorted(records, key=lambda item: (str(item[1].get("dataset")), str(item[1].get("method")), item[0]))


def _reached(record: Record) -> bool:
    """Whether the validation-chosen weights (the last ones where none were chosen) are within tolerance of the goal."""
    goal, tolerance = f.number(record.get("goal")), f.number(record.get("tolerance")) or 0.0
    accuracy = f.number(record.get("test_accuracy"))
    if accuracy is None:
        accuracy = f.number(record.get("test_accuracy_last_epoch"))
    return goal is not None and accuracy is not None and 100 * accuracy >= goal - tolerance - 1e-9


def _verdict(record: Record) -> str:
    if record.get("reproduced") and _reached(record):
        return "yes"
    if f.number(record.get("goal")) is None:
        return "no goal set"
    return "goal reached, not called reproduced (see notes)" if _reached(record) else "not yet"


def _goal(record: Record) -> str:
    """The figure to reach and where it comes from: "99.00 % (Wu et al. 2018: 99.42 %)"."""
    source = str(record.get("paper") or "")
    reported = f.number(record.get("paper_accuracy"))
    if reported is not None:
        source = f"{source or 'the paper'}: {f.percent_of_paper(reported)}"
    allowed = f.number(record.get("tolerance"))
    return (
        f.percent_of_paper(record.get("goal"))
        + (f" - {allowed:g} points" if allowed else "")
        + (f" ({source})" if source else "")
    )


def _data(record: Record) -> str:
    samples = f.number(record.get("train_samples"))
    return f.plain(record.get("dataset")) + (f", {samples:,.0f} training samples" if samples is not None else "")


def _code(value: Any) -> str:
    return f"`{value}`" if value else f.MISSING


def _commit(record: Record) -> str:
    return _code(str(record.get("commit") or "")[:10])


Columns = Sequence[tuple[str, Callable[[Record], str]]]

_RESULT: Columns = (
    ("data", _data),
    ("to reach", _goal),
    ("last epoch", lambda r: f.percent(r.get("test_accuracy_last_epoch"))),
    ("validation-chosen", lambda r: f.percent(r.get("test_accuracy"))),
    ("reproduced", _verdict),
    ("ties", lambda r: f.plain(r.get("ties"))),
    ("with ties right", lambda r: f.percent(r.get("accuracy_ties_right"))),
    ("epochs", lambda r: f.plain(r.get("epochs"))),
    ("T", lambda r: f.plain(r.get("steps"))),
    ("seed", lambda r: f.plain(r.get("seed"))),
    ("hardware", lambda r: f.plain(r.get("hardware"))),
    ("commit", _commit),
    ("command", lambda r: _code(r.get("command"))),
)

_COST: Columns = (
    ("SynOps", lambda r: f.count(r.get("synops_per_image"))),
    ("MACs", lambda r: f.count(r.get("macs_per_image"))),
    ("ANN MACs", lambda r: f.count(r.get("ann_macs_per_image"))),
    ("energy", lambda r: f.energy(r.get("energy_nj_per_image"))),
    ("ANN energy", lambda r: f.energy(r.get("ann_energy_nj_per_image"))),
    ("ratio", lambda r: f.ratio(r.get("energy_nj_per_image"), r.get("ann_energy_nj_per_image"))),
    ("prices", lambda r: f.plain(r.get("energy_table"))),
    ("training", lambda r: f.duration(r.get("train_seconds"))),
    ("training speed", lambda r: f.rate(r.get("train_images_per_second"))),
    ("inference", lambda r: f.rate(r.get("infer_images_per_second"))),
)

_HEAD = """# Results

Generated by `python -m spikewright.report` from `results/*.json`; edit those, not this.

Accuracies are on the test set, which is touched once, after training; ties count as wrong, but in the
column that says otherwise, which counts those that the true class shares as right. "Last epoch" are the
weights at the end of training, "validation-chosen" those of the epoch that was best on a validation split of the
training data. A run is called reproduced when the validation-chosen figure is within the stated tolerance of the one to
reach and the record says that nothing essential was left out; a subset, or fewer epochs than the paper's, is in the
notes.
"""

_COSTS_TEXT = """Means per test image through all T steps: accumulates caused by spikes (SynOps),
multiply-accumulates caused by analog inputs, the dense pass of the same body as an ANN, and both priced by the named
table (45nm: 4.6 pJ a MAC, 0.9 pJ an AC). A ratio above 1 means that the SNN costs more.
"""


def _table(records: Sequence[tuple[str, Record]], columns: Columns) -> str:
    lines = ["| run | " + " | ".join(name for name, _ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, record in records:
        cells = [f"`{name}`", *(_cell(value(record)) for _, value in columns)]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _cell(text: Any) -> str:
    """Text that stays within one cell of a Markdown table."""
    return " ".join(str(text).split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
