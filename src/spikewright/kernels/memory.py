"""Memory that is freed in one step of training, kept for the next."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import cache

__all__ = ["keep_memory"]

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h


@cache
def keep_memory() -> None:
    """Ask glibc to keep freed blocks for the next step of training instead of giving them back to the system.

    Getting large blocks anew costs a page fault for every 4 KiB, more than a pass over them. Other C libraries are not
    asked, and SPIKEWRIGHT_MALLOC=system leaves the allocator as it is.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None and os.environ.get("SPIKEWRIGHT_MALLOC") != "system":
        for option, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1)):
            mallopt(option, value)
