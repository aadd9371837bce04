"""The comparison's PNG: what is drawn, and that nothing global is touched."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.image import imread

from spikewright.errors import ConfigError
from spikewright.report.figures import comparison_figure, comparison_png


def test_one_png_wide_enough(summary: dict[str, Any], tmp_path: Path) -> None:
    comparison_png(
        [summary, summary | {"method": "s4nn", "steps": 200, "accuracy_by_step": [0.9] * 200}], tmp_path / "c.png"
    )
    image = imread(tmp_path / "c.png")
    assert image.shape[1] == 2400 and 900 < image.shape[0] < 1400
    assert image[..., :3].std() > 0.05
    assert [p.name for p in tmp_path.iterdir()] == ["c.png"]


def test_what_is_drawn(summary: dict[str, Any]) -> None:
    figure = comparison_figure([summary])
    operations, steps = figure.axes
    points = {(round(x), y) for line in operations.lines for x, y in zip(*line.get_data(), strict=True)}
    assert points == {(12345 + 678, 99.31), (23456, 99.31)}
    (curve,) = steps.lines
    assert list(curve.get_xdata()) == [1, 2, 3, 4]
    assert list(curve.get_ydata()) == pytest.approx([50, 90, 98, 99.31])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["stbp"]
    assert operations.get_xscale() == "log" and steps.get_xscale() == "linear"
    assert operations.get_ylim()[1] <= 101


def test_whatever_is_missing_or_extreme(summary: dict[str, Any]) -> None:
    perfect = summary | {"test_accuracy": 1.0, "synops_per_image": 0, "macs_per_image": None}
    cases: list[list[dict[str, Any]]] = [
        [{}], [perfect], [summary] * 30, [{"method": "a", "test_accuracy": 0.5}, summary],
        [summary | {"accuracy_by_step": [0.1]}], [summary | {"accuracy_by_step": [None, 0.2]}],
    ]  # fmt: skip
    for summaries in cases:
        FigureCanvasAgg(comparison_figure(summaries)).print_raw(io.BytesIO())
    with pytest.raises(ConfigError, match="no run to compare"):
        comparison_figure([])


def test_pyplot_stays_out_of_it() -> None:
    code = "import sys, spikewright.report.figures; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
