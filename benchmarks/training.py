"""A training step of three networks: images a second.

"ann" is the network with ReLU and one step, "relu" the same on T times as many images: the floor of a network that
runs layer by layer in float32. "/ ann / T" is what a step of the SNN costs beside one of the ANN, per time step.
"""

from argparse import Namespace

from libraries import NETS, OURS, PEER_ROWS, training
from report import Panel, options, publish
from turns import time_steps

ROWS = (*OURS, *PEER_ROWS, "relu", "ann")


def panel(args: Namespace, net: str, steps: int, batch: int) -> Panel:
    return Panel(
        f"{net}: {NETS[net]}, T={steps}, batch {batch}",
        time_steps(args.rows, args.rounds, training, net, steps, batch),
        "images/s",
        lambda seconds: batch / seconds,
        against=("/ ann / T", lambda row: "ann", steps),
    )


if __name__ == "__main__":
    args = options(__doc__, ROWS)
    publish("training", args, [panel(args, "A", 10, 64), panel(args, "B", 5, 50), panel(args, "F", 25, 128)])
