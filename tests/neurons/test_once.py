"""Once-firing neurons against the papers' cumulative waves, and the code of their times."""

from __future__ import annotations

import torch
from torch import nn

import spikewright as sw
from spikewright.encode import RankOrder
from spikewright.neurons import LatencyCode, OnceIF

T = 9


def single_spikes(shape=(2, 3, 8, 8), seed=0):
    """One spike an input at a random step, or none: [T, B, ...] and the times."""
    times = torch.randint(0, T + 3, shape, generator=torch.Generator().manual_seed(seed))
    return (torch.arange(T).view(-1, 1, 1, 1, 1) == times).double(), times


def test_a_layer_fires_where_the_convolution_of_the_cumulative_wave_first_exceeds_its_threshold():
    spikes, _ = single_spikes()
    w = torch.rand(5, 3, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    conv = [torch.conv2d(s, w, padding=1) for s in spikes]
    fired, _ = OnceIF(6.0).run(torch.stack(conv))
    wave = torch.stack([torch.conv2d(s, w, padding=1) for s in spikes.cumsum(0)]) > 6.0
    first = T - wave.sum(0)
    assert fired.sum(0).max() == 1 and 0.1 < (first < T).double().mean() < 0.99
    assert torch.equal(torch.where(fired.any(0), fired.argmax(0), T), first)
    pool = nn.MaxPool2d(2)
    gated, _ = OnceIF(0.5).run(torch.stack([pool(s) for s in fired]))
    assert torch.equal(gated.cumsum(0), torch.stack([pool(s) for s in wave.double()]))


def test_exactly_at_threshold_nobody_fires_unless_told():
    current = torch.tensor([[[1.0]], [[1.0]], [[1.0]]])
    assert OnceIF(2.0).run(current)[0].flatten().tolist() == [0, 0, 1]
    assert OnceIF(2.0, strict=False).run(current)[0].flatten().tolist() == [0, 1, 0]


def test_a_potential_that_falls_back_does_not_fire_again():
    current = torch.tensor([2.0, -3.0, 4.0, 5.0]).view(4, 1, 1)
    assert OnceIF(1.0).run(current)[0].flatten().tolist() == [1, 0, 0, 0]


def test_the_latency_code_is_steps_minus_the_first_spike():
    spikes, times = single_spikes()
    code, _ = LatencyCode(T).run(spikes)
    assert torch.equal(code[-1], (T - times).clamp(min=0).double())
    assert torch.equal(code[3], torch.where(times <= 3, T - times, 0).double())


def test_a_network_of_them_saves_and_loads(tmp_path):
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(6, 4, 3, bias=False), OnceIF(0.3), LatencyCode(T), nn.Flatten(), nn.Linear(144, 10))
    snn = sw.SNN(body, T, RankOrder(sw.fronts.LoG((1.0, 2.0, 3.0))), sw.readout.LastMembrane(sw.Factor(0.0)))
    snn.save(tmp_path)
    x = torch.rand(3, 1, 8, 8)
    loaded = sw.load_model(tmp_path)
    assert torch.equal(loaded(x), snn(x)) and repr(loaded) == repr(snn) and snn(x).std() > 0
