"""What came of a conversion: layer by layer against the ANN, and accuracy against steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.clock import Clock
from spikewright.convert.calibration import Calibration
from spikewright.convert.method import Converted
from spikewright.readout import hits
from spikewright.snn import inference

__all__ = ["TOLERATED", "LayerReport", "Report", "examined", "knee"]

TOLERATED = 0.05
"""Accuracy a conversion may lose on the calibration data before it warns."""
CHUNK = 32


@dataclass(frozen=True)
class LayerReport:
    """A layer of neurons against the activation it took the place of, over the samples looked at.

    Attributes:
        name: of the layer.
        threshold: theta, in the ANN's units.
        rate: spikes per neuron and step.
        error: |mean output x scale - activation| / |activation|, norms over all neurons and samples.
        clipped: share of activations above theta, which no rate can say.
        residual: mean |membrane left at the end - that of the start| of active neurons, in thresholds.
        silent: share of neurons that should have been active on some sample and never fired.
        accuracy: of the ANN fed with this layer's mean outputs (and those before it) instead of its activations; None
            without labels.
        lost: accuracy that this layer takes, against the one before it.
    """

    name: str
    threshold: float
    rate: float
    error: float
    clipped: float
    residual: float | None
    silent: float
    accuracy: float | None
    lost: float | None


@dataclass(frozen=True)
class Report:
    """A conversion in figures. Accuracies are fractions of 1, on calibration samples, ties wrong.

    Attributes:
        samples, steps: looked at.
        layers: in order.
        ann_accuracy: of the ANN; None without labels, as the next two.
        accuracy_by_step: of the SNN after step 1, 2, ...
        agreement_by_step: share of samples on which the SNN says what the ANN says.
        knee: the step from which more steps bring little (see `knee`).
        passes: what was dropped, folded, moved, replaced, corrected.
    """

    samples: int
    steps: int
    layers: list[LayerReport]
    ann_accuracy: float | None
    accuracy_by_step: list[float] | None
    agreement_by_step: list[float]
    knee: int
    passes: list[str]

    @property
    def accuracy(self) -> float | None:
        """Of the SNN after the last step."""
        return self.accuracy_by_step[-1] if self.accuracy_by_step else None

    @property
    def lost(self) -> float:
        """Accuracy lost against the ANN; without labels, the share of samples judged differently."""
        if self.ann_accuracy is None or self.accuracy is None:
            return 1 - self.agreement_by_step[-1]
        return self.ann_accuracy - self.accuracy

    @property
    def culprit(self) -> LayerReport:
        """The layer that loses most of the accuracy; without labels, of the largest error."""
        if all(layer.lost is not None for layer in self.layers):
            return max(self.layers, key=lambda layer: layer.lost or 0.0)
        return max(self.layers, key=lambda layer: layer.error)

    @property
    def warning(self) -> str | None:
        """One line if more was lost than is tolerated, else None."""
        if self.lost <= TOLERATED:
            return None
        layer = self.culprit
        cause = (
            f"{100 * layer.clipped:.1f} % of its activations are above the threshold: raise the threshold"
            if layer.clipped > 0.02
            else "more steps, a lower threshold or a shift would bring its rates closer"
        )
        what = "samples judged as by the ANN" if self.accuracy is None else "accuracy"
        return (
            f"the conversion loses {100 * self.lost:.1f} points of {what} on the calibration data at T = {self.steps}; "
            f"most in {layer.name!r} (rate error {100 * layer.error:.1f} %): {cause}"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain numbers, texts, lists and dicts."""
        return asdict(self) | {"lost": self.lost, "loses_most": self.culprit.name, "warning": self.warning}


