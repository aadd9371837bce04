"""Peak memory of a training step of network A above what was resident before it: MiB. Linux only.

Every figure is a process of its own, which has taken a small step before, so that libraries are loaded and kernels
compiled; what counts begins with making the network.
"""

import ctypes
import gc
import re
import sys
from argparse import Namespace
from pathlib import Path

from libraries import NETS, OURS, PEER_ROWS, training
from report import Panel, options, publish
from turns import fresh, in_turns

BATCH = 16
ROWS = (*OURS, *PEER_ROWS, "relu")


def peak(row: str, steps: int) -> float:
    """Bytes above the start."""
    training(row, "A", 2, 2).step()
    gc.collect()
    if hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
        libc.malloc_trim(0)  # else the step could live on what the imports left free
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM, the peak, starts again from VmRSS
    before = _status("VmRSS")
    training(row, "A", steps, BATCH).step()
    return _status("VmHWM") - before


def _status(key: str) -> float:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else float("nan")


def panel(args: Namespace, steps: int) -> Panel:
    return Panel(
        f"A: {NETS['A']}, T={steps}, batch {BATCH}",
        in_turns(args.rows, args.rounds, lambda row: fresh(peak, row, steps), warm_up=0),
        "MiB",
        lambda size: size / 2**20,
    )


if __name__ == "__main__":
    if sys.platform != "linux":
        sys.exit("memory.py reads /proc, which only Linux has")
    args = options(__doc__, ROWS, rounds=5)
    publish("memory", args, [panel(args, steps) for steps in (4, 8, 16, 32)])
