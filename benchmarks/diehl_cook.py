"""Diehl & Cook's network, 784-400: images a second in training and in inference, one image at a time, one thread.

Ours is what `spikewright train diehl-cook --rule triplet` runs: 350 ms + 150 ms of rest in steps of 0.5 ms,
conductances, sequential; `ours-pairs` what BindsNET's `DiehlAndCook2015` runs: 250 steps of 1 ms, cells driven by
jumps, pair rule (but inhibition from cell to cell, no second layer). Brian2 has the equations of ours, without rest in
inference: `brian.py`, in an environment of its own.
"""

from argparse import Namespace

from libraries import BRIAN, Job, digits_28
from report import Panel, options, publish
from turns import time_steps

ROWS = ("ours", "ours-pairs", "bindsnet", "brian2")
NEURONS, IMAGES = 400, 64
STEPS = {"ours": 700, "ours-pairs": 250}


def job(row: str, learn: bool) -> Job:
    """A step is one image, of ours all."""
    return {"bindsnet": bindsnet, "brian2": brian}[row](learn) if row not in STEPS else ours(row, learn)


def ours(row: str, learn: bool) -> Job:
    import math

    import numpy as np
    import torch

    from spikewright import recipes
    from spikewright.data import Dataset
    from spikewright.plasticity.competing import CompetingLayer

    torch.manual_seed(0)
    x = digits_28(IMAGES)
    data = Dataset.from_tensors("digits-28", x, torch.arange(IMAGES) % 10, x, torch.arange(IMAGES) % 10)
    if row == "ours":
        recipe, h, rest = recipes.get("diehl-cook")(neurons=NEURONS, rule="triplet"), 0.5, 300
    else:  # one field that is the whole image
        one_field = {"kernels": NEURONS, "kernel": 28, "stride": 1, "crop": 0}
        recipe, h, rest = recipes.get("lc-snn")(**one_field, inhibition=120.0, norm=0.1), 1.0, -1
    phase = next(iter(recipe.plan(data)))
    layer = CompetingLayer(phase.snn, data.shape, phase.rule)
    state, at = layer.rest(), [0]
    plus = 0.05 if learn else 0.0
    constants = layer.constants(
        norm=phase.norm.total, theta_plus=plus, theta_decay=math.exp(-h / 1e7), rest=rest if learn else 0
    )

    def step() -> torch.Tensor:
        at[0] += IMAGES
        return layer.show(x, np.arange(at[0], at[0] + IMAGES), state, constants, learn)[0]

    return Job(step, lambda: step().double().mean().item() / STEPS[row], IMAGES)


def bindsnet(learn: bool) -> Job:
    import torch

    # a torchvision built for CUDA cannot declare its operators beside a torch without; BindsNET needs none
    schemas = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        schemas.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    from bindsnet.encoding import poisson
    from bindsnet.models import DiehlAndCook2015
    from bindsnet.network.monitors import Monitor

    torch.manual_seed(0)
    net = DiehlAndCook2015(
        n_inpt=784, n_neurons=NEURONS, exc=22.5, inh=120, theta_plus=0.05, norm=78.4, inpt_shape=(1, 28, 28)
    )
    net.train(learn)
    x, at = digits_28(IMAGES), [0]

    def step() -> None:
        spikes = poisson(x[at[0] % IMAGES] * 128, time=250, dt=1.0)[:, None]
        net.run(inputs={"X": spikes}, time=250)
        net.reset_state_variables()
        at[0] += 1

    def rate() -> float:
        spikes = Monitor(net.layers["Ae"], ["s"], time=250)
        net.add_monitor(spikes, "spikes")
        net.run(inputs={"X": poisson(x[0] * 128, time=250, dt=1.0)[:, None]}, time=250)
        found = spikes.get("s").double().mean().item()
        del net.monitors["spikes"]
        net.reset_state_variables()
        return found

    return Job(step, rate)


def brian(learn: bool) -> Job:
    import subprocess
    from pathlib import Path

    script = Path(__file__).with_name("brian.py")
    command = [BRIAN, script, str(NEURONS), str(IMAGES), str(int(learn))]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    process.stdin.write(digits_28(IMAGES).numpy().tobytes())

    def step() -> int:
        process.stdin.write(b".")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError(f"brian.py ended with exit code {process.wait()}")
        return int(answer)

    return Job(step, lambda: step() / NEURONS / 700)


def panel(args: Namespace, learn: bool) -> Panel:
    title = f"Diehl & Cook, {NEURONS} neurons, batch 1, {'training' if learn else 'inference'}"
    return Panel(title, time_steps(args.rows, args.rounds, job, learn), "images/s", lambda seconds: 1 / seconds)


if __name__ == "__main__":
    args = options(__doc__, ROWS, rounds=7, threads=1)
    publish("diehl_cook", args, [panel(args, learn) for learn in (True, False)])
