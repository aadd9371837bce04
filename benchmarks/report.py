"""From costs by round to medians, ratios, a table, a JSON file and a figure; and the scripts' common options."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import io
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from libraries import BRIAN, LOCAL_PEERS, PEER_ROWS, PEERS, bf16, installed
from turns import Measured

from spikewright import provenance
from spikewright.storage import write_atomic

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("torch", "numpy", "numba", "spikewright", *PEERS, "spyker", "bindsnet")
ALL_PEERS = (*PEER_ROWS, *LOCAL_PEERS)
OURS, PEER, FLOOR = "#0072B2", "#999999", "#E0C070"  # colours


@dataclass
class Panel:
    """One workload: what was measured, and how to show a cost.

    Args:
        unit: of what is shown.
        show: a cost (seconds, bytes) -> the number shown.
        against: another row to compare with: (title, the row for a row, a divisor); shown is cost / its cost / divisor.
    """

    title: str
    measured: Measured
    unit: str
    show: Callable[[float], float]
    against: tuple[str, Callable[[str], str], float] | None = None

    def summary(self) -> dict[str, Any]:
        """Median and quartiles of every row, and of its ratios to others in the same round."""
        costs = self.measured.costs
        peers = [row for row in costs if row in ALL_PEERS]
        best = _cheapest(costs, [row for row in peers if not bf16(row)])
        best_any = _cheapest(costs, peers)
        rows = {}
        for row, own in costs.items():
            rows[row] = {
                "value": _spread([self.show(cost) for cost in own]),
                "ratio": _ratios(costs.get(best or ""), own),
                "ratio_any_precision": _ratios(costs.get(best_any or ""), own),
                "firing_rate": self.measured.rates.get(row),
                "costs": own,
            }
            if self.against:
                title, other, divisor = self.against
                rows[row][title] = _ratios(own, costs.get(other(row)), divisor)
        return {
            "unit": self.unit,
            "best_peer": best,
            "best_peer_any_precision": best_any,
            "rows": rows,
            "failed": self.measured.failed,
        }


def _cheapest(costs: dict[str, list[float]], rows: Sequence[str]) -> str | None:
    return min(rows, key=lambda row: statistics.median(costs[row]), default=None)


def _ratios(above: list[float] | None, below: list[float] | None, divisor: float = 1) -> list[float] | None:
    """above / below / divisor, round by round."""
    return _spread([a / b / divisor for a, b in zip(above, below, strict=True)]) if above and below else None


def _spread(values: list[float]) -> list[float]:
    """[median, lower quartile, upper quartile]."""
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return [middle, low, high]


def options(
    description: str,
    rows: Sequence[str],
    rounds: int = 15,
    threads: int | None = None,
    parser: argparse.ArgumentParser | None = None,
) -> argparse.Namespace:
    """The command line that all scripts share; `rows` of the result are those that can be measured here."""
    parser = parser or argparse.ArgumentParser()
    parser.description = description.splitlines()[0]
    parser.add_argument("--quick", action="store_true", help="a fifth of the rounds: a first look")
    parser.add_argument("--rounds", type=int, default=rounds, help="rounds that count (%(default)s)")
    parser.add_argument("--threads", type=int, default=threads, help=f"of each row (default: {threads or 'its own'})")
    parser.add_argument("--only", help="these rows, separated by commas")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON and the figure")
    args = parser.parse_args()
    args.rounds = max(1, args.rounds // 5 if args.quick else args.rounds)
    if args.threads:  # workers inherit it
        os.environ["OMP_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = str(args.threads)
    only = args.only.split(",") if args.only else rows
    if unknown := sorted(set(only) - set(rows)):
        parser.error(f"no row {unknown[0]!r}; there are {', '.join(rows)}")
    missing = [row for row in only if not installed(row)]
    if missing:
        print(f"not installed, left out: {', '.join(missing)} (`make bench` installs them)", file=sys.stderr)
    args.rows = [row for row in only if row not in missing]
    args.began = time.strftime("%Y-%m-%d %H:%M:%S %z")
    args.load = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None  # near 0 on an idle machine
    return args


def publish(name: str, args: argparse.Namespace, panels: Sequence[Panel]) -> None:
    """Print the tables and write NAME.json and NAME.png."""
    if not all(panel.measured.costs for panel in panels):
        sys.exit("a workload has no row left, nothing is written")
    summaries = {panel.title: panel.summary() for panel in panels}
    for title, summary in summaries.items():
        print(_table(title, summary))
    record = {"benchmark": name, "rounds": args.rounds, **provenance_of(args), "workloads": summaries}
    args.out.mkdir(parents=True, exist_ok=True)
    write_atomic(args.out / f"{name}.json", (json.dumps(record, indent=1) + "\n").encode())
    write_atomic(args.out / f"{name}.png", _figure(name, record))
    print(f"written: {name}.json and {name}.png in {args.out}")


def _table(title: str, summary: dict[str, Any]) -> str:
    head = {"value": summary["unit"], "ratio": f"x {summary['best_peer'] or 'best peer'}"}
    head["ratio_any_precision"] = f"x {summary['best_peer_any_precision'] or 'best peer'}"
    rows = summary["rows"]
    if summary["best_peer"] == summary["best_peer_any_precision"]:
        rows = {row: found | {"ratio_any_precision": None} for row, found in rows.items()}
    names = [name for name in next(iter(rows.values())) if name != "costs"]
    keys = [name for name in names if any(found[name] for found in rows.values())]
    lines = [["", *(head.get(key, key) for key in keys)]]
    lines += [[row, *(_text(found[key]) for key in keys)] for row, found in rows.items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    body = ["  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])]) for line in lines]
    return "\n".join(["", title, *body, *(f"{row} left out: {why}" for row, why in summary["failed"].items())])


def _text(found: list[float] | float | None) -> str:
    if isinstance(found, list):
        return "{} [{}, {}]".format(*map(_number, found))
    return "" if found is None else f"{found:.3g}"


def _number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _figure(name: str, record: dict[str, Any]) -> bytes:
    """A panel a workload, a bar a row: as long as its value, with the ratio to the best float32 peer at its end."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = record["workloads"]
    heights = [1.2 + 0.27 * len(panel["rows"]) for panel in panels.values()]
    figure = Figure(figsize=(9, 0.5 + sum(heights)), dpi=150, layout="constrained")
    grid = figure.subplots(len(panels), squeeze=False, height_ratios=heights)[:, 0]
    for axes, (title, panel) in zip(grid, panels.items(), strict=True):
        rows = panel["rows"]
        middle, low, high = zip(*[found["value"] for found in rows.values()], strict=True)
        spread = [[m - l for m, l in zip(middle, low, strict=True)], [h - m for m, h in zip(middle, high, strict=True)]]
        axes.barh(list(rows), middle, xerr=spread, color=[_colour(row) for row in rows], ecolor="#444444", capsize=2)
        limit = 1.25 * max([h for row, h in zip(rows, high, strict=True) if _colour(row) != FLOOR] or high)
        for i, found in enumerate(rows.values()):
            label = _number(middle[i]) + (f"  ({_number(found['ratio'][0])} x)" if found["ratio"] else "")
            at = high[i] if high[i] < limit else 0.8 * limit  # a floor far beyond the others is cut off
            axes.annotate(label, (at, i), (4, 0), textcoords="offset points", va="center", fontsize=8)
        axes.set_xlim(0, limit)
        axes.invert_yaxis()
        axes.set_title(f"{title}   (n x): n times as good as {panel['best_peer'] or 'the best peer'}", fontsize=10)
        axes.set_xlabel(panel["unit"], fontsize=9)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    how = f"{record['rounds']} rounds, threads: {record['threads']}, {record['hardware']}"
    figure.suptitle(f"{name}: medians and quartiles of {how}", fontsize=10)
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _colour(row: str) -> str:
    return OURS if row.startswith("ours") else PEER if row in ALL_PEERS else FLOOR


