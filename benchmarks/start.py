"""From the start of a process to the end of its first training step, imports and compilation included: seconds.

Network B, batch 50, 5 steps. Cold: no compiled kernel in the cache; warm: the process before has left them there.
"""

import os
import tempfile
import time

from libraries import NETS, OURS, PEERS, training
from report import Panel, options, publish
from turns import fresh, in_turns

STEPS, BATCH = 5, 50
ROWS = (*OURS, *PEERS, "ann")


def first_step(row: str) -> float:
    """When it was done, on the clock that all processes share."""
    training(row, "B", STEPS, BATCH).step()
    return time.perf_counter()


def start(row: str, cache: str) -> float:
    os.environ["NUMBA_CACHE_DIR"] = os.environ["XDG_CACHE_HOME"] = cache  # the new process inherits it
    began = time.perf_counter()
    return fresh(first_step, row) - began


def cold(row: str) -> float:
    with tempfile.TemporaryDirectory() as cache:
        return start(row, cache)


if __name__ == "__main__":
    args = options(__doc__, ROWS, rounds=5)
    title = f"B: {NETS['B']}, T={STEPS}, batch {BATCH}"
    with tempfile.TemporaryDirectory() as kept:
        os.environ.setdefault("MPLCONFIGDIR", kept)  # two peers import matplotlib: its font list is no kernel
        at_cold = in_turns(args.rows, args.rounds, cold, warm_up=1)
        at_warm = in_turns(args.rows, args.rounds, lambda row: start(row, kept), warm_up=1)
        panels = [Panel(f"{title}, cold", at_cold, "s", float), Panel(f"{title}, warm", at_warm, "s", float)]
        publish("start", args, panels)
