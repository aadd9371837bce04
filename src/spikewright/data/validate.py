"""The boundary: arrays of a user become tensors the rest of the library need not look at again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from spikewright.errors import DataError


def as_tensor(name: str, value: object) -> Tensor:
    """A tensor or numeric array as a dense CPU tensor without gradient; DataError for anything else."""
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in "biuf":
            raise DataError(f"{name} has dtype {value.dtype}, expected real numbers; convert it with .astype")
        value = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("="))
        try:
            value = torch.from_numpy(value if value.flags.writeable else value.copy())
        except TypeError:
            raise DataError(f"{name} has dtype {value.dtype}, which torch lacks; convert it with .astype") from None
    if not isinstance(value, Tensor):
        raise DataError(f"{name} is a {type(value).__name__}, expected a torch tensor or a numpy array")
    if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.is_meta:
        raise DataError(f"{name} has layout {value.layout} and dtype {value.dtype}, expected a dense real tensor")
    return value.detach().cpu().contiguous()


def images(name: str, value: object) -> Tensor:
    """Images as uint8 or float32 `[N, C, H, W]`; float pixels must lie in 0..1."""
    x = as_tensor(name, value)
    if x.dim() != 4 or x.numel() == 0:
        hint = "add the channel with x[:, None]" if x.dim() == 3 else "reshape it"
        raise DataError(f"{name} has shape {tuple(x.shape)}, expected [N, C, H, W] with none of them 0; {hint}")
    if x.dtype == torch.uint8:
        return x
    if not x.is_floating_point():
        raise DataError(f"{name} has dtype {x.dtype}, expected uint8 (0..255) or float (0..1); convert it")
    low, high = (bound.item() for bound in x.aminmax())
    if not (np.isfinite(low) and np.isfinite(high)):
        bad = ~torch.isfinite(x).flatten(1).all(1)
        raise DataError(
            f"{name} has NaN or infinite pixels in {int(bad.sum()):,} samples, the first at index "
            f"{int(bad.int().argmax())}; expected finite values, repair or drop those samples"
        )
    if low < 0 or high > 1:
        remedy = "divide by 255 or pass uint8" if low >= 0 and high <= 255 else "scale with (x - x.min()) / range"
        raise DataError(f"{name} has pixels from {low:g} to {high:g}, expected 0..1; {remedy}")
    return x.float()


def labels(name: str, value: object, samples: int, classes: int | None = None) -> Tensor:
    """Class indices as int64 `[N]`, one for each sample, each below `classes` if that is known."""
    y = as_tensor(name, value)
    if y.is_floating_point() or y.dtype == torch.bool:
        raise DataError(f"{name} has dtype {y.dtype}, expected whole numbers; convert it with .long()")
    if y.dim() != 1 or len(y) != samples:
        raise DataError(f"{name} has shape {tuple(y.shape)}, expected ({samples},), one label for each sample")
    y = y.long()
    low, high = int(y.min()), int(y.max())
    if low < 0 or (classes is not None and high >= classes):
        upper = "" if classes is None else f"{classes - 1}"
        raise DataError(f"{name} runs from {low} to {high}, expected 0..{upper}; number the classes from 0")
    return y


def printable(what: str, text: object) -> str:
    """Text fit for a terminal and a file name: not empty, without control characters."""
    if not isinstance(text, str) or not text.isprintable() or not text.strip():
        raise DataError(f"{what} is {text!r}, expected printable text; rename it")
    return text


def class_names(names: Sequence[str]) -> tuple[str, ...]:
    """Names fit to print: distinct, not empty, without control characters."""
    for name in names:
        printable("a class name", name)
    if len(set(names)) != len(names) or not names:
        raise DataError(f"{len(names)} class names, {len(set(names))} of them distinct; expected distinct names")
    return tuple(names)
