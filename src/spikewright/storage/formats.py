"""What is in the files: strict JSON and safetensors, neither of which can run code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from ..errors import ConfigError, ModelFileError
from .atomic import quoted, read_bytes, reading, write_atomic

JSON_LIMIT = 64 << 20


def json_to_bytes(path: Path, obj: Any) -> bytes:
    """Strict JSON, indented, in the order given; `path` is for the error message.

    Raises `ConfigError` for NaN, infinity and whatever JSON has no form for: the caller writes None in their place.
    """
    try:
        return (json.dumps(obj, allow_nan=False, indent=2) + "\n").encode()
    except (ValueError, TypeError, RecursionError) as error:
        raise ConfigError(f"{quoted(path)} cannot hold this as JSON: {error}; write None or a plain value") from error


def json_from_bytes(path: Path, data: bytes) -> Any:
    """Parse strict JSON; raises `ModelFileError` naming `path` for anything else, nesting without end included."""
    try:
        return json.loads(data.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise ModelFileError(
            f"{quoted(path)} is not JSON: {type(error).__name__} {str(error)[:120]!r}; restore it from a copy"
        ) from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def write_json(path: Path, obj: Any) -> None:
    """Replace `path` by `obj` as strict JSON. NaN and infinity are refused: the caller writes None in their place.

    Raises `ConfigError` for what JSON has no form for, and as `write_atomic`.
    """
    write_atomic(path, json_to_bytes(path, obj))


def read_json(path: Path) -> Any:
    """Read strict JSON of at most 64 MB; raises `ModelFileError` when it is damaged, and as `read_bytes`."""
    return json_from_bytes(path, read_bytes(path, JSON_LIMIT))


def tensors_to_bytes(tensors: dict[str, Tensor]) -> bytes:
    """Safetensors bytes. Tensors are copied, so views, transposes and tensors that share memory are each stored whole.

    Raises `ConfigError` for a tensor the format cannot hold (sparse, quantised) or the reserved name `__metadata__`.
    """
    try:
        copies = {
            name: tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
            for name, tensor in tensors.items()
        }
        return safetensors.torch.save(copies)
    except MemoryError:
        raise
    except Exception as error:
        raise ConfigError(
            f"tensors {list(tensors)!r:.120} cannot be stored: {str(error)[:120]!r}; use dense tensors"
        ) from error


def tensors_from_bytes(path: Path, data: bytes) -> dict[str, Tensor]:
    """Parse safetensors; raises `ModelFileError` naming `path` for anything else. Runs no code from the file."""
    with reading(path):
        try:
            return safetensors.torch.load(data)
        except MemoryError:
            raise
        except Exception as error:  # safetensors raises its own type, and KeyError or RuntimeError behind it
            raise ModelFileError(
                f"{quoted(path)} is not a safetensors file: {str(error)[:120]!r}; restore it from a copy"
            ) from error


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Replace the file `path` by `tensors`; raises as `tensors_to_bytes` and `write_atomic`."""
    write_atomic(path, tensors_to_bytes(tensors))


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU; raises `ModelFileError` when it is damaged, and as `read_bytes`."""
    return tensors_from_bytes(path, read_bytes(path))