def provenance_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the figures hang on: machine, versions, threads, settings from outside."""
    settings = ("OMP_", "GOMP_", "KMP_", "MKL_", "MALLOC_", "NUMBA_NUM")
    return {
        "command": shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]]),
        "commit": provenance.commit(),
        "date": args.began,
        "hardware": _hardware(),
        "system": f"{platform.system()} {platform.machine()}, {' '.join(platform.libc_ver())}".strip(),
        "threads": args.threads or torch.get_num_threads(),
        "environment": {key: value for key, value in os.environ.items() if key.startswith(settings)},
        "load_before": args.load,
        "versions": {"python": platform.python_version()}
        | {name: importlib.metadata.version(name) for name in PACKAGES if importlib.util.find_spec(name)}
        | ({"brian2": _brian_version()} if "brian2" in args.rows else {}),
    }


def _brian_version() -> str:
    code = "import importlib.metadata as m; print('{}, numpy {}'.format(m.version('brian2'), m.version('numpy')))"
    return subprocess.run([BRIAN, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _hardware() -> str:
    name, flags = platform.processor() or platform.machine(), set()
    if (info := Path("/proc/cpuinfo")).exists():
        facts = dict(re.findall(r"^(model name|flags)\s*: (.*)$", info.read_text(), re.MULTILINE))
        name, flags = facts.get("model name", name), set(facts.get("flags", "").split())
    features = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags]
    return ", ".join([name, f"{os.cpu_count()} cores", *features])
