"""First-spike networks: the compiled loops against the SNN they simulate and against the parts' definitions."""

from __future__ import annotations

import math
from collections import OrderedDict
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

import spikewright as sw
from spikewright.arch import Block, SpikeConv2d, first_spike_layers
from spikewright.encode import Direct, RankOrder
from spikewright.errors import ConfigError
from spikewright.fronts import LoG
from spikewright.neurons import OnceIF
from spikewright.plasticity import (
    Additive,
    Bounds,
    KWinners,
    Order,
    PowerLaw,
    Stabiliser,
    convolution,
    earliest,
    loops,
    pointwise,
)
from spikewright.plasticity.first_spike import Cascade, events_of

T = 15
BLOCKS = (Block(7, 3, 1, 9.3, (2, 2, 1)), Block(9, 2, 1, 15.0, (2, 2, 0), 0.6, 0.25))


def images(count=20, size=10, seed=0):
    x = torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(seed))
    return (x * (x > 0.5)).double()


FRONT = LoG((1.0, 2.0))


def network(blocks=BLOCKS, front=FRONT, seed=1):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = first_spike_layers(2 * len(front.sigmas), blocks)
    return sw.SNN(nn.Sequential(OrderedDict(layers, flat=nn.Flatten())), T, RankOrder(front)).double()


