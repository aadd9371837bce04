"""Exclusive or, the task SpikeProp was shown on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from spikewright.data import Dataset
from spikewright.experiments import Experiment, Row, experiment


@experiment(paper="Bohte, Kok, La Poutre 2002; Booij & Nguyen 2005; McKennoch, Liu, Bushnell 2006")
@dataclass
class SpikepropXor(Experiment):
    """Exclusive or by SpikeProp and its variants: from how many seeds it is learned, and in how many passes.

    Learned: all four patterns right, and their mean squared error in ms below the bound of the recipe's preset.
    """

    axes: ClassVar[tuple[str, str]] = ("passes over the four patterns", "seeds that have learned it, %")

    data: str = "xor"
    """Data set."""
    variants: str = "plain,rprop,adaptive,multi"
    """Variants of the recipe, with commas between."""
    seeds: int = 10
    """Seeds of each, from --seed on."""
    epochs: int = 1000
    """Passes after which it is given up."""

    def rows(self, data: Dataset) -> Iterator[Row]:
        for variant in self.variants.split(","):
            found = []
            for seed in range(self.seed, self.seed + self.seeds):
                label = f"{variant}-{seed}"
                found.append(self.trained(label, "spikeprop", data, seed=seed, variant=variant, epochs=self.epochs))
            done = sorted(s["epochs"] for s in found if s["test_accuracy"] == 1 and s["epochs"] < self.epochs)
            self.curves[variant] = [[passes, 100 * (n + 1) / len(found)] for n, passes in enumerate(done)]
            note = f"{done[0]} to {done[-1]} passes, median {done[len(done) // 2]}" if done else ""
            yield Row(f"{variant}: seeds that learn it", None, 100 * len(done) / len(found), "%", note)
