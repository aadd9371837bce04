"""LIF neurons alone, forward and backward over 16 steps: nanoseconds per neuron and step.

"relu" is torch.relu forward and backward, "bytes" what a fused neuron must move through memory, without allocating.
"""

from argparse import Namespace

from libraries import OURS, PEER_ROWS, bf16, neuron
from report import Panel, options, publish
from turns import time_steps

STEPS = 16
ROWS = (*OURS, *PEER_ROWS, "relu", "bytes", "bytes-bf16")


def panel(args: Namespace, neurons: int) -> Panel:
    return Panel(
        f"T={STEPS}, N={neurons:,}",
        time_steps(args.rows, args.rounds, neuron, STEPS, neurons),
        "ns per neuron and step",
        lambda seconds: seconds * 1e9 / STEPS / neurons,
        against=("/ bytes", lambda row: "bytes-bf16" if bf16(row) else "bytes", 1),
    )


if __name__ == "__main__":
    args = options(__doc__, ROWS)
    publish("neuron", args, [panel(args, 2**16), panel(args, 2**20)])