def numbers(rule):
    return float(rule.ltp), float(rule.ltd), rule.weight.code, float(rule.weight.p), rule.bounds.low, rule.bounds.high


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("grad", [False, True], ids=["compiled", "torch"])
def test_events_fire_as_the_network_does(grad, threads):
    """Wave algebra = event simulation = the SNN: every neuron's first spike, behind both layers."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        snn, x = network(), images(300 if threads > 1 else 20)
        cascade = Cascade.of(snn, x)
        with torch.set_grad_enabled(grad):
            spikes = snn.run(x).out
        first = torch.where(spikes.any(0), spikes.argmax(0), T)
        found = cascade.times(x, 2)
        assert spikes.sum(0).max() == 1 and 0.1 < (found < T).mean() < 0.99 and len(np.unique(found)) > 5
        assert np.array_equal(found, first.numpy())
        wave = (torch.arange(T).view(-1, 1, 1, 1, 1) >= snn.encode.times(x, T)).double()
        for n, block in enumerate(BLOCKS, 1):
            conv, pool = snn.body.get_submodule(f"conv{n}"), snn.body.get_submodule(f"pool{n}")
            wave = torch.stack(
                [
                    pool((nn.functional.conv2d(s, conv.weight, padding=block.padding) > block.v_th).double())
                    for s in wave
                ]
            )
        assert np.array_equal(found, (T - wave.sum(0)).flatten(1).detach().numpy())
    finally:
        torch.set_num_threads(before)


def test_events_are_the_times():
    times = np.random.default_rng(0).integers(0, T + 2, (5, 40)).clip(max=T).astype(np.uint8)
    events = events_of(times, T)
    for n in range(5):
        for t in range(T):
            assert (
                events.at[events.ends[n, t] : events.ends[n, t + 1]].tolist() == np.flatnonzero(times[n] == t).tolist()
            )
    assert events.at.dtype == np.uint16 and len(events) == 5


def test_inhibited_inputs_are_those_of_the_definition():
    times = np.random.default_rng(1).integers(0, T + 1, (4, 3 * 20)).astype(np.uint8)
    expected = np.stack([earliest(t.reshape(3, 4, 5), T).reshape(-1) for t in times])
    loops.inhibited(times, 3, T)
    assert np.array_equal(times, expected)


def on_grid(w):
    """Multiples of 2^-20: sums of them are exact in any order, so equal potentials are equal."""
    return np.round(w * 2**20) / 2**20


def brute(layer, inputs, w, winners, rule, rate):
    """Learning from one sample as the parts define it: potentials, inhibition, winners, the order rule."""
    g = layer.geometry
    connection = convolution(g.shape, g.features, g.kernel, g.padding)
    wave = np.stack([connection.drive(w, (inputs <= t).astype(float)).T for t in range(T)])
    wave = wave.reshape(T, g.features, g.rows, g.columns)
    over = wave > layer.threshold
    times = np.where(over.any(0), over.argmax(0), T)
    potentials = np.take_along_axis(wave, times.clip(max=T - 1)[None], 0)[0]
    picked = winners.pick(pointwise(times, potentials, T), potentials, T)
    seen = connection.pre(inputs, padding=T)[:, 0]
    for f, y, x, t in picked:
        w[f] = rule.update(w[f], seen[y * g.columns + x] <= t, rate)
    return picked


RULES = [Order(0.05, 0.03), Order(-0.05, -0.02, Additive(), Bounds(0.2, 0.8)), Order(0.1, 0.1, PowerLaw())]


@pytest.mark.parametrize("number, winners", [(0, KWinners(3, 1)), (1, KWinners(4, 0))])
@pytest.mark.parametrize("rule", RULES)
def test_learning_is_that_of_the_parts(number, winners, rule):
    snn, x = network(), images(30)
    cascade = Cascade.of(snn, x)
    layer = cascade.layers[number]
    times = cascade.times(x, number)
    events, all_picked = events_of(times, T), []
    with torch.no_grad():
        layer.conv.weight.clamp_(rule.bounds.low, rule.bounds.high)
    w, expected = on_grid(layer.weights()), on_grid(layer.conv.weight.detach().flatten(1).numpy())
    for n in range(len(x)):
        found, rate = np.empty((1, winners.k, 4), np.int64), np.array([0.5 + n / 30])
        args = (w, *layer.geometry_arguments, layer.threshold, winners.k, winners.radius, numbers(rule), rate, found)
        loops.learn(*events, np.array([n]), *args)
        picked = brute(layer, times[n].astype(int), expected, winners, rule, rate[0])
        assert [tuple(v) for v in found[0].tolist() if v[3] >= 0] == [tuple(v) for v in picked]
        layer.put(w)
        assert layer.conv.weight.detach().flatten(1).numpy() == pytest.approx(expected, abs=1e-12)
        w, expected, all_picked = on_grid(w), on_grid(expected), [*all_picked, *picked]
    assert len(all_picked) >= 15 and len({v.feature for v in all_picked}) >= 2 and len({v.step for v in all_picked}) > 1


def test_reward_makes_the_strongest_neuron_learn_by_its_class():
    blocks = (BLOCKS[0], Block(6, 3, 1, None, low=0.2, high=0.8))
    snn, x = network(blocks), images(40)
    cascade = Cascade.of(snn, x)
    layer, events = cascade.layers[1], cascade.events(x, 1)
    labels = np.random.default_rng(0).integers(0, 3, 40)
    bounds = Bounds(0.2, 0.8)
    reward, punish = Order(0.04, 0.03, Additive(), bounds), Order(-0.04, -0.005, Additive(), bounds)
    w, expected, right = layer.weights(), layer.conv.weight.detach().flatten(1).numpy().copy(), 0
    g, rates = layer.geometry, (0.7, 1.3)
    connection = convolution(g.shape, g.features, g.kernel, g.padding)
    for n in range(40):
        fired = np.zeros(math.prod(g.shape))
        fired[events.at[events.ends[n, 0] : events.ends[n, T]]] = 1
        potentials = connection.drive(expected, fired).T
        f, p = np.unravel_index(potentials.argmax(), potentials.shape)
        correct = f // 2 == labels[n]
        right += correct
        before = connection.pre(fired)[p, 0] > 0
        expected[f] = (reward if correct else punish).update(expected[f], before, rates[0] if correct else rates[1])
    found = loops.learn_by_reward(
        *events, np.arange(40), labels, 2, w, *layer.geometry_arguments, numbers(reward), numbers(punish), rates
    )
    assert found == (right, 40 - right) and 0 < right < 40
    layer.put(w)
    assert layer.conv.weight.detach().flatten(1).numpy() == pytest.approx(expected, abs=1e-12)


def plain_reward(events, order, labels, per_class, w, shape, k, pad, features, reward, punish, rates):
    """The loop as it is defined: sample by sample, all potentials, event by event; (who answered, with which place)."""
    channels, height, width = shape
    rows, columns = height + 2 * pad - k + 1, width + 2 * pad - k + 1
    kernel = w.reshape(channels, k, k, features)[:, :, ::-1]  # a view with the columns in order
    answers = []
    for n, label in zip(order, labels, strict=True):
        potentials = np.zeros((features, rows + 2 * k, columns + 2 * k), w.dtype)
        fired = np.zeros((channels, height + 2 * pad, width + 2 * pad), bool)
        for event in events.at[events.ends[n, 0] : events.ends[n, -1]].astype(int):
            c, y, x = event // (height * width), event // width % height + pad, event % width + pad
            reached = potentials[:, y + 1 : y + k + 1, x + 1 : x + k + 1]
            reached += kernel[c, ::-1, ::-1].transpose(2, 0, 1)
            fired[c, y, x] = True
        potentials = potentials[:, k : k + rows, k : k + columns]
        if potentials.max() <= 0:
            continue
        f, y, x = np.unravel_index(potentials.argmax(), potentials.shape)
        ltp, ltd, _, _, low, high = reward if f // per_class == label else punish
        rate = rates[int(f // per_class != label)]
        change = np.where(fired[:, y : y + k, x : x + k], ltp * rate, -(ltd * rate))
        kernel[..., f] = np.clip(kernel[..., f].astype(float) + change, low, high)
        answers.append((f, y * columns + x))
    return answers


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape, k, pad, features, density, bounds",
    [
        ((20, 4, 4), 5, 2, 12, 0.4, Bounds(0.2, 0.8)),
        ((9, 6, 5), 3, 1, 35, 0.7, Bounds(0.0, 1.0)),
        ((5, 5, 7), 2, 0, 6, 0.2, Bounds(-0.3, 0.4)),
        ((1200, 1, 1), 1, 0, 8, 0.5, Bounds(0.2, 0.8)),
    ],
)
def test_reward_finds_the_very_neuron_of_the_plain_loop(shape, k, pad, features, density, bounds, dtype):
    """Bit for bit, with limits in place of most potentials: steps, silent samples, ties, one map winning in a row."""
    rng = np.random.default_rng(0)
    times = rng.integers(0, 4, (60, math.prod(shape)))
    chance = density * rng.uniform(0.1, 2, math.prod(shape)) * rng.uniform(0.5, 1.2, (60, 1))
    times[(rng.random(times.shape) > chance) | (rng.random((60, 1)) < 0.05)] = 4
    times[7], times[8] = 4, times[9]
    events = events_of(times.astype(np.uint8), 4)
    order, labels = rng.integers(0, 60, 300), rng.integers(0, 3, 300)
    order[:3] = 7, 8, 9
    w = rng.normal(bounds.high, 0.05, (shape[0] * k * k, features)).clip(bounds.low, bounds.high)
    w[:, features // 2 :] = w[:, : features - features // 2]  # equal kernels: the first map answers
    w = w.astype(dtype).clip(dtype(bounds.low), dtype(bounds.high)).reshape(-1)
    rules = numbers(Order(0.02, 0.015, Additive(), bounds)), numbers(Order(-0.02, -0.004, Additive(), bounds))
    whole, parts, plain, rates = w.copy(), w.copy(), w.copy(), (0.4, 0.9)
    arguments = (shape, k, pad, features, *rules, rates)
    answers = plain_reward(events, order, labels, -(-features // 3), plain, *arguments)
    found = loops.learn_by_reward(*events, order, labels, -(-features // 3), whole, *arguments)
    assert sum(found) == len(answers) < 300 and min(found) > 0
    assert len({f for f, _ in answers}) > 1 and any(a[0] == b[0] for a, b in pairwise(answers))
    assert (whole == plain).all() and (whole != w).any()
    for part in (slice(0, 1), slice(1, 150), slice(150, 300)):
        loops.learn_by_reward(*events, order[part], labels[part], -(-features // 3), parts, *arguments)
    assert (parts == plain).all()


def test_bars_are_learned_one_a_unit():
    """The toy of the Kheradpisheh sheet: three noisy bars, three units, each comes to win exactly one of them."""
    bars = np.zeros((3, 8, 8))
    bars[0, 3:5], bars[1, :, 3:5] = 1, 1
    bars[2] = (abs(np.subtract.outer(range(8), range(8))) <= 0.5) | (np.subtract.outer(range(8), range(8)) == 1)
    for seed in range(3):
        for threshold in (6.0, 10.0):
            rng = np.random.default_rng(seed)
            which = rng.integers(0, 3, 600)
            x = bars[which] * (1 - rng.uniform(0, 0.2, (600, 8, 8))) + rng.uniform(0, 0.15, (600, 8, 8))
            times = RankOrder().times(torch.from_numpy(x).flatten(1).clamp(max=1), T)
            events = events_of(times.clamp(max=T).to(torch.uint8).numpy(), T)
            w = rng.normal(0.8, 0.05, 64 * 3).clip(0, 1)
            rates = np.minimum(2.0 ** (np.arange(600) // 50), 0.15 / 0.004)
            found = np.empty((600, 1, 4), np.int64)
            rule = numbers(Order(0.004, 0.003, Stabiliser()))
            loops.learn(*events, np.arange(600), w, (64, 1, 1), 1, 0, 3, threshold, 1, 0, rule, rates, found)
            table = np.zeros((3, 3), int)
            np.add.at(table, (which[-150:], found[-150:, 0, 0]), 1)
            assert (table > 0).sum() == 3 and (table.max(0) > 0).all(), table
            learned, owner = w.reshape(64, 3), table.argmax(0)
            for unit in range(3):
                assert np.corrcoef(learned[:, unit], bars[owner[unit]].reshape(-1))[0, 1] >= 0.9
            assert (w * (1 - w)).mean() <= 0.01


def test_a_sparse_convolution_is_torchs():
    conv = SpikeConv2d(3, 5, 3, 1).double()
    x = torch.rand(40, 3, 7, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = x * (x > 0.95)
    with torch.no_grad():
        torch.testing.assert_close(conv(x), nn.functional.conv2d(x, conv.weight, padding=1), rtol=0, atol=1e-14)
    assert conv(x).requires_grad and x.any()


def refused(body, encode=None, shape=(1, 8, 8)):
    with pytest.raises(ConfigError) as caught:
        Cascade.of(sw.SNN(body, 5, encode or RankOrder()), torch.zeros(1, *shape))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_body_that_is_no_cascade_is_refused():
    conv = nn.Conv2d(1, 2, 5, bias=False)
    assert "'0'" in refused(nn.Sequential(conv, nn.ReLU()))
    assert "'0'" in refused(nn.Sequential(nn.Conv2d(1, 2, 5), OnceIF())) and "bias" in refused(
        nn.Sequential(nn.Conv2d(1, 2, 5), OnceIF())
    )
    assert "3 x 3" in refused(nn.Sequential(conv, OnceIF()), shape=(1, 3, 3))
    assert "channels" in refused(nn.Sequential(conv, OnceIF()), shape=(3, 8, 8))
    assert "encoder" in refused(nn.Sequential(conv, OnceIF()), Direct())
    with pytest.raises(ConfigError, match="there is no layer 'x'"):
        Cascade.of(network(), images()).index("x")
