"""Tables for the terminal, from plain dicts: a run's summary, several runs side by side, lists of what there is.

A key that is missing or None shows as "-" or leaves its row out; nothing a dict holds is read as markup.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from spikewright.report import format as f

if TYPE_CHECKING:
    from spikewright.engine.forecast import Forecast

__all__ = [
    "closing_table",
    "comparison_table",
    "conversion_table",
    "experiment_table",
    "forecast_table",
    "listing_table",
]

Summary = Mapping[str, Any]


def closing_table(summary: Summary) -> Table:
    """The table at the end of a run: what was reached and what it costs.

    Args:
        summary: the content of `summary.json`; accuracies are fractions of 1, costs means per image.
    """
    table = Table(title=Text(f.title(summary)), title_justify="left", box=SIMPLE_HEAD, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in (*_reached(summary), *_costs(summary), *_circumstances(summary)):
        if text and text != f.MISSING:
            table.add_row(name, Text(text))
    return table


def comparison_table(rows: Sequence[Summary]) -> Table:
    """Runs side by side, a row each; "to ANN" is the energy by that of the same body as an ANN."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)  # fits 80 columns
    table.add_column("run", overflow="fold")
    for heading, _ in _COLUMNS:
        table.add_column(heading, justify="right", no_wrap=True)
    for label, row in zip(f.labels(rows), rows, strict=True):
        table.add_row(Text(label), *(Text(value(row)) for _, value in _COLUMNS))
    return table


def listing_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None, title: str = "") -> Table:
    """A list of things (methods, data sets, architectures), a row each.

    Args:
        rows: name -> value; dicts and lists as values are written out by their items.
        columns: the keys to show, in order; None: all keys in the order they come up.
    """
    shown = list(columns) if columns is not None else list(dict.fromkeys(key for row in rows for key in row))
    table = Table(title=Text(title) if title else None, title_justify="left", box=SIMPLE_HEAD)
    for i, key in enumerate(shown):
        values = [row.get(key) for row in rows]
        numeric = any(f.number(v) is not None for v in values) and all(
            v is None or f.number(v) is not None for v in values
        )
        justify: Any = "right" if numeric else "left"
        table.add_column(Text(key.replace("_", " ")), justify=justify, no_wrap=i == 0, overflow="fold")
    for row in rows:
        table.add_row(*(Text(f.plain(row.get(key))) for key in shown))
    return table


def conversion_table(report: Summary) -> Table:
    """A conversion, layer by layer, from the content of conversion.json; the layer that loses most is marked."""
    steps, curve = report["steps"], report.get("accuracy_by_step")
    table = Table(
        title=Text(f"conversion, T = {steps}, {report['samples']} calibration samples"),
        title_justify="left",
        box=SIMPLE_HEAD,
        caption_justify="left",
    )
    table.add_column("layer", no_wrap=True)
    for heading in ("threshold", "rate", "rate error", "clipped", "residual", "silent", "accuracy so far"):
        table.add_column(heading, justify="right")
    for layer in report["layers"]:
        mark = " *" if layer["name"] == report["loses_most"] else ""
        shares = (f.percent(layer[key]) for key in ("error", "clipped"))
        residual = f.MISSING if layer["residual"] is None else f"{layer['residual']:.2f}"
        cells = [f"{layer['threshold']:.4g}", f"{layer['rate']:.4f}", *shares, residual]
        cells += [f.percent(layer["silent"]), f.percent(layer["accuracy"])]
        table.add_row(Text(layer["name"] + mark), *map(Text, cells))
    shown = curve or report["agreement_by_step"]
    what = "accuracy" if curve else "agreement with the ANN"
    at = "   ".join(f"{t}: {100 * a:.2f}" for t, a in f.at_steps(shown))
    knee = report["knee"]
    lines = [
        f"{what} after step   {at}",
        f"knee at T = {knee} ({100 * shown[knee - 1]:.2f} %); ANN {f.percent(report.get('ann_accuracy'))}",
        "; ".join(["* loses most", *report["passes"]]),
    ]
    table.caption = Text("\n".join(lines))
    return table


