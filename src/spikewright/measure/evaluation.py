"""The closing measurement of every method: accuracy at every step, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spikewright.errors import DataError, whole
from spikewright.measure.energy import CostTable
from spikewright.measure.energy import table as cost_table
from spikewright.measure.memory import peak_memory_mb
from spikewright.measure.operations import Counts, counting
from spikewright.measure.spikes import CHUNK, SpikeCount, silent_layers, watching
from spikewright.measure.trains import compared
from spikewright.precision import autocast
from spikewright.readout import NearestTrain, hits
from spikewright.snn import SNN, inference

if TYPE_CHECKING:
    from spikewright.data.split import Split

__all__ = ["Evaluation", "evaluate"]

TIMED_SECONDS = 2.0
TIMED_SAMPLES = 2000

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Evaluation:
    """What a network did on a split. Accuracies are fractions of 1; costs are means per image through all steps.

    Attributes:
        accuracy: share of samples whose true class scored strictly higher than every other: a tie is wrong.
        accuracy_by_step: the same had the network stopped after step 1, 2, ..., `steps`.
        ties: samples in which several classes shared the top score at the end (all of them where no output fired).
        accuracy_ties_right: the accuracy if a tie that the true class shares, but not all classes, were right, as some
            papers count (S4NN's, BS4NN's).
        decision_steps: steps until the answer is final, on average; all steps for a tie. Of networks that go by the
            first output spike that is when it comes.
        samples, steps, params: how many images, steps and parameters.
        spikes_per_image: of all neuron layers.
        rates: spikes per neuron and step, by layer.
        synops_per_image: accumulates caused by spikes, pooled spikes as one event each.
        macs_per_image: multiply-accumulates caused by analog inputs (an image fed directly, filtered currents).
        bias_acs_per_image: additions of biases.
        dense_synops_per_image: operations if every input were nonzero at every step.
        neuron_updates_per_image: neurons times steps; priced only by a table with a price for them.
        ann_macs_per_image: one dense pass of the same body.
        energy_nj_per_image, ann_energy_nj_per_image: the above priced by `energy_table`, nJ.
        energy_verdict: one sentence that compares the two.
        synops_by_layer, macs_by_layer: per image.
        uncounted: layers with weights whose operations are not in the figures.
        counted: samples that the costs are means over, the first so many.
        trains: of networks whose outputs are asked for spike trains, how far from these they are (`trains.compared`).
        infer_images_per_second: timed without counting, in batches of the size asked for.
        peak_memory_mb: highest so far of the process, on a GPU of its allocator, in 1e6 bytes; None if unknown.
    """

    accuracy: float
    accuracy_by_step: list[float]
    ties: int
    accuracy_ties_right: float
    decision_steps: float
    samples: int
    steps: int
    params: int
    spikes_per_image: float
    synops_per_image: float
    macs_per_image: float
    bias_acs_per_image: float
    dense_synops_per_image: float
    neuron_updates_per_image: float
    ann_macs_per_image: float
    energy_nj_per_image: float
    ann_energy_nj_per_image: float
    energy_table: str
    energy_verdict: str
    infer_images_per_second: float
    peak_memory_mb: float | None
    counted: int = 0
    rates: dict[str, float] = field(default_factory=dict)
    synops_by_layer: dict[str, float] = field(default_factory=dict)
    macs_by_layer: dict[str, float] = field(default_factory=dict)
    uncounted: list[str] = field(default_factory=list)
    trains: dict[str, float] = field(default_factory=dict)

    @property
    def silent(self) -> list[str]:
        """Layers that never fired."""
        return silent_layers(self.rates)

    def to_json(self) -> dict[str, Any]:
        """All figures as plain numbers, texts, lists and dicts."""
        return asdict(self)

    def __str__(self) -> str:
        counted_right = f"{100 * self.accuracy_ties_right:.2f} % were they right"
        ties = f", {self.ties:,} ties counted as wrong, {counted_right}" if self.ties else ""
        rows = [
            ("accuracy", f"{100 * self.accuracy:.2f} % of {self.samples:,} samples after {self.steps} steps{ties}"),
            ("decision", f"final after {self.decision_steps:,.1f} steps on average"),
            ("by step", "  ".join(f"{t}: {100 * self.accuracy_by_step[t - 1]:.2f}" for t in marks(self.steps))),
            ("parameters", f"{self.params:,}"),
            ("spikes", f"{self.spikes_per_image:,.1f} an image"),
            ("SynOps", f"{self.synops_per_image:,.0f} an image, and {self.macs_per_image:,.0f} MACs"),
            ("as an ANN", f"{self.ann_macs_per_image:,.0f} MACs"),
            (
                "energy",
                f"{self.energy_nj_per_image:,.1f} nJ an image, as an ANN {self.ann_energy_nj_per_image:,.1f} nJ",
            ),
            ("", self.energy_verdict),
            ("speed", f"{self.infer_images_per_second:,.0f} images/s"),
            ("peak memory", "-" if self.peak_memory_mb is None else f"{self.peak_memory_mb:,.0f} MB"),
        ]
        if self.trains:
            rows.append(("trains", "  ".join(f"{name} {value:.3g}" for name, value in self.trains.items())))
        if self.silent:
            rows.append(("silent", ", ".join(self.silent)))
        if self.uncounted:
            rows.append(("not counted", ", ".join(self.uncounted)))
        return "\n".join(f"{name:<12} {text}".rstrip() for name, text in rows)


@torch.no_grad()
def evaluate(
    snn: SNN,
    split: Split,
    *,
    steps: int | None = None,
    batch: int = 100,
    chunk: int | None = None,
    table: str | CostTable = "45nm",
    precision: str = "float32",
    seed: int = 0,
    counted: int | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run a network over a split, in evaluation mode, and measure it.

    Args:
        snn: the network; its mode is as it was afterwards.
        split: samples and labels.
        steps: another T than the network's own.
        batch: samples at a time; changes neither accuracy nor counts, only speed and memory.
        chunk: steps at a time; None: all up to 64, else 64, so that memory does not grow with T.
        table: prices of operations, a name out of `TABLES` or a `CostTable`.
        precision: of matrix products, "float32", "bf16" or "auto", as in training.
        seed: of the encoder's draws; a sample's noise depends on this and on its own content only.
        counted: costs are counted on the first so many samples only, which a run of thousands of steps may need; None:
            on all. Accuracy is always that of all.
        progress: called as progress(samples done, samples) after every batch.

    Raises:
        DataError: the split is empty or has labels the network has no output for.
        ConfigError: batch below 1, or an unknown table.
    """
    prices = cost_table(table)
    whole("", "batch", batch)
    if not len(split):
        raise DataError("the split to evaluate on is empty, expected at least 1 sample: check the data set's subset")
    steps = snn.steps if steps is None else steps
    run = _Run(snn, split, steps, min(steps, CHUNK) if chunk is None else chunk, seed, precision)
    with inference(snn):
        snn.materialise(run.sample(torch.arange(1)))
        few = len(split) if counted is None else min(max(counted, 1), len(split))
        with counting(snn) as counts, watching(snn) as spikes:
            verdict = run.judge(torch.arange(few), batch, 0, progress)
        verdict += run.judge(torch.arange(few, len(split)), batch, few, progress)
        speed = run.speed(batch)
        trains = run.trains(batch) if isinstance(snn.readout, NearestTrain) else {}
    accuracies = (verdict.right.double() / len(split)).tolist()
    figures = _costs(counts, spikes, few, steps, prices)
    return Evaluation(
        accuracy=accuracies[-1],
        accuracy_by_step=accuracies,
        ties=verdict.ties,
        accuracy_ties_right=verdict.right_with_ties / len(split),
        decision_steps=verdict.decided / len(split),
        samples=len(split),
        steps=steps,
        params=sum(p.numel() for p in snn.parameters()),
        infer_images_per_second=speed,
        peak_memory_mb=peak_memory_mb(run.device),
        counted=few,
        trains=trains,
        **figures,
    )


