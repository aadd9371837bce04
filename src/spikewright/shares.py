"""Sharing work out to as many threads as torch uses, for compiled loops that let go of the interpreter."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch

__all__ = ["at_once", "in_shares", "shares"]


def shares(size: int, least: int) -> list[tuple[int, int]]:
    """0 .. size in equal stretches of at least `least`, one a thread; at least one stretch."""
    threads = max(1, min(torch.get_num_threads(), size // max(1, least)))
    return list(pairwise(size * n // threads for n in range(threads + 1)))


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="spikewright")


os.register_at_fork(after_in_child=_pool.cache_clear)  # its threads do not live on in a forked process


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Make all the calls, the first on this thread and the others on threads of their own; what they return, in order.
    None of them may share work out itself."""
    others = [_pool(len(calls)).submit(call) for call in calls[1:]]
    return [calls[0](), *(other.result() for other in others)]


def in_shares(work: Callable[[int, int], Any], size: int, least: int) -> list[Any]:
    """work(start, stop) over the shares of 0 .. size at once; what they return, in order."""
    return at_once([partial(work, *share) for share in shares(size, least)])
