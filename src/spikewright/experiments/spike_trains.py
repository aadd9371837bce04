"""How close the rules that teach spike trains come to them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from spikewright.data import Dataset, load
from spikewright.experiments import Experiment, Row, experiment

# Mean van Rossum and Victor-Purpura distance of an independent simulation after 300 presentations, and van Rossum's
# after 100: five sets of 400 inputs of 5 Hz for 400 ms, 5 target spikes, rates of 0.01.
REFERENCE = {"resume": (0.046, 0.037, 0.047), "span": (0.113, 0.113, 0.168), "chronotron": (0.032, 0.016, 0.040)}


@experiment(paper="Ponulak & Kasinski 2010; Mohemmed et al. 2012; Florian 2012")
@dataclass
class SpikeTrains(Experiment):
    """Distances of the learned from the desired trains, and how they fall: ReSuMe, SPAN, Chronotron.

    Means over `seeds` sets of Poisson patterns; the figures beside ours are those of a separate simulation.
    """

    axes: ClassVar[tuple[str, str]] = ("presentations", "van Rossum distance")

    data: str = "spike-patterns"
    """Data set; its seed is set by the experiment."""
    methods: str = "resume,span,chronotron"
    """Recipes, with commas between."""
    seeds: int = 5
    """Pattern sets."""

    def rows(self, data: Dataset) -> Iterator[Row]:
        for method in self.methods.split(","):
            found, curves = [], []
            for seed in range(self.seeds):
                name = f"{self.data}{',' if ':' in self.data else ':'}seed={seed}"
                label = f"{method}-{seed}"
                summary = self.trained(label, method, load(name, data_dir=self.data_dir))
                found.append(summary["trains"])
                curves.append(_curve(self.folder / label / "metrics.jsonl", summary["train_samples"]))
            mean = [[points[0][0], sum(d for _, d in points) / len(points)] for points in zip(*curves, strict=True)]
            self.curves[method] = mean
            rossum, purpura, early = REFERENCE.get(method, (None, None, None))
            worst = max(f["van_rossum"] for f in found)
            yield Row(f"{method}: van Rossum", rossum, _mean(found, "van_rossum"), "", f"worst of all {worst:.3g}")
            yield Row(f"{method}: Victor-Purpura", purpura, _mean(found, "victor_purpura"), "")
            yield Row(f"{method}: correlation", None, _mean(found, "correlation"), "")
            near = min(mean, key=lambda point: abs(point[0] - 100))
            yield Row(f"{method}: van Rossum after about 100", early, near[1], "", f"{near[0]:.0f} presentations")


def _mean(found: list[dict[str, float]], key: str) -> float:
    return sum(f[key] for f in found) / len(found)


def _curve(path: Path, samples: int) -> list[list[float]]:
    """(presentations at the middle of an epoch, mean distance during it)."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [[(line["epoch"] - 0.5) * samples, line["loss"]] for line in lines]
