"""Compiled loops on several threads: each takes a stretch of the samples or of the neurons."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import torch

__all__ = ["ALONE", "spread"]

ALONE = 200_000  # synaptic events below which waking another thread costs more than it brings


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="spikewright-times")


def spread(function: Callable[..., None], count: int, work: float, *arguments: Any) -> None:
    """Call function(part, first, last, *arguments) on parts of range(count); `function` lets go of the interpreter."""
    threads = min(torch.get_num_threads(), count) if work > ALONE else 1
    if threads <= 1:
        function(0, 0, count, *arguments)
        return
    cuts = [count * k // threads for k in range(threads + 1)]
    others = [_pool(threads).submit(function, k, cuts[k], cuts[k + 1], *arguments) for k in range(1, threads)]
    function(0, 0, cuts[1], *arguments)
    for other in others:
        other.result()
