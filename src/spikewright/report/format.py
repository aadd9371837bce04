"""Numbers for people. Everything takes a number or nothing at all; what is missing is "-"."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from spikewright.measure.evaluation import marks

__all__ = [
    "MISSING",
    "at_steps",
    "count",
    "duration",
    "energy",
    "labels",
    "memory",
    "number",
    "percent",
    "percent_of_paper",
    "plain",
    "rate",
    "ratio",
    "title",
]

MISSING = "-"

_COUNTS = ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k"), (1.0, ""))
_ENERGIES = ((1e9, " J"), (1e6, " mJ"), (1e3, " µJ"), (1.0, " nJ"), (1e-3, " pJ"))


def number(value: Any) -> float | None:
    """A finite number as it is, anything else as None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return float(value)


def percent(fraction: Any) -> str:
    """0.9931 -> "99.31 %"."""
    value = number(fraction)
    return MISSING if value is None else f"{100 * value:.2f} %"


def percent_of_paper(value: Any) -> str:
    """A figure that is in % already: 99.5 -> "99.50 %"."""
    return percent(None if number(value) is None else value / 100)


def count(value: Any, unit: str = "") -> str:
    """12345 -> "12.3 k", with a unit "12.3 k SynOps"."""
    return _scaled(value, _COUNTS, f" {unit}" if unit else "")


def energy(nanojoules: Any) -> str:
    """41.2 -> "41.2 nJ", 0.5 -> "500 pJ", 2300 -> "2.3 µJ"."""
    return _scaled(nanojoules, _ENERGIES)


def ratio(value: Any, reference: Any) -> str:
    """(20, 80) -> "x 0.25"."""
    a, b = number(value), number(reference)
    return MISSING if a is None or not b else f"x {_digits(a / b)}"


def rate(per_second: Any) -> str:
    """1234.5 -> "1,234 images/s"."""
    value = number(per_second)
    return MISSING if value is None else f"{value:,.0f} images/s" if value >= 100 else f"{_digits(value)} images/s"


def duration(seconds: Any, short: bool = False) -> str:
    """41 -> "41 s", 192 -> "3 min 12 s" (short "3.2 min"), 7500 -> "2 h 05 min" (short "2.08 h")."""
    value = number(seconds)
    if value is None:
        return MISSING
    if value < 59.5:
        return f"{_digits(value)} s"
    if short:
        return f"{_digits(value / 60)} min" if value < 3570 else f"{_digits(value / 3600)} h"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(value / 60)
    return f"{minutes // 60} h {minutes % 60:02} min"


def memory(megabytes: Any) -> str:
    """512 -> "512 MB", 1900 -> "1.9 GB"."""
    return _scaled(megabytes, ((1e3, " GB"), (1.0, " MB")))


def plain(value: Any) -> str:
    """Any value as text: numbers with separators, lists and dicts by their items, None as "-"."""
    if value is None or value == "" or value == [] or value == {} or value == ():
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return MISSING if number(value) is None else f"{value:,.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_item(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return "x".join(map(str, value)) if _is_shape(value) else ", ".join(_item(item) for item in value)
    return str(value)


def at_steps(accuracy_by_step: Any) -> list[tuple[int, float]]:
    """(step, accuracy) at some steps of a curve: all of up to 8, else powers of two and the last."""
    curve = accuracy_by_step if isinstance(accuracy_by_step, (list, tuple)) else []
    return [(t, curve[t - 1]) for t in marks(len(curve)) if number(curve[t - 1]) is not None]


def title(summary: Mapping[str, Any]) -> str:
    """What a run was: "stbp on mnist, 15C5-P2-300-10, T = 5, seed 0"."""
    parts = [" on ".join(plain(summary[key]) for key in ("method", "dataset") if summary.get(key))]
    parts += [str(summary["arch"])] if summary.get("arch") else []
    parts += [f"T = {summary['steps']}"] if summary.get("steps") else []
    parts += [f"seed {summary['seed']}"] if summary.get("seed") is not None else []
    return ", ".join(part for part in parts if part) or "a run"


def labels(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """A short name for each run: its method, and of runs of one method what tells them apart."""
    names = [str(s.get("method") or "run") for s in summaries]
    for key, form in (("dataset", "{}"), ("arch", "{}"), ("steps", "T = {}"), ("precision", "{}"), ("seed", "seed {}")):
        if len(set(names)) == len(names):
            break
        groups: dict[str, set[str]] = {}
        for name, s in zip(names, summaries, strict=True):
            groups.setdefault(name, set()).add(str(s.get(key)))
        names = [
            f"{name}, {form.format(plain(s.get(key)))}" if len(groups[name]) > 1 else name
            for name, s in zip(names, summaries, strict=True)
        ]
    again: dict[str, int] = {}
    for i, name in enumerate(names):
        again[name] = again.get(name, 0) + 1
        if names.count(name) > 1:
            names[i] = f"{name} ({again[name]})" if again[name] > 1 else name
    return names


def _scaled(value: Any, units: Sequence[tuple[float, str]], tail: str = "") -> str:
    found = number(value)
    if found is None:
        return MISSING
    if found == 0:
        return f"0{next(name for factor, name in units if factor == 1)}{tail}"
    factor, name = next(((f, n) for f, n in units if abs(found) >= 0.9995 * f), units[-1])
    return f"{_digits(found / factor)}{name}{tail}"


def _digits(value: float) -> str:
    """Three significant digits at most, without an exponent, without trailing zeros."""
    size = abs(value)
    if size >= 99.95:
        return f"{value:.0f}"
    decimals = 1 if size >= 9.995 else 2 if size >= 0.0995 or size == 0 else min(2 - math.floor(math.log10(size)), 9)
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") or "0"


def _item(value: Any) -> str:
    """An item of a list: figures of a paper keep their digits."""
    return f"{value:g}" if isinstance(value, float) else plain(value)


def _is_shape(value: Sequence[Any]) -> bool:
    return len(value) > 1 and all(isinstance(n, int) and not isinstance(n, bool) for n in value)
