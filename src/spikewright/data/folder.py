"""Class folders of photographs, decoded with Pillow when a batch is made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from spikewright.data import validate
from spikewright.data.dataset import Dataset, digest
from spikewright.data.files import quoted, reason, regular_size
from spikewright.data.split import Split, moments
from spikewright.errors import ConfigError, DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm")
# Named, because Pillow otherwise also tries formats that start other programs.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM")
PIXELS = 1 << 26  # the most pixels an image may declare, 64 million
HASHED = 2 << 30  # bytes of images up to which the checksum covers contents, not only names and sizes


class FolderSplit(Split):
    """Image files, read when they are asked for: RGB, the central square, resized to `size` by `size`.

    The central square of the image scaled to a shorter side of `size` is the image's own central square, scaled;
    so each image is cropped and resized in one pass.

    Args:
        files: one path a sample.
        labels: int64 `[N]`.
        size: pixels a side.

    `batch` raises DataError naming the file that cannot be read.
    """

    def __init__(self, files: Sequence[Path], labels: Tensor, size: int = 224) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 4096:
            raise ConfigError(f"size is {size!r}, expected pixels a side, a whole number from 1 to 4096")
        self.files, self.labels, self.size = tuple(files), labels, size
        self.shape = (3, size, size)

    def batch(self, indices: Tensor) -> Tensor:
        pixels = torch.empty((len(indices), *self.shape), dtype=torch.uint8)
        chosen = [self.files[i] for i in indices.tolist()]
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # Pillow decodes outside Python's lock
            for row, image in enumerate(pool.map(self._decode, chosen)):
                pixels[row] = torch.from_numpy(image).permute(2, 0, 1)
        return pixels.float().div_(255)

    def _decode(self, path: Path) -> np.ndarray:
        regular_size(path)
        try:
            with Image.open(path, formats=FORMATS) as image:
                if image.width * image.height > PIXELS:
                    raise DataError(
                        f"{quoted(path)} declares {image.width} x {image.height} pixels, expected at most "
                        f"{PIXELS:,}; scale it down or remove it"
                    )
                image.draft("RGB", (self.size, self.size))  # lets JPEG skip detail that the resize would drop
                side = min(image.size)
                left, top = (image.width - side) / 2, (image.height - side) / 2
                box = (left, top, left + side, top + side)
                return np.array(image.convert("RGB").resize((self.size,) * 2, Image.Resampling.BILINEAR, box))
        except DataError:
            raise
        except Exception as error:  # Pillow's decoders raise whatever their parsers stumble on
            raise DataError(
                f"{quoted(path)} cannot be read as an image: {reason(error)}; repair or remove it"
            ) from None

    def subset(self, indices: Tensor) -> FolderSplit:
        return FolderSplit([self.files[i] for i in indices.tolist()], self.labels[indices], self.size)


def read_image(path: Path, size: int = 28) -> Tensor:
    """The central square of one image file, `[C, size, size]` in 0..1, with one channel where it is grey.

    Raises DataError: the file cannot be read.
    """
    (image,) = FolderSplit([path], torch.zeros(1, dtype=torch.long), size).batch(torch.arange(1))
    grey = torch.equal(image[0], image[1]) and torch.equal(image[1], image[2])
    return image[:1] if grey else image


def read(root: Path, size: int = 224) -> Dataset:
    """A data set of the folders `train/<class>/` and `test/<class>/` or `val/<class>/`.

    Classes are the folders in `train/`, sorted. Mean and deviation come from at most 256 training images. The checksum
    covers the files' contents, above 2 GiB their names and sizes only, which `note` then says.

    Raises DataError: a folder or a class without images, a test class not in `train/`, an unreadable image.
    """
    held_out = next((part for part in ("test", "val") if (root / part).is_dir()), None)
    if held_out is None or not (root / "train").is_dir():
        raise DataError(f"{quoted(root)} has no train/ beside test/ or val/; put one folder a class into each of them")
    classes = validate.class_names(_class_folders(root / "train"))
    strange = sorted(set(_class_folders(root / held_out)) - set(classes))
    if strange:
        raise DataError(f"{quoted(root / held_out)} has a class {strange[0]!r} that train/ lacks; add or remove it")
    parts = {part: _images(root / part, classes, needed=part == "train") for part in ("train", held_out)}
    if not parts[held_out][0]:
        raise DataError(f"{quoted(root / held_out)} holds no images; put images into its class folders")
    train, test = (FolderSplit(files, torch.tensor(labels), size) for files, labels in parts.values())
    checksum, note = _checksum(root, train.files + test.files)
    mean, std = moments(train, 256)
    return Dataset(
        validate.printable("the folder's name", root.resolve().name), train, test, classes, mean, std, checksum, note
    )


def _class_folders(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"cannot read {quoted(folder)}: {reason(error)}; check its permissions") from None


def _images(folder: Path, classes: Sequence[str], needed: bool) -> tuple[list[Path], list[int]]:
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        inside = folder / name
        try:
            found = sorted(os.listdir(inside)) if inside.is_dir() else []
        except OSError as error:
            raise DataError(f"cannot read {quoted(inside)}: {reason(error)}; check its permissions") from None
        found = [file for file in found if file.lower().endswith(SUFFIXES) and not file.startswith(".")]
        if needed and not found:
            raise DataError(f"{quoted(inside)} holds no images ({', '.join(SUFFIXES)}); add some or remove the class")
        files += [inside / file for file in found]
        labels += [label] * len(found)
    return files, labels


def _checksum(root: Path, files: Sequence[Path]) -> tuple[str, str]:
    sizes = [regular_size(path) for path in files]
    whole = sum(sizes) <= HASHED
    lines = []
    for path, size in zip(files, sizes, strict=True):
        try:
            content = hashlib.sha256(path.read_bytes()).hexdigest() if whole else ""
        except OSError as error:
            raise DataError(f"cannot read {quoted(path)}: {reason(error)}; check its permissions") from None
        lines.append(f"{path.relative_to(root).as_posix()!r} {size} {content}")
    return digest(lines), "" if whole else "checksum over names and sizes only"
