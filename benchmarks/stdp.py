"""Convolutional STDP networks: images a second of training either layer and of inference, encoding included.

DoG + 32C5 + 150C2 (Kheradpisheh) and LoG + 100C5 + 200C3 (Shirsavar), 15 steps, initial weights, digits enlarged to
28 x 28 in batches of 64. Ours learns from one sample after the other; spyker, where it is installed, computes the
potentials of a whole batch with the same weights.
"""

from __future__ import annotations

import importlib.util
import os
from argparse import Namespace
from typing import Any

import numpy as np
import torch
from libraries import Job
from report import Panel, options, publish
from torch.nn.functional import interpolate
from turns import time_steps

import spikewright as sw

ROWS = ("ours", "spyker")
BATCH = 64
NETS = {"kheradpisheh": "DoG + 32C5 + 150C2", "shirsavar": "LoG + 100C5 + 200C3"}
WORK = {"layer 1": "training of layer 1", "layer 2": "training of layer 2", "inference": "inference"}


def images() -> torch.Tensor:
    return interpolate(sw.load("digits").train.batch(torch.arange(BATCH)), size=28, mode="bilinear")


def make(row: str, net: str, work: str) -> Job:
    return (ours if row == "ours" else spyker)(net, work)


def ours(net: str, work: str) -> Job:
    from spikewright import recipes
    from spikewright.encode import RankOrder
    from spikewright.fronts import LoG
    from spikewright.plasticity import loops
    from spikewright.plasticity.first_spike import Cascade

    torch.manual_seed(0)
    x = images()
    shaped = sw.Dataset.from_tensors("digits-28", x, torch.arange(BATCH) % 10, x, torch.arange(BATCH) % 10)
    phases = list(recipes.get(net)().plan(shaped))
    if net == "kheradpisheh":  # spyker's front: rectified differences of Gaussians of widths 1 and 2
        phases[0].snn.encode = RankOrder(LoG((2**0.5,)))
    cascade = Cascade.of(phases[0].snn, x)
    if work == "inference":
        return Job(lambda: cascade.times(x, 2), lambda: float((cascade.times(x, 2) < 15).mean()))
    number = int(work[-1]) - 1
    phase, layer = phases[number], cascade.layers[number]
    w, rule = layer.weights(), phase.rule
    found = np.empty((BATCH, phase.winners.k, 4), np.int64)
    numbers = (rule.ltp, rule.ltd, rule.weight.code, rule.weight.p, rule.bounds.low, rule.bounds.high)
    winners = (layer.threshold, phase.winners.k, phase.winners.radius, numbers, np.ones(BATCH), found)

    def step() -> None:
        events = cascade.events(x, number, phase.inhibit_input)
        loops.learn(*events, np.arange(BATCH), w, *layer.geometry_arguments, *winners)

    def rate() -> float:
        step()
        return float((found[:, :, 3] >= 0).mean())

    return Job(step, rate)


def spyker(net: str, work: str) -> Job:
    import spyker as sp

    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    sp.set_max_threads(threads)
    cpu, x, dog = sp.device("cpu"), images().contiguous(), net == "kheradpisheh"
    mean, std = (0.8, 0.05) if dog else (0.5, 0.02)
    if dog:
        front = sp.DoG(3, [sp.DoGFilter(1, 2), sp.DoGFilter(2, 1)], pad=3, device=cpu)
        sizes, thresholds, pads = [(2, 32, 5, 2), (32, 150, 2, 1)], (10, 1), ({"pad": 1}, {"pad": 1})
        pools, winners, rates = (2, 2), ((2, 5), (1, 8)), (0.004, -0.003)
    else:
        front = sp.LoG(3, [0.471404521, 1.099943882, 2.042752923], pad=3, device=cpu)
        sizes, thresholds, pads = [(6, 100, 5, 2), (100, 200, 3, 1)], (16, 5), ({}, {})
        pools, winners, rates = (2, 3), ((3, 5), (1, 8)), (0.0004, -0.0003)
    convs = [sp.Conv(c, f, k, pad=p, mean=mean, std=std, device=cpu) for c, f, k, p in sizes]
    for conv in convs:
        conv.stdpconfig = [sp.STDPConfig(*rates)]

    def handed_on(upto: int) -> Any:
        a = sp.code(sp.threshold(front(x), 0.01), 15)
        for n in range(upto):
            a = sp.pool(sp.fire(convs[n](a), thresholds[n]), pools[n], **pads[n])
        return a

    def train(n: int) -> None:
        a = handed_on(n)
        seen = sp.inhibit(a) if dog and n else a
        o = sp.inhibit(sp.threshold(convs[n](seen), thresholds[n]))
        convs[n].stdp(a, sp.convwta(o, *winners[n]), sp.fire(o))

    return Job(lambda: handed_on(2) if work == "inference" else train(int(work[-1]) - 1))


def panel(args: Namespace, net: str, work: str) -> Panel:
    return Panel(
        f"{net}: {NETS[net]}, {WORK[work]}",
        time_steps(args.rows, args.rounds, make, net, work),
        "images/s",
        lambda seconds: BATCH / seconds,
        ("/ spyker", lambda row: "spyker", 1.0) if "spyker" in args.rows else None,
    )


if __name__ == "__main__":
    args = options(__doc__, ROWS)
    if importlib.util.find_spec("spyker") is None:
        print("not installed, left out: spyker")
        args.rows = [row for row in args.rows if row != "spyker"]
    publish("stdp", args, [panel(args, net, work) for net in NETS for work in WORK])
