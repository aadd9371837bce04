"""Fitting a classifier on what first-spike layers hand on."""

from __future__ import annotations

import time
import warnings
from types import NoneType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from spikewright.classifiers import SVM, linear_svm, principal_components
from spikewright.data import Split
from spikewright.engine.local import BLOCK, cascade_of
from spikewright.engine.session import Session, mixed_seed
from spikewright.errors import ConfigError
from spikewright.neurons import LatencyCode, Synapse
from spikewright.readout import hits
from spikewright.snn import SNN

__all__ = ["ReadoutFitter"]

PASSES = 50  # of a linear SVM over thousands of features: it does not get better afterwards, only slower
FREE = 100.0  # of a linear SVM's intercept: the larger, the less of it a small C takes away


class ReadoutFitter:
    """Runs one `FitReadout`: features of all training images, PCA if there is a projection, then the machine."""

    def __init__(self, snn: SNN, c: float, session: Session):
        self.snn, self.c, self.session = snn, c, session
        self.cascade = cascade_of(session, snn)
        code, flat, *rest = _behind(snn.body)
        first, last = (None, *rest)[-2:] if rest else (None, None)
        fits = isinstance(code, (LatencyCode, Synapse)) and isinstance(flat, nn.Flatten) and len(rest) <= 2
        if not fits or not isinstance(first, (nn.Linear, NoneType)) or not isinstance(last, (nn.Linear, SVM)):
            raise ConfigError(
                "FitReadout: behind its last pool the body must go on with LatencyCode or Synapse, Flatten, perhaps a "
                f"Linear, and a Linear or SVM; found {', '.join(type(m).__name__ for m in (code, flat, *rest))}"
            )
        self.projection: nn.Linear | None = first
        self.machine: nn.Linear | SVM = last
        self.by_time = isinstance(code, LatencyCode)
        self.seed = mixed_seed(session.seed, session.phase, "readout") % 2**32

    def run(self) -> dict[str, Any]:
        """Fit, and record how well the held-out part is classified."""
        session, started = self.session, time.monotonic()
        session.console.print("readout: features ...", style="dim")
        x, y = self.features(session.train), session.train.labels.numpy()
        missing = sorted(set(range(session.data.num_classes)) - set(y.tolist()))
        if missing:
            raise ConfigError(f"no training image shows class {missing[0]}: use more images, --limit is too low")
        features_at = time.monotonic()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what did not converge shows in the accuracy
            if self.projection is not None:
                x = self._project(x, self.projection)
            session.console.print(f"readout: {type(self.machine).__name__} on {x.shape[1]} features ...", style="dim")
            self._fit(x, y)
        fitted_at = time.monotonic()
        line: dict[str, Any] = {"phase": session.phase, "epoch": 1, "layer": "readout"}
        if session.valid is not None:
            line["validation_accuracy"] = self.accuracy(session.valid)
        line |= {"seconds": round(time.monotonic() - started, 3), "fit_seconds": round(fitted_at - features_at, 3)}
        session.record(line)
        told = {k: v for k, v in line.items() if isinstance(v, float)}
        session.console.print("readout  " + "  ".join(f"{k} {v:.4g}" for k, v in told.items()), highlight=False)
        return {"train_seconds": fitted_at - started, "validation_accuracy": line.get("validation_accuracy")}

    def features(self, split: Split) -> Any:
        """uint8 [N, features]: `steps` minus the first spike's time, or whether there was one."""
        found = []
        for indices in torch.arange(len(split)).split(BLOCK):
            times = self.cascade.times(split.batch(indices), len(self.cascade.layers))
            found.append(self.cascade.steps - times if self.by_time else (times < self.cascade.steps).astype(np.uint8))
        return np.concatenate(found)

    @torch.no_grad()
    def accuracy(self, split: Split) -> float:
        """Share of a split classified rightly by the modules as they stand."""
        features, right = torch.from_numpy(self.features(split)), 0
        for indices in torch.arange(len(split)).split(BLOCK):
            x: Tensor = features[indices].float()
            for module in (self.projection, self.machine):
                x = x if module is None else module(x)
            right += int(hits(x, split.labels[indices]).sum())
        return right / len(split)

    def _project(self, x: Any, layer: nn.Linear) -> Any:
        from sklearn.decomposition import PCA

        if layer.out_features > min(x.shape):
            raise ConfigError(
                f"FitReadout: {layer.out_features} components from {x.shape[0]} images of {x.shape[1]} features: "
                "use more images or fewer components"
            )
        pca = PCA(layer.out_features, svd_solver="randomized", random_state=self.seed)
        found = pca.fit_transform(x.astype(np.float32))
        principal_components(layer, pca)
        return found

    def _fit(self, x: Any, y: Any) -> None:
        from scipy.sparse import csr_array
        from sklearn.svm import SVC, LinearSVC

        if isinstance(self.machine, SVM):
            machine = SVC(C=self.c, break_ties=True, cache_size=2000).fit(x.astype(np.float64), y)
            self.machine.take(machine)
            return
        rows = csr_array(x, dtype=np.float64) if x.dtype == np.uint8 else x.astype(np.float64)
        dual = rows.shape[1] > 2000  # passes over the samples; with few features Newton's method converges at once
        own = {"max_iter": PASSES} if dual else {"max_iter": 1000, "intercept_scaling": FREE}
        machine = LinearSVC(C=self.c, dual=dual, random_state=self.seed, **own).fit(rows, y)
        linear_svm(self.machine, machine)


def _behind(body: nn.Module) -> list[nn.Module]:
    """The modules of a first-spike body from the code of its spikes on."""
    modules = list(body.children())
    starts = [i for i, m in enumerate(modules) if isinstance(m, (LatencyCode, Synapse))]
    return modules[starts[0] :] if starts and len(modules) - starts[0] >= 2 else [nn.Identity()] * 2
