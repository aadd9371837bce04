"""Diehl & Cook's network in Brian2, for diehl_cook.py: run by a Python that has Brian2, driven over pipes.

Arguments: neurons, how many images, whether it learns (1 or 0). On standard input come the images, float32 of 784 each,
then a byte for every one to present; each is answered by a line, the spikes so far. Cython's first compilation takes
minutes; Brian2 keeps what it makes.
"""

import sys

import brian2 as b
import numpy as np
from brian2 import Hz, ms, mV

CELL = """
dv/dt = (v_rest - v - ge * v + gi * (v_inh - v)) / tau : volt (unless refractory)
dge/dt = -ge / (1 * ms) : 1
dgi/dt = -gi / (2 * ms) : 1
"""
TRACES = """
w : 1
dpre/dt = -pre / (20 * ms) : 1 (event-driven)
dpost/dt = -post / (20 * ms) : 1 (event-driven)
dpost_slow/dt = -post_slow / (40 * ms) : 1 (event-driven)
"""
ON_PRE = "w = clip(w - 1e-4 * post, 0, 1); pre = 1"
ON_POST = "w = clip(w + 1e-2 * pre * post_slow, 0, 1); post = 1; post_slow = 1"


def network(neurons: int, learn: bool):
    """(network, input, the synapses that learn, count of the spikes): the paper's equations at 0.5 ms."""
    b.defaultclock.dt = 0.5 * ms
    rest = {"v_rest": -65 * mV, "v_inh": -100 * mV, "tau": 100 * ms, "up": (0.05 if learn else 0) * mV}
    theta = f"dtheta/dt = {'-theta / (1e7 * ms)' if learn else '0 * volt / second'} : volt"
    fires = {"threshold": "v > theta - 72 * mV", "reset": "v = -65 * mV; theta += up", "refractory": 5 * ms}
    cells = b.NeuronGroup(neurons, CELL + theta, **fires, method="euler", namespace=rest)
    rest = {"v_rest": -60 * mV, "v_inh": -85 * mV, "tau": 10 * ms}
    fires = {"threshold": "v > -40 * mV", "reset": "v = -45 * mV", "refractory": 2 * ms}
    partners = b.NeuronGroup(neurons, CELL, **fires, method="euler", namespace=rest)
    cells.v, cells.theta, partners.v = -65 * mV, 20 * mV, -60 * mV
    pixels = b.PoissonGroup(784, 0 * Hz)
    learned = {"model": TRACES, "on_pre": f"ge_post += w; {ON_PRE}", "on_post": ON_POST}
    synapses = b.Synapses(pixels, cells, **(learned if learn else {"model": "w : 1", "on_pre": "ge_post += w"}))
    synapses.connect()
    synapses.w = np.random.default_rng(0).uniform(0.003, 0.303, 784 * neurons)
    excite = b.Synapses(cells, partners, on_pre="ge_post += 10.4")
    excite.connect(j="i")
    inhibit = b.Synapses(partners, cells, on_pre="gi_post += 17")
    inhibit.connect("i != j")
    count = b.SpikeMonitor(cells, record=False)
    return b.Network(cells, partners, pixels, synapses, excite, inhibit, count), pixels, synapses, count


def main(neurons: int, images: int, learn: bool) -> None:
    b.prefs.codegen.target = "cython"
    b.seed(0)
    x = np.frombuffer(sys.stdin.buffer.read(images * 784 * 4), np.float32).reshape(images, 784)
    net, pixels, synapses, count = network(neurons, learn)
    at = 0
    while sys.stdin.buffer.read(1):
        if learn:
            weights = np.asarray(synapses.w).reshape(784, neurons)
            synapses.w = (weights * (78.4 / weights.sum(0))).ravel()
        pixels.rates = x[at % images] * 2 * 255 / 8 * Hz
        net.run(350 * ms)
        if learn:
            pixels.rates = 0 * Hz
            net.run(150 * ms)
        at += 1
        print(count.num_spikes, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "1")
