"""Compiled loops on torch's own threads: a second pool would fight for the cores with the first, whose threads go on
looking for work for a while after each operation."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch
from threadpoolctl import threadpool_info

__all__ = ["run_on_team"]

_LOOP = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def run_on_team(loop: int, call: int, threads: int) -> None:
    """Call a compiled loop (by its address) with the address of its call, in so many threads at once."""
    if threads == 1:
        _LOOP(loop)(call)
    else:
        _team()(loop, call, threads)


@cache
def _team() -> Callable[[int, int, int], None]:
    """The OpenMP library that torch has loaded, else threads of Python's."""
    home = str(Path(torch.__file__).parent)
    libraries = [info["filepath"] for info in threadpool_info() if info["user_api"] == "openmp"]
    for path in sorted(libraries, key=lambda path: not path.startswith(home)):
        parallel = getattr(ctypes.CDLL(path), "GOMP_parallel", None)
        if parallel is not None:
            parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
            parallel.restype = None
            return lambda loop, call, threads: parallel(loop, call, threads, 0)
    pool = ThreadPoolExecutor(thread_name_prefix="spikewright")

    def run(loop: int, call: int, threads: int) -> None:
        others = [pool.submit(_LOOP(loop), call) for _ in range(threads - 1)]
        _LOOP(loop)(call)
        for other in others:
            other.result()

    return run
