"""Compiled loops on several threads: each takes a stretch of the samples or of the neurons."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch

__all__ = ["ALONE", "TILE", "spread"]

ALONE = 200_000  # synaptic events below which waking another thread costs more than it brings
TILE = 128  # neurons whose weights stay in a core's cache while sample after sample takes them


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="spikewright-times")


def spread(function: Callable[..., None], count: int, work: float, *arguments: Any, tile: int = 0) -> None:
    """Call function(part, first, last, *arguments) on parts of range(count), one a thread; `function` lets go of the
    interpreter. `tile`: a call takes so many at most."""
    threads = min(torch.get_num_threads(), count) if work > ALONE else 1
    cuts = [count * k // threads for k in range(threads + 1)]
    most = tile or count or 1

    def part(k: int) -> None:
        for first in range(cuts[k], cuts[k + 1], most):
            function(k, first, min(first + most, cuts[k + 1]), *arguments)

    others = [_pool(threads).submit(part, k) for k in range(1, threads)]
    part(0)
    for other in others:
        other.result()
