"""Inference of two networks: images a second. "ann" and "relu" are the floors of `training.py`."""

from argparse import Namespace

from libraries import NETS, OURS, PEER_ROWS, inference
from report import Panel, options, publish
from turns import time_steps

ROWS = (*OURS, *PEER_ROWS, "relu", "ann")


def panel(args: Namespace, net: str, steps: int, batch: int) -> Panel:
    return Panel(
        f"{net}: {NETS[net]}, T={steps}, batch {batch}",
        time_steps(args.rows, args.rounds, inference, net, steps, batch),
        "images/s",
        lambda seconds: batch / seconds,
    )


if __name__ == "__main__":
    args = options(__doc__, ROWS)
    publish("inference", args, [panel(args, "A", 10, 64), panel(args, "B", 5, 50)])
