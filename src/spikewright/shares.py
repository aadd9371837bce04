"""Sharing work out to as many threads as torch uses, for compiled loops that let go of the interpreter."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import torch

__all__ = ["in_shares"]


def in_shares(work: Callable[[int, int], Any], size: int, least: int) -> list[Any]:
    """work(start, stop) over 0 .. size in equal shares of at least `least`, at once; what they return, in order."""
    threads = max(1, min(torch.get_num_threads(), size // least))
    edges = [size * n // threads for n in range(threads + 1)]
    shares = list(pairwise(edges))
    if threads == 1:
        return [work(*share) for share in shares]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(lambda share: work(*share), shares))
