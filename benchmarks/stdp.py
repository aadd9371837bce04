"""Convolutional STDP networks: images a second of training either layer and of inference, encoding included.

DoG + 32C5 + 150C2 (Kheradpisheh) and LoG + 100C5 + 200C3 (Shirsavar), 15 steps, weights as first drawn, digits in
frames of 28 x 28, two threads. Ours learns from one image after the other, in the blocks and on the threads that
`spikewright train` takes; Spyker in batches of 64, whose potentials are those of the weights before the batch. The
firing rate is that of what the trained layer sees, or of what the network hands on.
"""

from __future__ import annotations

import os
from argparse import Namespace
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from libraries import Job, digits_28
from report import Panel, options, publish
from turns import time_steps

import spikewright as sw

ROWS = ("ours", "spyker")
IMAGES, BATCH = 2000, 64
NETS = {"kheradpisheh": "DoG + 32C5 + 150C2", "shirsavar": "LoG + 100C5 + 200C3"}
WORK = {"layer 1": "training of layer 1", "layer 2": "training of layer 2", "inference": "inference"}


def make(row: str, net: str, work: str) -> Job:
    return (ours if row == "ours" else spyker)(net, work)


def ours(net: str, work: str) -> Job:
    """A step is a pass over all images."""
    from spikewright import recipes
    from spikewright.encode import RankOrder
    from spikewright.engine.local import _Source
    from spikewright.fronts import LoG
    from spikewright.plasticity import loops
    from spikewright.plasticity.first_spike import Cascade

    torch.manual_seed(0)
    x, y = digits_28(IMAGES), torch.arange(IMAGES) % 10
    data = sw.Dataset.from_tensors("digits-28", x, y, x, y)
    phases = list(recipes.get(net)().plan(data))
    if net == "kheradpisheh":  # spyker's front: rectified differences of Gaussians of widths 1 and 2
        phases[0].snn.encode = RankOrder(LoG((2**0.5,)))
    cascade = Cascade.of(phases[0].snn, x)
    if work == "inference":
        return Job(lambda: cascade.times(x, 2), lambda: float((cascade.times(x, 2) < 15).mean()), IMAGES)
    number = int(work[-1]) - 1
    phase, layer = phases[number], cascade.layers[number]
    w, rule, k = layer.weights(), phase.rule, phase.winners.k
    numbers = (rule.ltp, rule.ltd, rule.weight.code, rule.weight.p, rule.bounds.low, rule.bounds.high)
    source = _Source(cascade, SimpleNamespace(train=data.train), phase, number, keep=False)

    def step() -> None:
        for events, which in source.blocks(torch.arange(IMAGES)):
            found, rates = np.empty((len(which), k, 4), np.int64), np.ones(len(which))
            winners = (layer.threshold, k, phase.winners.radius, numbers, rates, found)
            loops.learn(*events, which, w, *layer.geometry_arguments, *winners)

    def rate() -> float:
        events = cascade.events(x, number, phase.inhibit_input)
        return len(events.at) / len(x) / np.prod(layer.geometry.shape)

    return Job(step, rate, IMAGES)


def spyker(net: str, work: str) -> Job:
    """A step is a batch."""
    import spyker as sp

    sp.set_max_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    cpu, dog = sp.device("cpu"), net == "kheradpisheh"
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
    batches = cycle([batch.contiguous() for batch in digits_28(IMAGES).split(BATCH)[: IMAGES // BATCH]])

    def handed_on(upto: int) -> Any:
        a = sp.code(sp.threshold(front(next(batches)), 0.01), 15)
        for n in range(upto):
            a = sp.pool(sp.fire(convs[n](a), thresholds[n]), pools[n], **pads[n])
        return a

    def seen(a: Any, n: int) -> Any:
        return sp.inhibit(a) if dog and n else a

    def train(n: int) -> None:
        a = handed_on(n)
        o = sp.inhibit(sp.threshold(convs[n](seen(a, n)), thresholds[n]))
        convs[n].stdp(a, sp.convwta(o, *winners[n]), sp.fire(o))

    upto = 2 if work == "inference" else int(work[-1]) - 1

    def rate() -> float:
        a = handed_on(2) if upto == 2 else seen(handed_on(upto), upto)
        return float((torch.as_tensor(a) != 0).any(1).float().mean())

    return Job((lambda: handed_on(2)) if upto == 2 else (lambda: train(upto)), rate, BATCH)


def panel(args: Namespace, net: str, work: str) -> Panel:
    measured = time_steps(args.rows, args.rounds, make, net, work)
    return Panel(f"{net}: {NETS[net]}, {WORK[work]}", measured, "images/s", lambda seconds: 1 / seconds)


if __name__ == "__main__":
    args = options(__doc__, ROWS, rounds=7, threads=2)
    publish("stdp", args, [panel(args, net, work) for net in NETS for work in WORK])
