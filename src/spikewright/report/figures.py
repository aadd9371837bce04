"""Figures, drawn with matplotlib's objects: no global state, no display."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from torch import Tensor

from spikewright.errors import ConfigError
from spikewright.report import format as f
from spikewright.storage.atomic import write_atomic

__all__ = [
    "comparison_figure",
    "comparison_png",
    "curves_png",
    "raster_figure",
    "raster_png",
    "trace_figure",
    "trace_png",
]

Summary = Mapping[str, Any]

# Okabe and Ito's colours, told apart with any kind of colour vision; markers and dashes tell them apart in grey.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (4, 1, 1, 1)))
_GREY = "#555555"
_LOG_FROM = 24  # steps from which their axis is logarithmic


def comparison_png(summaries: Sequence[Summary], path: Path | str) -> None:
    """Write the comparison of runs as one PNG, 2400 pixels wide.

    Raises:
        ConfigError: there is no run to draw, or the path cannot be written to; ResourceError: no space.
    """
    _write(comparison_figure(summaries), path)


def trace_png(v: Tensor, steps: Tensor, h: float, title: str, path: Path | str) -> None:
    """Write `trace_figure` as a PNG; raises as `comparison_png`."""
    _write(trace_figure(v, steps, h, title), path)


def trace_figure(v: Tensor, steps: Tensor, h: float, title: str) -> Figure:
    """A membrane over time, v [T] after every step of h ms, and a mark above it for every spike (`steps`)."""
    figure = Figure(figsize=(10, 4.2), dpi=150, facecolor="white")
    axes = figure.subplots()
    axes.plot([(t + 1) * h for t in range(len(v))], v.tolist(), color=_COLOURS[0], lw=1.2)
    top, low = float(v.max()), float(v.min())
    room = max(top - low, 1e-6)
    axes.vlines([(t + 1) * h for t in steps.tolist()], top + 0.06 * room, top + 0.16 * room, color=_COLOURS[1], lw=1.5)
    axes.set_xlim(0, len(v) * h)
    _plain_axes(axes, "ms", "v", f"{title}: {len(steps)} spikes in {len(v) * h:g} ms")
    figure.tight_layout()
    return figure


def raster_png(spikes: Tensor, image: Tensor, title: str, path: Path | str) -> None:
    """Write `raster_figure` as a PNG; raises as `comparison_png`."""
    _write(raster_figure(spikes, image, title), path)


def raster_figure(spikes: Tensor, image: Tensor, title: str) -> Figure:
    """An image [C, H, W] and the spikes it became, [T, inputs]: one dot a spike, inputs in reading order from the top,
    darker the more it weighs, red where it is negative."""
    figure = Figure(figsize=(11, 5), dpi=150, facecolor="white")
    left, right = figure.subplots(1, 2, width_ratios=(1, 2.6))
    shown = image.permute(1, 2, 0).numpy() if image.shape[0] == 3 else image.mean(0).numpy()
    left.imshow(shown, cmap="gray", vmin=0, vmax=1)
    left.set_axis_off()
    steps, inputs = spikes.shape
    t, i = spikes.nonzero(as_tuple=True)
    weight = spikes[t, i]
    strength = (weight.abs() / weight.abs().max()).tolist() if len(weight) else []
    colours = [_COLOURS[1] if w < 0 else _COLOURS[6] for w in weight.tolist()]
    size = min(9.0, max(0.4, 6000 / max(steps * 4, inputs)))
    right.scatter(t.tolist(), i.tolist(), s=size, c=colours, alpha=[0.25 + 0.75 * a for a in strength] or None, lw=0)
    right.set_xlim(-0.5, steps - 0.5)
    right.set_ylim(inputs - 0.5, -0.5)
    _plain_axes(right, "time step", "input", f"{title}: {len(t):,} spikes of {inputs:,} inputs in {steps} steps")
    figure.tight_layout(w_pad=2)
    return figure


def _plain_axes(axes: Axes, x_label: str, y_label: str, heading: str) -> None:
    axes.set_title(heading, loc="left", fontsize=11, fontweight="bold")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _write(figure: Figure, path: Path | str) -> None:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    write_atomic(Path(path), buffer.getvalue())


def curves_png(
    curves: Mapping[str, Sequence[Sequence[float]]],
    path: Path | str,
    labels: tuple[str, str] = ("time steps", "accuracy, %"),
) -> None:
    """Curves [[x, y], ...] by label, as one PNG; `labels` are those of its axes.

    Raises:
        ConfigError: there is no curve to draw.
    """
    if not curves:
        raise ConfigError("there is no curve to draw, expected at least one")
    figure = Figure(figsize=(8, 5), dpi=150, facecolor="white")
    axes = figure.subplots()
    for i, (label, points) in enumerate(curves.items()):
        marked = len(points) <= _LOG_FROM
        style = _style(i) if marked else {k: v for k, v in _style(i).items() if k != "marker"}
        axes.plot([p[0] for p in points], [p[1] for p in points], label=label, lw=2, ms=6, **style)
    if max(p[0] for points in curves.values() for p in points) > _LOG_FROM:
        axes.set_xscale("log")
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    write_atomic(Path(path), buffer.getvalue())


def comparison_figure(summaries: Sequence[Summary]) -> Figure:
    """Two panels: accuracy against operations per image, and accuracy against time steps.

    Left, a filled mark is a run at its SynOps + MACs; the hollow one on the same height is what one dense pass of its
    body costs as an ANN. Right, the accuracy had the network stopped after each step.
    """
    if not summaries:
        raise ConfigError("there is no run to compare, expected at least one summary")
    rows = math.ceil(len(summaries) / 4)
    figure = Figure(figsize=(12, 5.2 + 0.27 * rows), dpi=200, facecolor="white")
    left, right = figure.subplots(1, 2)
    styles = [_style(i) for i in range(len(summaries))]
    _operations(left, summaries, styles)
    _steps(right, summaries, styles)
    handles = [
        Line2D([], [], label=label, lw=2, ms=8, **style)
        for label, style in zip(f.labels(summaries), styles, strict=True)
    ]
    bottom = (0.27 * rows + 0.1) / figure.get_figheight()
    figure.legend(
        handles=handles, loc="lower center", ncols=min(4, len(handles)), frameon=False, fontsize=11, handlelength=3
    )
    figure.tight_layout(rect=(0, bottom, 1, 1), w_pad=3)
    return figure


def _style(i: int) -> dict[str, Any]:
    return {
        "color": _COLOURS[i % len(_COLOURS)],
        "marker": _MARKERS[i % len(_MARKERS)],
        "linestyle": _DASHES[i // len(_COLOURS) % len(_DASHES)],
    }


def _operations(axes: Axes, summaries: Sequence[Summary], styles: Sequence[dict[str, Any]]) -> None:
    heights: list[float] = []
    for s, style in zip(summaries, styles, strict=True):
        accuracy, spent = f.number(s.get("test_accuracy")), _spent(s)
        if accuracy is None or spent is None:
            continue
        heights.append(100 * accuracy)
        point = {"color": style["color"], "marker": style["marker"]}
        ann = f.number(s.get("ann_macs_per_image"))
        if ann:
            axes.plot([spent, ann], [100 * accuracy] * 2, color=style["color"], lw=1, alpha=0.45, ls=":", zorder=1)
            axes.plot([ann], [100 * accuracy], ms=9, mfc="white", mew=1.6, zorder=2, **point)
        axes.plot([spent], [100 * accuracy], ms=10, mec="white", mew=0.8, zorder=3, **point)
    axes.set_xscale("log")
    key = "filled: SynOps + MACs of all steps;  hollow: MACs of its body as an ANN"
    _dress(axes, "operations per image", "Accuracy against operations", heights)
    axes.annotate(key, (0.5, 0), (0, -44), "axes fraction", "offset points", ha="center", fontsize=10, color=_GREY)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f.count(x)))
    if heights:
        _widen(axes)


def _spent(s: Summary) -> float | None:
    """SynOps + MACs, at least 1 so that it has a place on a logarithmic axis; None if neither is known."""
    known = [v for v in (f.number(s.get("synops_per_image")), f.number(s.get("macs_per_image"))) if v is not None]
    return max(sum(known), 1.0) if known else None


def _steps(axes: Axes, summaries: Sequence[Summary], styles: Sequence[dict[str, Any]]) -> None:
    longest, heights = 0, []
    for s, style in zip(summaries, styles, strict=True):
        curve = s.get("accuracy_by_step")
        curve = list(curve) if isinstance(curve, (list, tuple)) else []
        points = [(t, 100 * a) for t, a in enumerate(curve, 1) if f.number(a) is not None]
        if not points:
            continue
        heights += [height for _, height in points]
        longest = max(longest, len(curve))
        marked = [i for i, (t, _) in enumerate(points) if t in {m for m, _ in f.at_steps(curve)}]
        x, y = zip(*points, strict=True)
        axes.plot(x, y, lw=2, ms=7, mec="white", mew=0.7, markevery=marked, **style)
    if longest > _LOG_FROM:
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    else:
        few = FixedLocator(range(1, longest + 1)) if longest <= 12 else MaxNLocator(integer=True)
        axes.xaxis.set_major_locator(few)
    _dress(axes, "time steps", "Accuracy against time steps", heights)


def _dress(axes: Axes, x_label: str, heading: str, heights: Sequence[float]) -> None:
    """Titles, grid and limits around the accuracies drawn, in %: at least a point of room, little above 100."""
    axes.set_title(heading, loc="left", fontsize=14, fontweight="bold", pad=10)
    axes.set_xlabel(x_label, fontsize=12)
    axes.set_ylabel("test accuracy, %", fontsize=12)
    axes.tick_params(labelsize=11, color=_GREY)
    axes.grid(True, color="#dddddd", lw=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.margins(x=0.06)
    if not heights:
        axes.text(0.5, 0.5, "no figures recorded", transform=axes.transAxes, ha="center", color=_GREY, fontsize=12)
        return
    low, high = min(heights), max(heights)
    room = max(0.08 * (high - low), 0.5)
    axes.set_ylim(low - room, min(high + room, 100 + room / 2))


def _widen(axes: Axes) -> None:
    """Whole decades of operations, and labels at 2 and 5 where there are only few decades."""
    low, high = axes.get_xlim()
    left, right = math.floor(math.log10(low) + 0.3), math.ceil(math.log10(high) - 0.3)
    axes.set_xlim(min(low, 10.0**left), max(high, 10.0**right))
    few = right - left <= 2
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if few else (1,), numticks=12))
    axes.xaxis.set_minor_formatter(NullFormatter())
