"""Diehl & Cook's network, 784 inputs: images a second in training and in inference, one image at a time, one thread.

Ours is what `spikewright train diehl-cook` runs: 350 ms + 150 ms of rest in steps of 0.5 ms, conductances, all
plasticity, sequential. BindsNET's is its own `DiehlAndCook2015`: 250 ms in steps of 1 ms, current-based, pair rule.
Brian2's would be the paper's equations; it wants an environment of its own (numpy below 2.3) and is not run here.
"""

from libraries import Job
from report import Panel, options, publish
from turns import time_steps

ROWS = ("ours-float32", "bindsnet")


def images(count):
    """Digits of 8 x 8 enlarged to 20 x 20 in a frame of 28 x 28: [count, 1, 28, 28] in 0..1."""
    import torch
    from sklearn.datasets import load_digits

    x = torch.tensor(load_digits().images[:count] / 16, dtype=torch.float32)[:, None]
    x = torch.nn.functional.interpolate(x, size=20, mode="bilinear", align_corners=True)
    return torch.nn.functional.pad(((x - 0.15) / 0.7).clamp(0, 1), (4, 4, 4, 4))


def job(row, neurons, learn):
    """A step is one image."""
    return (ours if row.startswith("ours") else bindsnet)(neurons, learn)


def ours(neurons, learn):
    import math

    import numpy as np
    import torch

    from spikewright import recipes
    from spikewright.data import Dataset
    from spikewright.plasticity.competing import CompetingLayer

    torch.manual_seed(0)
    x = images(64)
    data = Dataset.from_tensors("digits28", x, torch.arange(64) % 10, x, torch.arange(64) % 10)
    phase = next(iter(recipes.get("diehl-cook")(neurons=neurons).plan(data)))
    layer = CompetingLayer(phase.snn, data.shape, phase.rule)
    state = layer.rest()
    constants = layer.constants(
        norm=phase.norm.total, theta_plus=0.05, theta_decay=math.exp(-0.5 / 1e7), rest=300 if learn else 0
    )
    at = [0]

    def step():
        i = at[0] % 64
        at[0] += 1
        return layer.show(x[i : i + 1], np.array([at[0]]), state, constants, learn)[0]

    return Job(step, lambda: step().double().mean().item() / 700)


def bindsnet(neurons, learn):
    import torch
    from bindsnet.encoding import poisson
    from bindsnet.models import DiehlAndCook2015

    torch.manual_seed(0)
    net = DiehlAndCook2015(
        n_inpt=784,
        n_neurons=neurons,
        exc=22.5,
        inh=120,
        dt=1.0,
        norm=78.4,
        nu=(1e-4, 1e-2),
        theta_plus=0.05,
        inpt_shape=(1, 28, 28),
    )
    net.train(learn)
    x, at = images(64), [0]

    def step():
        spikes = poisson(x[at[0] % 64] * 128, time=250, dt=1.0)[:, None]
        net.run(inputs={"X": spikes}, time=250)
        net.reset_state_variables()
        at[0] += 1

    return Job(step)


if __name__ == "__main__":
    args = options(__doc__, ROWS)
    panels = [
        Panel(
            f"{'training' if learn else 'inference'}, {neurons} neurons",
            time_steps(args.rows, args.rounds, job, neurons, learn),
            "images/s",
            lambda seconds: 1 / seconds,
        )
        for neurons in (100, 400)
        for learn in (True, False)
    ]
    publish("diehl_cook", args, panels)
