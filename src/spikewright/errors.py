"""What can go wrong, by exit code.

Every error a user can cause is one of these, raised at the boundary with one line that names the thing, the value
found, what was expected and the remedy. The command line prints that line on standard error and exits with `code`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any, SupportsFloat, TypeVar

__all__ = [
    "BusyError",
    "ConfigError",
    "DataError",
    "ModelFileError",
    "NumericError",
    "ResourceError",
    "SpikewrightError",
    "expect",
    "positive",
    "unknown",
    "whole",
]

T = TypeVar("T")


class SpikewrightError(Exception):
    """Base of all errors the library raises on purpose; `code` is the exit code of the command line."""

    code = 1


class ConfigError(SpikewrightError, ValueError):
    """Bad usage: an unknown name, a parameter out of range, shapes that do not fit together."""

    code = 2


class DataError(SpikewrightError, ValueError):
    """Bad data: a file that is missing, damaged or not what its checksum says; values a network cannot take."""

    code = 3


class ModelFileError(SpikewrightError):
    """A model folder or checkpoint that is damaged, of another format, or does not belong to this run."""

    code = 4


class ResourceError(SpikewrightError):
    """Out of memory or disk space."""

    code = 5


class NumericError(SpikewrightError, ArithmeticError):
    """NaN or infinity where there must be none; names the layer."""

    code = 6


class BusyError(SpikewrightError):
    """The run folder is in use by another process."""

    code = 7


def expect(owner: str, name: str, value: Any, kind: type[T]) -> T:
    """`value` if it is a `kind`; a ConfigError that says what `owner` wants for `name` if not."""
    if not isinstance(value, kind):
        raise ConfigError(f"{owner}: {name} is {value!r}, expected a {kind.__name__} (an instance, not its class)")
    return value


def positive(owner: str, name: str, value: Any, what: str = "number", *, unit: str = "", zero: bool = False) -> Any:
    """`value` if it is finite and above 0 (or 0, if `zero` is allowed); a ConfigError that says what `owner` wants if
    not."""
    number = float(value) if isinstance(value, SupportsFloat) and not isinstance(value, bool) else math.nan
    if not (0 < number < math.inf or (zero and number == 0)):
        bound = f"{'of at least' if zero else 'above'} 0 {unit}".rstrip()
        raise ConfigError(f"{owner}: {name} is {value!r}, expected a finite {what} {bound}")
    return value


def whole(owner: str, name: str, value: Any, least: int = 1, most: float = math.inf) -> int:
    """`value` if it is a whole number from `least` to `most`; a ConfigError that says what `owner` wants if not."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        limit = f" and at most {most:,}" if most < math.inf else ""
        named = f"{owner}: {name}" if owner else name
        raise ConfigError(f"{named} is {value!r}, expected a whole number of at least {least}{limit}")
    return value


def unknown(what: str, name: str, known: Iterable[str], hint: str = "") -> ConfigError:
    """The error for a `name` that is not among the `known`: it tells the close ones, or else all; then the hint."""
    every = list(known)
    close = difflib.get_close_matches(name.lower(), every, 2, 0.5)
    told = f"did you mean {' or '.join(map(repr, close))}?" if close else f"there are {', '.join(every)}"
    return ConfigError(f"unknown {what} {name!r}: {told}{hint}")
