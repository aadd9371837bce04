"""What a convolution has learned: its filters as one image."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor, nn

from spikewright.errors import ConfigError
from spikewright.storage.atomic import write_atomic

__all__ = ["draw_fields", "draw_filters", "filter_figure", "receptive_fields"]

MOST = 256  # filters drawn
Array = np.ndarray[Any, Any]


def receptive_fields(weight: Tensor, below: Array | None = None, pool: int = 1) -> Array:
    """Filters in the space of the input: weight [F, C, K, K] -> [F, channels, side, side].

    Args:
        below: fields [C, channels, s, s] of the maps the weights look at; each weight draws its map's field at its
            place, `pool` pixels from the next. Without it the weights are the fields.
        pool: how many inputs lie between two places of the layer below.
    """
    w = weight.detach().cpu().double().numpy()
    if below is None:
        return w
    features, _, k, _ = w.shape
    side = below.shape[-1] + (k - 1) * pool
    fields = np.zeros((features, below.shape[1], side, side))
    for y in range(k):
        for x in range(k):
            part = np.tensordot(w[:, :, y, x], below, 1)
            fields[:, :, y * pool : y * pool + below.shape[-1], x * pool : x * pool + below.shape[-1]] += part
    return fields


def filter_figure(fields: Array, title: str) -> Figure:
    """Fields [F, channels, s, s] in a grid, on minus off contrast: the first half of the channels minus the second;
    other numbers of channels are averaged. Each on its own scale, grey is 0."""
    if not len(fields):
        raise ConfigError(f"{title}: there is no filter to draw")
    channels = fields.shape[1]
    half = channels // 2
    grey = fields[:, :half].sum(1) - fields[:, half:].sum(1) if channels % 2 == 0 else fields.mean(1)
    shown = grey[:MOST]
    columns = math.ceil(math.sqrt(len(shown) * 1.6))
    rows, side = math.ceil(len(shown) / columns), shown.shape[-1] + 1
    sheet = np.full((rows * side + 1, columns * side + 1), np.nan)
    for n, field in enumerate(shown):
        field = field / (np.abs(field).max() or 1.0)
        y, x = 1 + n // columns * side, 1 + n % columns * side
        sheet[y : y + side - 1, x : x + side - 1] = field
    width = 8.0
    figure = Figure(figsize=(width, width * len(sheet) / len(sheet[0]) + 0.5), dpi=150, facecolor="white")
    axes = figure.subplots()
    axes.imshow(sheet, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    more = f" (the first {len(shown)})" if len(shown) < len(fields) else ""
    axes.set_title(f"{title}: {len(fields)} filters{more}", fontsize=11)
    axes.set_axis_off()
    figure.tight_layout()
    return figure


def draw_filters(body: nn.Module, folder: Path, layer: str) -> Path:
    """Write filters-LAYER.png for a convolution of a sequential body, a deeper one as what it sees of the input.

    A max pool of stride s in between counts as s pixels a step.

    Raises ConfigError: the body has no such convolution.
    """
    below: Array | None = None
    step = 1
    for name, module in body.named_children():
        if isinstance(module, nn.MaxPool2d):
            step *= module.stride if isinstance(module.stride, int) else module.stride[0]
        if isinstance(module, nn.Conv2d):
            below = receptive_fields(module.weight, below, step)
            if name == layer:
                break
    else:
        raise ConfigError(f"there is no convolution {layer!r} to draw")
    return draw_fields(below, folder, layer)


def draw_fields(fields: Array, folder: Path, layer: str) -> Path:
    """Write filters-LAYER.png for fields [F, channels, s, s]."""
    buffer = io.BytesIO()
    FigureCanvasAgg(filter_figure(fields, layer)).print_png(buffer)
    path = folder / f"filters-{layer}.png"
    write_atomic(path, buffer.getvalue())
    return path