@torch.no_grad()
def examined(
    found: Converted,
    data: Calibration,
    steps: int,
    *,
    samples: int = 256,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Run ANN and SNN side by side over the first `samples` of the data, in memory that does not grow with T."""
    data = data.first(samples)
    names = list(found.thresholds)
    sizes = {name: float(getattr(found.snn.body.get_submodule(name), "size", 1.0)) for name in names}
    tally = {name: _Tally(found.thresholds[name], sizes[name]) for name in names}
    right = torch.zeros(len(names) + 1, dtype=torch.long)
    by_step, agreed, done = torch.zeros(steps, dtype=torch.long), torch.zeros(steps, dtype=torch.long), 0
    with inference(found.snn):
        for x in data:
            labels = data.labels[done : done + len(x)].to(x.device)
            values = found.ann.values(x, names)
            said = found.snn.readout.steady(values[found.ann.output])
            counts, scores = _run(found, x, names, steps, seed)
            at = 0
            for block in scores:
                by_step[at : at + len(block)] += hits(block, labels).sum(1).cpu()
                agreed[at : at + len(block)] += (block.argmax(-1) == said.argmax(-1)).sum(1).cpu()
                at += len(block)
            given: dict[str, Tensor] = {}
            right[0] += int(hits(said, labels).sum())
            for i, name in enumerate(names):
                total, left = counts[name]
                given[name] = total / steps * found.scale[name]
                tally[name].add(values[name], total, given[name], left, steps)
                out = found.snn.readout.steady(found.ann.values(x, (), given)[found.ann.output])
                right[i + 1] += int(hits(out, labels).sum())
            done += len(x)
            if progress:
                progress(done, len(data))
    accuracy: list[float | None] = (right.double() / done).tolist() if data.labelled else [None] * len(right)
    curve = (by_step.double() / done).tolist() if data.labelled else None
    agreement = (agreed.double() / done).tolist()
    layers = [
        tally[name].report(name, after, None if after is None or before is None else before - after)
        for name, before, after in zip(names, accuracy, accuracy[1:], strict=False)
    ]
    return Report(done, steps, layers, accuracy[0], curve, agreement, knee(curve or agreement), found.log)


def knee(curve: list[float]) -> int:
    """The step at which a curve over log T is furthest above the straight line from its first to its last point."""
    if len(curve) < 3:
        return len(curve)
    rise, width = curve[-1] - curve[0], math.log(len(curve))
    above = [value - curve[0] - rise * math.log(t) / width for t, value in enumerate(curve, start=1)]
    return above.index(max(above)) + 1


def _run(
    found: Converted, x: Tensor, names: list[str], steps: int, seed: int
) -> tuple[dict[str, tuple[Tensor, Tensor | None]], list[Tensor]]:
    """(sum of outputs [B, ...] and membrane left less that of the start, by layer; the scores in blocks)."""
    totals: dict[str, Tensor] = {}
    layers = {name: found.snn.body.get_submodule(name) for name in names}
    left: dict[str, Tensor | None] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, out: Tensor) -> None:
            clock = Clock.running(module)
            block = out.unflatten(0, (clock.steps, -1))
            totals[name] = totals[name] + block.sum(0) if name in totals else block.sum(0)
            state = next((s for (m, _), s in clock.left.items() if m is module), None)
            v = state[0] if isinstance(state, tuple) and state else None
            start = getattr(module, "v_init", 0.0)
            v_th = getattr(module, "v_th", None)
            left[name] = (v - start) / v_th if isinstance(v, Tensor) and isinstance(v_th, float) else None

        return hook

    hooks = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    stream_seed = int(torch.randint(2**62, (), generator=torch.Generator().manual_seed(seed)))
    stream, scores = found.snn.stream(stream_seed), []
    try:
        for start in range(0, steps, CHUNK):
            scores.append(stream.block(x, min(CHUNK, steps - start)))
    finally:
        for hook in hooks:
            hook.remove()
    return {name: (totals[name], left[name]) for name in names}, scores


@dataclass
class _Tally:
    """Sums over samples of what a `LayerReport` tells of one layer."""

    threshold: float
    size: float
    spikes: float = 0.0
    updates: int = 0
    wrong: float = 0.0
    norm: float = 0.0
    clipped: int = 0
    active: int = 0
    values: int = 0
    residual: float = 0.0
    known: int = 0
    fired: Tensor | None = None
    meant: Tensor | None = None

    def add(self, a: Tensor, total: Tensor, mean: Tensor, left: Tensor | None, steps: int) -> None:
        self.spikes += float(total.double().sum()) / self.size
        self.updates += total.numel() * steps
        self.wrong += float((mean - a).double().square().sum())
        self.norm += float(a.double().square().sum())
        self.clipped += int((a > self.threshold * (1 + 1e-6)).sum())
        self.values += a.numel()
        if left is not None:
            self.residual += float(left.double().abs()[a > 0].sum())
            self.known += int((a > 0).sum())
        fired, meant = (total != 0).any(0), (a > 0).any(0)
        self.fired = fired if self.fired is None else self.fired | fired
        self.meant = meant if self.meant is None else self.meant | meant

    def report(self, name: str, accuracy: float | None, lost: float | None) -> LayerReport:
        silent = 0.0
        if self.meant is not None and self.fired is not None and int(self.meant.sum()):
            silent = float((self.meant & ~self.fired).sum() / self.meant.sum())
        return LayerReport(
            name=name,
            threshold=self.threshold,
            rate=self.spikes / max(self.updates, 1),
            error=math.sqrt(self.wrong / self.norm) if self.norm else 0.0,
            clipped=self.clipped / max(self.values, 1),
            residual=self.residual / self.known if self.known else None,
            silent=silent,
            accuracy=accuracy,
            lost=lost,
        )
