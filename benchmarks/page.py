"""Write the tables of docs/performance.md from results/*.json, between its marks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from report import RESULTS

from spikewright.storage import read_json, write_atomic

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
MARKED = "<!-- {0} -->\n(.*?)<!-- end of {0} -->\n"


class Goal(NamedTuple):
    """A line of the table: which workload of which benchmark, and the ratio to reach."""

    line: str
    benchmark: str
    workload: str
    float32: float | None
    bf16: float | None
    column: str = "ratio"  # how many times as good as the best peer in float32; of the others less is better


GOALS = (
    Goal("LIF forward + backward, T = 16, N = 65,536, ns per neuron and step", "neuron", "N=65,536", 6, 10),
    Goal("the same, N = 1,048,576", "neuron", "N=1,048,576", 6, 10),
    Goal("over the bytes alone, N = 65,536", "neuron", "N=65,536", 2, None, "/ bytes"),
    Goal("the same, N = 1,048,576", "neuron", "N=1,048,576", 2, None, "/ bytes"),
    Goal("training step, A, images/s", "training", "A:", None, 4),
    Goal("training step, B, images/s", "training", "B:", None, 3),
    Goal("inference, A, images/s", "inference", "A:", None, 6),
    Goal("inference, B, images/s", "inference", "B:", None, 5),
    Goal("peak training memory, A, T = 16, MiB", "memory", "T=16", 3, 3),
    Goal("the same, T = 32", "memory", "T=32", 3, 3),
    Goal("SNN step over ANN step / T, A", "training", "A:", None, 0.5, "/ ann / T"),
    Goal("cold start to the first training step, s", "start", "cold", 10, 10, "value"),
    Goal("the same with a warm cache", "start", "warm", 5, 5, "value"),
)


def figures(results: dict[str, Any]) -> Iterator[str]:
    """One line a goal: the figures of float32 and bf16, the best peer's, the ratios (bold: reached) and the goals."""
    yield "| workload | float32 | bf16 | best peer in float32 | ratio, float32 / bf16 | to reach |"
    yield "|---|---|---|---|---|---|"
    for goal in GOALS:
        found = next(w for name, w in results[goal.benchmark]["workloads"].items() if goal.workload in name)
        rows, peer = found["rows"], found["best_peer"]
        ours = [rows.get(f"ours-{precision}") for precision in ("float32", "bf16")]
        values = [_number(row["value"][0]) if row else "-" for row in ours]
        best = f"{_number(rows[peer]['value'][0])} ({peer})"
        if goal.column != "ratio":
            values, best = ["", ""], ""
        aims = (goal.float32, goal.bf16)
        ratios = [_told(row, goal.column, aim) for row, aim in zip(ours, aims, strict=True)]
        asked = " / ".join(dict.fromkeys(f"{aim:g}" for aim in aims if aim is not None))
        yield f"| {goal.line} | {values[0]} | {values[1]} | {best} | {' / '.join(ratios)} | {asked} |"


def _number(x: float) -> str:
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def _told(row: dict[str, Any] | None, column: str, aim: float | None) -> str:
    if row is None or not row.get(column):
        return "-"
    ratio = row[column][0]
    reached = aim is not None and (ratio >= aim if column == "ratio" else ratio <= aim)
    return f"**{ratio:.2g}**" if reached else f"{ratio:.2g}"


# of the event-driven networks: benchmark, part of the workload's name, times the best peer or "s" (at most so many)
EVENTS = (
    ("diehl_cook", "training", 75, "x"),
    ("diehl_cook", "inference", None, "x"),
    ("stdp", "", 10, "x"),
    ("spike_time", "s4nn, 784-400-10, training on mnist: an epoch", 60, "s"),
    ("spike_time", "mostafa, 784-800-10, training on mnist: an epoch", 60, "s"),
)


def events(results: dict[str, Any]) -> Iterator[str]:
    """One line a workload of plasticity and of spike times: ours, the best peer, the ratio and the goal."""
    yield "| workload | ours | best peer | ratio | to reach |"
    yield "|---|---|---|---|---|"
    for benchmark, part, aim, unit in EVENTS:
        for name, work in results[benchmark]["workloads"].items():
            if part not in name:
                continue
            ours, peer = work["rows"]["ours"], work["best_peer"]
            value, ratio = ours["value"][0], (ours["ratio"] or [None])[0]
            reached = aim is not None and (ratio is not None and ratio >= aim if unit == "x" else value <= aim)
            shown = f"{_number(value)} {work['unit']}"
            best = f"{_number(work['rows'][peer]['value'][0])} ({peer})" if peer else "-"
            times = f"{ratio:.3g}" if ratio else "-"
            if reached:
                shown, times = (shown, f"**{times}**") if unit == "x" else (f"**{shown}**", times)
            yield f"| {name} | {shown} | {best} | {times} | {'' if aim is None else f'{aim} {unit}'} |"


def profile(results: dict[str, Any]) -> Iterator[str]:
    """Where the time of our own steps goes."""
    parts = list(dict.fromkeys(p for w in results["where"]["workloads"].values() for p in w["share_percent"]))
    yield f"| our step | {' | '.join(parts)} | bound |"
    yield f"|---|{'---|' * (len(parts) + 1)}"
    for name, work in results["where"]["workloads"].items():
        shares = " | ".join(f"{work['share_percent'].get(part, 0):.0f} %" for part in parts)
        yield f"| {name.replace('ours-', '')} | {shares} | {work['bound']:.2f} |"


def main() -> None:
    results = {path.stem: read_json(path) for path in RESULTS.glob("*.json")}
    text = PAGE.read_text()
    for name, table in (("figures", figures), ("events", events), ("profile", profile)):
        lines = "".join(f"{line}\n" for line in table(results))
        block = f"<!-- {name} -->\n{lines}<!-- end of {name} -->\n"
        text = re.sub(MARKED.format(name), lambda _, block=block: block, text, flags=re.DOTALL)
    write_atomic(PAGE, text.encode())


if __name__ == "__main__":
    main()
