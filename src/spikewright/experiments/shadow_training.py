"""LeNet on MNIST, ANN against the SNN converted from it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spikewright.data import Dataset
from spikewright.experiments import Experiment, Row, experiment


@experiment(paper="a thesis on training spiking networks, section 3.1 (shadow training), after Rueckauer et al. 2017")
@dataclass
class ShadowTraining(Experiment):
    """LeNet on MNIST, ANN against the SNN converted from it, on the whole test set.

    The thesis trains LeNet (44,426 parameters, batch 128, 5 epochs, Adam) to 98.38 % on 10,000 images and reports
    97.92 % for the converted network on 96 of them, on which its ANN has 97.92 % as well: no loss. Here both are tested
    on all 10,000. The reset, the percentile and T it does not state.
    """

    arch: str = "lenet"
    """Network, in the papers' notation or by name."""
    steps: int = 100
    """Time steps T."""
    epochs: int = 5
    """Passes over the training set."""
    lr: float = 3e-3
    """Highest learning rate of Adam; the thesis does not state its own."""

    def rows(self, data: Dataset) -> Iterator[Row]:
        run = self.trained(
            "lenet",
            "rueckauer",
            data,
            arch=self.arch,
            steps=self.steps,
            epochs=self.epochs,
            batch=128,
            lr=self.lr,
        )
        ann, snn = run["ann_test_accuracy"], run["accuracy_by_step"]
        yield Row("LeNet, ANN", 98.38, 100 * ann)
        yield Row(f"LeNet, SNN, T = {self.steps}", 97.92, 100 * snn[-1], note="the paper's on 96 images")
        yield Row(
            "lost by the conversion", 0.0, 100 * (ann - snn[-1]), unit="points", note="the paper's on the same 96"
        )
        self.curves["LeNet"] = [[t + 1, 100 * a] for t, a in enumerate(snn)]
        level = next((t + 1 for t, a in enumerate(snn) if a >= ann - 0.001), None)
        yield Row("steps until within 0.1 points of the ANN", None, level, unit="steps")
