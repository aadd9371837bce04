"""Tables hold the figures, at 80 columns, whatever is missing."""

import io
from typing import Any

import pytest
from rich.console import Console
from rich.table import Table

from spikewright.report import closing_table, comparison_table, listing_table


def shown(table: Table, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_closing_table(summary: dict[str, Any]) -> None:
    text = shown(closing_table(summary))
    for part in (
        "stbp on mnist, 15C5-P2-10, T = 4, seed 0", "99.31 %", "99.25 %", "99.40 %",
        "3 ties counted as wrong, 99.35 % were they right",
        "1: 50.00   2: 90.00", "12.3 k SynOps + 678 MACs", "as an ANN 23.5 k MACs", "41.2 nJ by the 45nm table", "x 2",
        "costs more than its ANN", "neuron2", "210,740", "1,234 images/s", "5 epochs, 3 min 12 s", "1.21 GB", "2 cores",
    ):  # fmt: skip
        assert part in text
    assert "neuron1" not in text and "note" not in text


def test_any_key_may_be_missing(summary: dict[str, Any]) -> None:
    for key in summary:
        fewer = {k: v for k, v in summary.items() if k != key}
        none = summary | {key: None}
        for s in (fewer, none):
            assert "None" not in shown(closing_table(s)) + shown(comparison_table([s, summary]))
    assert shown(closing_table({}))
    assert " - " in shown(comparison_table([{}]))
    assert shown(comparison_table([])) and shown(listing_table([]))


def test_the_comparison_fits_80_columns(summary: dict[str, Any]) -> None:
    text = shown(comparison_table([summary, summary | {"method": "tssl-bp", "train_seconds": 9000}]), 80)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert next(line for line in lines if "stbp" in line).split() == [
        "stbp", "99.31", "%", "4", "12.3", "k", "678", "41.2", "nJ", "x", "2", "3.2", "min", "1,234",
    ]  # fmt: skip
    assert any("tssl-bp" in line and "2.5 h" in line for line in lines)


def test_a_listing() -> None:
    rows = [
        {"name": "stbp", "family": "backprop", "reports": {"mnist": 99.42}, "input": (1, 28, 28), "parameters": 12345},
        {"name": "lif"},
    ]
    text = shown(listing_table(rows, title="methods"))
    for part in ("methods", "family", "mnist 99.42", "1x28x28", "12,345", "-"):
        assert part in text
    assert "family" not in shown(listing_table(rows, ["name", "reports"]))


@pytest.mark.parametrize("text", ["[red]x[/red]", "[/]", "[bold"])
def test_nothing_is_read_as_markup(text: str, summary: dict[str, Any]) -> None:
    assert text in shown(closing_table(summary | {"note": text}))
    assert text in shown(comparison_table([{"method": text}]))
    assert text in shown(listing_table([{text: text}], title=text))