def experiment_table(rows: Sequence[Mapping[str, Any]], title: str = "") -> Table:
    """A paper's table and ours beside it."""
    table = Table(title=Text(title) if title else None, title_justify="left", box=SIMPLE_HEAD)
    table.add_column("")
    for heading in ("paper", "ours"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("note", overflow="fold")
    for row in rows:
        cells = []
        for key in ("paper", "ours"):
            value = f.number(row[key])
            text = f.MISSING if value is None else f"{value:,.2f}" if row["unit"] in ("%", "points") else f"{value:,g}"
            cells.append(Text(text if value is None else f"{text} {row['unit']}"))
        table.add_row(Text(row["what"]), *cells, Text(row["note"]))
    return table


def forecast_table(forecast: Forecast, memory: str = "normal") -> Table:
    """Memory of a training by T, activations kept or computed again; what was asked for is marked."""
    table = Table(
        title=Text(f"memory of training in batches of {forecast.batch}"), title_justify="left", box=SIMPLE_HEAD
    )
    for heading in ("T", "--memory normal", "--memory low"):
        table.add_column(heading, justify="right")
    for steps in sorted({steps for steps, _ in forecast.peak}):
        cells = []
        for mode in ("normal", "low"):
            total = forecast.total(steps, mode)
            mark = "* " if (steps, mode) == (forecast.steps, memory) else ""
            cells.append(Text(f.MISSING if total is None else mark + f.memory(total / 1e6)))
        table.add_row(str(steps), *cells)
    present = f", of which {f.memory(forecast.present / 1e6)} are there already" if forecast.present else ""
    table.caption = Text(f"* as asked for{present}")
    table.caption_justify = "left"
    return table


_COLUMNS: tuple[tuple[str, Callable[[Summary], str]], ...] = (
    ("accuracy", lambda s: f.percent(s.get("test_accuracy"))),
    ("T", lambda s: f.plain(s.get("steps"))),
    ("SynOps", lambda s: f.count(s.get("synops_per_image"))),
    ("MACs", lambda s: f.count(s.get("macs_per_image"))),
    ("energy", lambda s: f.energy(s.get("energy_nj_per_image"))),
    ("to ANN", lambda s: f.ratio(s.get("energy_nj_per_image"), s.get("ann_energy_nj_per_image"))),
    ("trained", lambda s: f.duration(s.get("train_seconds"), short=True)),
    ("images/s", lambda s: f.rate(s.get("infer_images_per_second")).removesuffix(" images/s")),
)


def _reached(s: Summary) -> list[tuple[str, str]]:
    last = f.percent(s.get("test_accuracy_last_epoch"))
    ties, with_ties = f.number(s.get("ties")), f.number(s.get("accuracy_ties_right"))
    lenient = "" if with_ties is None else f", {f.percent(with_ties)} were they right"
    by_step = "   ".join(f"{t}: {100 * a:.2f}" for t, a in f.at_steps(s.get("accuracy_by_step")))
    return [
        (
            "test accuracy",
            f.percent(s.get("test_accuracy")) + (f"   ({ties:,.0f} ties counted as wrong{lenient})" if ties else ""),
        ),
        ("its ANN", f.percent(s.get("ann_test_accuracy"))),
        ("after last epoch", last),
        ("validation", f.percent(s.get("validation_accuracy"))),
        ("after step", by_step),
        *_trains(s.get("trains")),
        ("silent layers", ", ".join(name for name, r in _rates(s).items() if r == 0)),
    ]


def _trains(trains: Any) -> list[tuple[str, str]]:
    """How the outputs' spike trains compare with those asked for."""
    if not isinstance(trains, Mapping) or not trains:
        return []
    rossum, purpura, c = (f.plain(round(trains[k], 4)) for k in ("van_rossum", "victor_purpura", "correlation"))
    return [
        ("target spikes hit", f"{f.percent(trains['target_spikes_hit'])}   ({f.plain(trains['extra_spikes'])} extra)"),
        ("train distance", f"van Rossum {rossum}, Victor-Purpura {purpura}, correlation {c}"),
    ]


def _costs(s: Summary) -> list[tuple[str, str]]:
    spikes, synops, macs = (s.get(f"{name}_per_image") for name in ("spikes", "synops", "macs"))
    ann, snn_nj, ann_nj = s.get("ann_macs_per_image"), s.get("energy_nj_per_image"), s.get("ann_energy_nj_per_image")
    prices = f" by the {s['energy_table']} table" if s.get("energy_table") else ""
    operations = f"{f.count(synops, 'SynOps')} + {f.count(macs, 'MACs')}   (as an ANN {f.count(ann, 'MACs')})"
    joules = f"{f.energy(snn_nj)}{prices}   (as an ANN {f.energy(ann_nj)}, {f.ratio(snn_nj, ann_nj)})"
    return [
        ("parameters", f.plain(s.get("params"))),
        ("spikes an image", f.count(spikes)),
        ("work an image", operations if f.number(synops) is not None or f.number(macs) is not None else ""),
        ("energy an image", joules if f.number(snn_nj) is not None else ""),
        ("", f.plain(s.get("energy_verdict"))),
        ("not counted", f.plain(s.get("uncounted"))),
        ("inference", f.rate(s.get("infer_images_per_second"))),
    ]


def _circumstances(s: Summary) -> list[tuple[str, str]]:
    epochs = f"{f.plain(s.get('epochs'))} epochs, " if s.get("epochs") else ""
    training = f"{epochs}{f.duration(s.get('train_seconds'))}, {f.rate(s.get('train_images_per_second'))}"
    machine = ", ".join(str(s[key]) for key in ("device", "hardware", "precision") if s.get(key))
    return [
        ("training", training if f.number(s.get("train_seconds")) is not None else ""),
        ("training images", f.plain(s.get("train_samples"))),
        ("training memory", f.memory(s.get("train_peak_memory_mb"))),
        ("peak memory", f.memory(s.get("peak_memory_mb"))),
        ("machine", machine),
        ("note", f.plain(s.get("note"))),
    ]


def _rates(s: Summary) -> Mapping[str, Any]:
    rates = s.get("rates")
    return rates if isinstance(rates, Mapping) else {}
