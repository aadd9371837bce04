"""Where the time of our own training steps and inference goes: shares of the profile, in %, and the next bound.

"bound" is how many times as fast a step would be if all but its convolutions and matrix products cost nothing;
"products" is what share of the speed of a large matrix product these reach in inference.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch
from libraries import NETS, Job, inference, training
from report import options, provenance_of
from torch.profiler import ProfilerActivity, profile, record_function

from spikewright.kernels import cpu
from spikewright.storage import write_atomic

PARTS = {
    "aten::mkldnn_convolution": "convolutions, forward",
    "aten::convolution_backward": "convolutions, backward",
    "aten::addmm": "dense layers",
    "aten::mm": "dense layers",
    "_IntegrateAndFire": "neurons and pooling, forward",
    "neurons": "neurons and pooling, forward",
    "_IntegrateAndFireBackward": "neurons and pooling, backward",
}
PRODUCTS = ("convolutions, forward", "convolutions, backward", "dense layers")
SIZES = {"A": (10, 64), "B": (5, 50)}  # steps, batch
MACS = {  # of one image: behind the stem every step costs all of them
    "A": (64 * 9 * 28 * 28, 10 * (128 * 64 * 9 * 14 * 14 + 128 * 128 * 9 * 7 * 7 + 512 * 1152 + 10 * 512)),
    "B": (15 * 25 * 24 * 24, 5 * (40 * 15 * 25 * 8 * 8 + 300 * 640 + 10 * 300)),
}


def shares(job: Job, rounds: int) -> dict[str, float]:
    """Share of each part in a step, in %; Python between operations counts as the rest."""
    for _ in range(3):
        job.step()
    with profile(activities=[ProfilerActivity.CPU]) as found, patch.object(cpu, "forward", _told(cpu.forward)):
        for _ in range(rounds):
            with record_function("step"):
                job.step()
    parts: Counter[str] = Counter()
    for event in found.key_averages():
        parts[PARTS.get(event.key, "the rest")] += event.self_cpu_time_total
    total = parts.total()
    return {name: 100 * part / total for name, part in parts.most_common()}


def _told(forward: Callable[..., object]) -> Callable[..., object]:
    """The kernel's forward pass as something that the profile shows without a backward pass as well."""

    def run(*args: Any) -> object:
        with record_function("neurons"):
            return forward(*args)

    return run


def fastest(step: Callable[[], object], seconds: float = 3) -> float:
    """Seconds of the fastest of many turns."""
    times, end = [], time.perf_counter() + seconds
    while not times or time.perf_counter() < end:
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return min(times)


def product_speed(dtype: torch.dtype, n: int = 2048) -> float:
    """Multiply-accumulates a second of a large matrix product."""
    a, b = torch.randn(n, n).to(dtype), torch.randn(n, n).to(dtype)
    return n**3 / fastest(lambda: a @ b)


def main(args: argparse.Namespace) -> None:
    speed = {"ours-float32": product_speed(torch.float32), "ours-bf16": product_speed(torch.bfloat16)}
    rows: dict[str, Any] = {}
    for name, work in (("training", training), ("inference", inference)):
        for net, (steps, batch) in SIZES.items():
            for row in args.rows:
                job = work(row, net, steps, batch)
                parts = shares(job, args.rounds)
                found: dict[str, Any] = {"share_percent": parts}
                in_products = sum(parts.get(part, 0) for part in PRODUCTS)
                found["bound"] = 100 / in_products
                if name == "inference":
                    stem, rest = MACS[net]
                    least = batch * (stem / speed["ours-float32"] + rest / speed[row])
                    found["products_percent"] = 100 * least / (fastest(job.step) * in_products / 100)
                rows[f"{name} {net} {row}"] = found
                told = ", ".join(f"{part} {share:.0f} %" for part, share in parts.items())
                reach = f"; products at {found['products_percent']:.0f} %" if name == "inference" else ""
                print(f"{name} {net} ({NETS[net]}), {row}: {told}; bound {found['bound']:.2f} x{reach}", flush=True)
    giga = {row: round(2e-9 * macs) for row, macs in speed.items()}
    print(f"a large matrix product: {giga['ours-float32']} GFLOP/s in float32, {giga['ours-bf16']} in bf16")
    record = {"benchmark": "where", **provenance_of(args), "gflops_of_a_large_product": giga, "workloads": rows}
    write_atomic(args.out / "where.json", (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main(options(__doc__, ("ours-float32", "ours-bf16"), rounds=8))