@dataclass
class _Verdict:
    """Counts over samples: right after every step [T]; ties after the last, and right if those that the true class
    shares were; steps until the answer is final."""

    right: Tensor
    ties: int = 0
    right_with_ties: int = 0
    decided: int = 0

    def __add__(self, other: _Verdict) -> _Verdict:
        return _Verdict(*(a + b for a, b in zip(vars(self).values(), vars(other).values(), strict=True)))


@dataclass(frozen=True)
class _Run:
    """One network on one split."""

    snn: SNN
    split: Split
    steps: int
    chunk: int
    seed: int
    precision: str

    @property
    def device(self) -> torch.device:
        return next((t.device for t in _tensors(self.snn)), torch.device("cpu"))

    def sample(self, indices: Tensor) -> Tensor:
        """The samples at `indices` on the network's device and in its precision: [B, ...]."""
        dtype = next((p.dtype for p in self.snn.parameters() if p.is_floating_point()), torch.float32)
        return self.split.batch(indices).to(self.device, dtype)

    def blocks(self, x: Tensor) -> Iterator[Tensor]:
        """x [B, ...] -> [chunk, B, C] each. The generator is new every time, so that every batch has the same encoder's
        seed."""
        generator = torch.Generator().manual_seed(self.seed)
        with autocast(self.precision, self.device):
            yield from self.snn.blocks(x, steps=self.steps, chunk=self.chunk, generator=generator)

    def judge(self, samples: Tensor, batch: int, done: int, progress: Progress | None) -> _Verdict:
        """The verdict on these samples, after `done` others."""
        found = _Verdict(torch.zeros(self.steps, dtype=torch.long))
        for indices in samples.split(batch) if len(samples) else ():
            target, at, last = self.split.labels[indices].to(self.device), 0, torch.zeros(())
            answer = since = torch.zeros(len(indices), dtype=torch.long, device=self.device)
            for scores in self.blocks(self.sample(indices)):
                last, target = scores[-1], target.to(scores.device)
                found.right[at : at + len(scores)] += _right(scores, target).sum(1).cpu()
                answer, since = _settled(scores, answer, since, at)
                at += len(scores)
            top = last == last.amax(-1, keepdim=True)
            sharing = top.sum(-1)
            found.ties += int((sharing > 1).sum())
            found.right_with_ties += int((top.gather(-1, target[:, None])[:, 0] & (sharing < top.shape[-1])).sum())
            found.decided += int(torch.where(answer < 0, self.steps, since).sum())
            done += len(indices)
            if progress:
                progress(done, len(self.split))
        return found

    def trains(self, batch: int) -> dict[str, float]:
        """How far the outputs are from the trains of the samples' classes, over all samples."""
        readout: Any = self.snn.readout
        sums: dict[str, float] = {}
        for indices in torch.arange(len(self.split)).split(batch):
            with autocast(self.precision, self.device):
                generator = torch.Generator().manual_seed(self.seed)
                out = self.snn.run(self.sample(indices), steps=self.steps, generator=generator).out
            desired = readout.raster(0, len(out), out)[:, self.split.labels[indices]]
            for name, value in compared(out, desired, readout.tau).items():
                sums[name] = sums.get(name, 0.0) + value * len(indices) / len(self.split)
        return sums

    def speed(self, batch: int) -> float:
        """Images per second of whole sequences, over leading batches until some seconds or samples have passed."""
        samples, seconds = 0, 0.0
        for indices in torch.arange(min(len(self.split), max(batch, TIMED_SAMPLES))).split(batch):
            x = self.sample(indices)
            _finish(self.device)
            start = time.perf_counter()
            for _ in self.blocks(x):
                pass
            _finish(self.device)
            seconds += time.perf_counter() - start
            samples += len(indices)
            if seconds > TIMED_SECONDS:
                break
        return samples / max(seconds, 1e-9)


