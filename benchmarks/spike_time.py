"""Training on spike times: images a second of whole epochs, S4NN beside its authors' procedure, and Mostafa.

`authors` is that procedure written by us in NumPy from its description: image by image, dense in time, a matrix product
and a running sum over all 257 steps a layer. Ours is `spikewright train`, batch 50, after a short run that finds or
makes the compiled loops. MNIST where it is found (--data-dir says where), else digits in frames of 28 x 28.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from libraries import digits_28
from report import Panel, options, publish
from turns import Measured, Worker, in_turns

import spikewright as sw

ROWS = ("ours", "authors")
ARCHS = {"s4nn": "400-10", "mostafa": "800-10"}
EPOCH, DENSE = 60_000, 200  # images; the authors' procedure shows its speed in few


def load(data_dir: str | None, images: int) -> sw.Dataset:
    """The training images, and few to test with, which is not what counts here."""
    try:
        found = sw.load("mnist", data_dir=data_dir)
        name, x, y = found.name, found.train.batch(torch.arange(images)), found.train.labels[:images]
    except sw.errors.DataError:
        name, x, y = "digits-28", digits_28(images), torch.arange(images) % 10
    return sw.Dataset.from_tensors(name, x, y, x[:100], y[:100])


def make(row: str, method: str, data_dir: str | None, images: int) -> Callable[[], float]:
    """What finds the seconds an image takes."""
    data = load(data_dir, images)
    if row == "authors":
        return Authors(data, min(images, DENSE))

    def epoch(limit: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            settings = {"arch": ARCHS[method], "epochs": 1, "validation": 0.0, "precision": "float32"}
            sw.train(method, data, out=Path(folder) / "run", limit=limit, progress=False, **settings)
            last = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()[-1]
            return 1 / json.loads(last)["images_per_second"]

    epoch(500)
    return lambda: epoch(images)


class Authors:
    """784-400-10 at 256 steps, one image after the other."""

    def __init__(self, data: sw.Dataset, images: int) -> None:
        import numpy as np

        self.np, draw = np, np.random.default_rng(0)
        self.w = [draw.uniform(0, 5, (400, 784)), draw.uniform(0, 48, (10, 400))]
        some = torch.arange(images)
        self.times = np.floor((1 - data.train.batch(some).flatten(1).numpy()) * 256).astype(int)
        self.labels = data.train.labels[some].numpy()

    def raster(self, times):
        spikes = self.np.zeros((len(times), 257))
        spikes[self.np.arange(len(times)), times] = 1
        return spikes

    def learn(self, times, label: int) -> None:
        np, fired = self.np, [times]
        for w in self.w:
            v = np.cumsum(w @ self.raster(fired[-1]), axis=1)
            v[:, -1] = 101  # whoever has not fired by then, does
            fired.append(np.minimum(np.argmax(v > 100, axis=1) + 1, 256))
        out = fired[-1]
        first = out.min()
        wanted = np.where(out - first < 3, min(first + 3, 256), out) if first < 256 else np.full(10, 256)
        wanted[label] = first if first < 256 else 253
        error = (wanted - out) / 256
        for n in (1, 0):
            size = np.linalg.norm(error)
            error = error / size if size else error
            causal = fired[n] < fired[n + 1][:, None]
            self.w[n] -= 0.2 * error[:, None] * causal
            self.w[n] -= 0.2 * 1e-6 * self.w[n]
            error = error @ (causal * self.w[n])

    def __call__(self) -> float:
        start = time.perf_counter()
        for times, label in zip(self.times, self.labels, strict=True):
            self.learn(times, label)
        return (time.perf_counter() - start) / len(self.times)


def called(found: Callable[[], float]) -> float:
    return found()


def measure(args: argparse.Namespace, method: str) -> Measured:
    rows = [row for row in args.rows if row == "ours" or method == "s4nn"]
    workers = {row: Worker(make, row, method, args.data_dir, args.images) for row in rows}
    measured = in_turns(rows, args.rounds, lambda row: workers[row].ask(called), warm_up=0)
    for worker in workers.values():
        worker.close()
    return measured


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir", help="where MNIST is")
    parser.add_argument("--images", type=int, default=EPOCH, help="of an epoch (%(default)s)")
    args = options(__doc__, ROWS, rounds=3, threads=2, parser=parser)
    data, panels = load(args.data_dir, DENSE).name, []
    for method, arch in ARCHS.items():
        title, measured = f"{method}, 784-{arch}, training on {data}", measure(args, method)
        panels += [
            Panel(title, measured, "images/s", lambda seconds: 1 / seconds),
            Panel(f"{title}: an epoch of {EPOCH:,}", measured, "s", lambda seconds: EPOCH * seconds),
        ]
    publish("spike_time", args, panels)
