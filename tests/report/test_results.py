"""Records of runs, and RESULTS.md made of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from spikewright.errors import ConfigError, ModelFileError
from spikewright.report.results import generate_results_md, main, write_result

GOAL = {"goal": 99.0, "paper": "Wu et al. 2018", "paper_accuracy": 99.42}


def row(text: str, name: str) -> list[str]:
    line = next(line for line in text.splitlines() if line.startswith(f"| `{name}`"))
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_a_record_and_its_line(summary: dict[str, Any], tmp_path: Path) -> None:
    write_result(summary | GOAL | {"reproduced": True}, tmp_path / "stbp-mnist.json")
    assert json.loads((tmp_path / "stbp-mnist.json").read_text())["note"] == ""
    text = generate_results_md(tmp_path)
    assert row(text, "stbp-mnist") == [
        "`stbp-mnist`", "mnist, 55,000 training samples", "99.00 % (Wu et al. 2018: 99.42 %)", "99.25 %", "99.31 %",
        "yes", "3", "99.35 %", "5", "4", "0", "2 cores", "`0123456789`", "`spikewright train stbp --data mnist`",
    ]  # fmt: skip
    costs = text.partition("## What they cost")[2]
    for part in ("12.3 k", "678", "23.5 k", "41.2 nJ", "20.6 nJ", "x 2", "45nm", "3 min 12 s", "1,234 images/s"):
        assert part in costs
    assert "## Notes" not in text


def test_only_what_was_reached_is_called_reproduced(summary: dict[str, Any], tmp_path: Path) -> None:
    for wrong in ({"goal": 99.4}, {"goal": None}, {"goal": 99.32}, {"test_accuracy": 0.5}):
        with pytest.raises(ConfigError, match="is called reproduced"):
            write_result(summary | GOAL | {"reproduced": True} | wrong, tmp_path / "r.json")
    write_result(summary | GOAL | {"reproduced": True, "goal": 99.4, "tolerance": 0.1}, tmp_path / "tolerated.json")
    write_result(summary | GOAL | {"goal": 99.4}, tmp_path / "missed.json")
    write_result(summary | GOAL | {"note": "5 epochs, the paper\n has | 100"}, tmp_path / "short.json")
    write_result(summary, tmp_path / "open.json")
    (tmp_path / "forged.json").write_text(json.dumps(summary | GOAL | {"reproduced": True, "goal": 99.9}))
    text = generate_results_md(tmp_path)
    verdicts = {name: row(text, name)[5] for name in ("tolerated", "missed", "short", "open", "forged")}
    assert verdicts == {
        "tolerated": "yes",
        "missed": "not yet",
        "short": "goal reached, not called reproduced (see notes)",
        "open": "no goal set",
        "forged": "not yet",
    }
    assert "99.40 % - 0.1 points (Wu et al. 2018: 99.42 %)" in text
    assert "- `short`: 5 epochs, the paper has \\| 100" in text


def test_missing_keys_and_no_records(tmp_path: Path) -> None:
    assert "No run is recorded yet" in generate_results_md(tmp_path)
    (tmp_path / "bare.json").write_text("{}")
    assert row(generate_results_md(tmp_path), "bare")[1:5] == ["-", "-", "-", "-"]


def test_the_order_does_not_depend_on_the_disk(summary: dict[str, Any], tmp_path: Path) -> None:
    for name, method in (("z", "stbp"), ("b", "zeta"), ("a", "stbp")):
        write_result(summary | {"method": method}, tmp_path / f"{name}.json")
    text = generate_results_md(tmp_path)
    assert text.index("`a`") < text.index("`z`") < text.index("`b`")


def test_bad_records_are_refused_in_one_line(summary: dict[str, Any], tmp_path: Path) -> None:
    for wrong, match in (
        ({"method": ""}, "no 'method'"),
        ({"dataset": None}, "no 'dataset'"),
        ({"test_accuracy": 99.31}, "fraction of 1"),
        ({"train_seconds": float("nan")}, "JSON"),
    ):
        with pytest.raises(ConfigError, match=match) as caught:
            write_result(summary | wrong, tmp_path / "x.json")
        assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="is no folder"):
        generate_results_md(tmp_path / "nowhere")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ModelFileError, match="holds no record"):
        generate_results_md(tmp_path)


def test_the_command(summary: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "results", tmp_path / "RESULTS.md"
    folder.mkdir()
    write_result(summary | GOAL, folder / "stbp.json")
    arguments = [str(folder), "--out", str(out)]
    assert main([*arguments, "--check"]) == 2
    assert "without --check" in capsys.readouterr().err
    assert main(arguments) == 0
    assert out.read_text(encoding="utf-8") == generate_results_md(folder)
    assert main([*arguments, "--check"]) == 0
    assert main([str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