def _right(scores: Tensor, target: Tensor) -> Tensor:
    """scores [T, B, C], target [B] -> who is right at every step [T, B]."""
    if target.min() < 0 or target.max() >= scores.shape[-1]:
        found = f"{int(target.min())}..{int(target.max())}"
        raise DataError(
            f"labels {found} do not fit a network with {scores.shape[-1]} classes: evaluate it on its own data"
        )
    return hits(scores, target)


def _settled(scores: Tensor, answer: Tensor, since: Tensor, at: int) -> tuple[Tensor, Tensor]:
    """Scores [T, B, C] of the steps after `at` -> (class alone on top after the last, -1 for a tie; the step, from 1,
    that it has stood since), from those after `at` steps."""
    classes = scores.shape[-1]
    top = scores.topk(min(2, classes), -1).values
    alone = top[..., 0] > top[..., 1] if classes > 1 else torch.ones_like(top[..., 0], dtype=torch.bool)
    answers = torch.where(alone, scores.argmax(-1), -1)
    before = torch.cat([answer.to(answers)[None] if at else torch.full_like(answers[:1], -2), answers[:-1]])
    steps = torch.arange(at + 1, at + len(scores) + 1, device=scores.device)[:, None]
    return answers[-1], torch.where(answers != before, steps, since.to(steps)).amax(0)


def _costs(counts: Counts, spikes: dict[str, SpikeCount], images: int, steps: int, prices: CostTable) -> dict[str, Any]:
    operations = counts.operations(images, steps, sum(layer.updates for layer in spikes.values()))
    return {
        "spikes_per_image": sum(layer.spikes for layer in spikes.values()) / images,
        "rates": {name: layer.rate for name, layer in spikes.items()},
        "synops_per_image": operations.acs,
        "macs_per_image": operations.macs,
        "bias_acs_per_image": operations.bias_acs,
        "dense_synops_per_image": operations.dense,
        "neuron_updates_per_image": operations.neuron_updates,
        "ann_macs_per_image": operations.ann_macs,
        "energy_nj_per_image": prices.snn_nj(operations),
        "ann_energy_nj_per_image": prices.ann_nj(operations),
        "energy_table": prices.name,
        "energy_verdict": prices.verdict(operations),
        "synops_by_layer": {name: layer.acs / images for name, layer in counts.layers.items()},
        "macs_by_layer": {name: layer.macs / images for name, layer in counts.layers.items()},
        "uncounted": counts.uncounted,
    }


def _tensors(snn: SNN) -> Iterator[Tensor]:
    yield from snn.parameters()
    yield from snn.buffers()


def _finish(device: torch.device) -> None:
    """Wait for the work handed to a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def marks(steps: int) -> list[int]:
    """Steps to show of a curve: some ten out of 1 .. steps: all of a few, else powers of two, and the last."""
    if steps <= 8:
        return list(range(1, steps + 1))
    return [t for t in (2**k for k in range(24)) if t < steps] + [steps]
