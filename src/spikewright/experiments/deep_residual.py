"""Residual networks converted, with and without max pool, against direct training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from spikewright.data import Dataset
from spikewright.experiments import Experiment, Row, experiment
from spikewright.flags import numbers
from spikewright.measure.evaluation import marks

PAPER: dict[str, dict[str, float]] = {
    "resnet-18": {"ann": 67.00, "direct 5": 47.99, "direct 10": 53.51},
    "resnet-34": {"ann": 70.70, "direct 5": 44.73, "direct 10": 52.71},
    "resnet-18-no-maxpool": {"ann": 69.93, "2500": 69.38},
    "resnet-34-no-maxpool": {"ann": 73.66, "2500": 72.89},
}
"""Table 1 of the paper: ImageNet, top 1 in %."""


@experiment(paper="deep residual networks on ImageNet, conversion against direct training, figure 2 and table 1")
@dataclass
class DeepResidual(Experiment):
    """Residual networks converted, with and without max pool, against direct training.

    The paper's figures are of ImageNet at 224x224: give a folder of class folders as `--data` for these. On other data
    the table has the same shape and its note says so. Conversion is by the largest activation of each layer; where the
    paper removes the max pool, since its algorithm has none, the networks with one are converted too, by gates.
    """

    data: str = "cifar10"
    """Data set by name, or a folder of class folders."""
    archs: str = "resnet-18-no-maxpool,resnet-18"
    """Networks, with commas."""
    steps: int = 2500
    """Time steps of the converted networks."""
    percentile: float = 100.0
    """Of the activations a layer is normalised by; 100 is the largest, as in the paper."""
    epochs: int = 90
    """Passes of the ANNs over the training set."""
    batch: int = 32
    """Samples a step."""
    direct: str = "5,10"
    """Time steps of networks trained directly, with commas; empty leaves them out."""
    direct_epochs: int = 90
    """Passes of these."""

    def rows(self, data: Dataset) -> Iterator[Row]:
        elsewhere = "" if data.num_classes == 1000 else "the paper's on ImageNet"
        names = [name.strip() for name in self.archs.split(",")]
        direct = numbers(self.direct, "--direct") if self.direct else []
        for name in names:
            paper = PAPER.get(name, {})
            run = self.trained(
                name,
                "rueckauer",
                data,
                arch=name,
                steps=self.steps,
                percentile=self.percentile,
                epochs=self.epochs,
                batch=self.batch,
            )
            curve = run["accuracy_by_step"]
            self.curves[f"{name}, converted"] = [[t + 1, 100 * a] for t, a in enumerate(curve)]
            yield Row(f"{name}, ANN", paper.get("ann"), 100 * run["ann_test_accuracy"], note=elsewhere)
            for t in marks(self.steps):
                yield Row(f"{name}, converted, T = {t}", paper.get(str(t)), 100 * curve[t - 1], note=elsewhere)
        for name in [name for name in names if direct and "no-maxpool" not in name]:
            for t in direct:
                run = self.trained(
                    f"{name}-direct-{t}",
                    "surrogate",
                    data,
                    arch=name,
                    steps=t,
                    epochs=self.direct_epochs,
                    batch=self.batch,
                )
                self.curves[f"{name}, direct, T = {t}"] = [[t, 100 * run["test_accuracy"]]]
                figure = PAPER.get(name, {}).get(f"direct {t}")
                yield Row(f"{name}, direct, T = {t}", figure, 100 * run["test_accuracy"], note=elsewhere)
