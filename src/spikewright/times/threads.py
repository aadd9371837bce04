"""Compiled loops on several threads: each takes a stretch of the samples or of the neurons."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from spikewright.shares import at_once, shares

__all__ = ["ALONE", "TILE", "spread"]

ALONE = 200_000  # synaptic events below which waking another thread costs more than it brings
TILE = 128  # neurons whose weights stay in a core's cache while sample after sample takes them


def spread(function: Callable[..., None], count: int, work: float, *arguments: Any, tile: int = 0) -> None:
    """Call function(part, first, last, *arguments) on parts of range(count), one a thread; `function` lets go of the
    interpreter. `tile`: a call takes so many at most."""
    most = tile or count or 1

    def stretch(part: int, start: int, stop: int) -> None:
        for first in range(start, stop, most):
            function(part, first, min(first + most, stop), *arguments)

    parts = shares(count, 1 if work > ALONE else count)
    at_once([partial(stretch, part, *share) for part, share in enumerate(parts)])
