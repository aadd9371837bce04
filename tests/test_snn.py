"""The network itself: shapes, defaults, prediction, streams, lazy layers."""

import cases
import numpy as np
import pytest
import torch
from cases import F32, F64, assert_active, network
from torch import nn

from spikewright.arch import arch
from spikewright.encode import Bernoulli, Direct, Frames
from spikewright.errors import ConfigError
from spikewright.neurons import IF, LIF
from spikewright.readout import LastMembrane, Rate
from spikewright.snn import SNN, inference


def test_shapes_and_defaults():
    snn = network("conv", 5)
    assert snn.encode == Direct() and snn.readout == Rate() and snn.steps == 5
    x = cases.images(snn.encode, 3, 5)
    run = snn.run(x)
    assert_active(run.out)
    assert run.out.shape == run.scores.shape == (5, 3, 10)
    assert torch.equal(snn(x), run.scores[-1])
    assert torch.equal(snn.scores(x), run.scores)
    assert torch.equal(run.scores[-1], run.out.mean(0))
    assert snn.run(x, steps=2).scores.shape == (2, 3, 10)
    assert "steps=5" in repr(snn) and "Direct" in repr(snn)


def test_the_ann_is_one_step_without_neurons():
    with torch.random.fork_rng(devices=[]):
        body = arch("4C3-AP2-10", data=(1, 8, 8), neuron=nn.ReLU())
    x = torch.rand(3, 1, 8, 8)
    torch.testing.assert_close(SNN(body, 1)(x), body(x))


def test_converted_rates_approach_the_ann():
    """An IF network under a constant current: its rates are the ReLU's activations to 1/T per layer."""
    g = torch.Generator().manual_seed(0)
    w = torch.rand(10, 8, generator=g, dtype=F64) * 0.4 - 0.15
    layer = nn.Linear(8, 10, bias=False).double()
    layer.weight.data = w
    x = torch.rand(20, 8, generator=g, dtype=F64)
    ann = (x @ w.T).clamp(0, 1)
    for steps in (16, 64, 256):
        out = SNN(nn.Sequential(layer, IF(v_init=0.5)), steps).run(x).out
        assert_active(out)
        assert (out.mean(0) - ann).abs().max() <= 0.5 / steps + 1e-9


def test_gradients_flow_through_run_but_not_through_scores():
    snn = network("conv")
    x = cases.images(snn.encode, 2, 6)
    assert snn.run(x).scores.requires_grad and snn(x).requires_grad
    assert not snn.scores(x).requires_grad
    assert not snn.stream()(x).requires_grad


def test_predict_gives_the_class_of_the_highest_score_of_the_first_of_equals():
    snn = network("conv", dtype=F32)
    x = cases.images(snn.encode, 9, 6, F32)
    scores = snn(x)
    assert torch.equal(snn.predict(x), scores.argmax(-1))
    assert torch.equal(snn.predict(x.numpy(), batch=4), scores.argmax(-1))
    with torch.no_grad():
        snn.body[-2].weight.zero_()
        snn.body[-2].bias.fill_(0.7)
    assert snn.predict(x).tolist() == [0] * 9


def test_predict_reads_bytes_as_0_to_255():
    snn = network("conv", dtype=F32)
    pixels = (np.random.default_rng(0).random((5, 1, 8, 8)) * 255).astype(np.uint8)
    wanted = snn(torch.tensor(pixels).float() / 255).argmax(-1)
    assert torch.equal(snn.predict(pixels), wanted)
    assert torch.equal(snn.predict(torch.tensor(pixels)), wanted)


def test_predict_runs_in_evaluation_mode_and_puts_the_modes_back():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Flatten(), nn.Dropout(0.9), nn.Linear(64, 10), LIF(v_th=0.1))
    snn = SNN(body, 4).train()
    body[2].eval()
    x = cases.images(snn.encode, 6, 4, F32)
    assert torch.equal(snn.predict(x), snn.predict(x))
    assert snn.training and body[1].training and not body[2].training
    with pytest.raises(RuntimeError), inference(snn):
        assert not body[1].training
        raise RuntimeError
    assert body[1].training


def test_lazy_layers_take_their_sizes_from_a_sample_without_side_effects():
    for encode in (Direct(), Frames(), Bernoulli()):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            snn = SNN(arch("4C3-AP2-10", neuron=LIF(1.5, v_th=0.3), batch_norm=True), 6, encode)
            x = cases.images(encode, 3, 6, F32)
            snn.materialise(x)
        assert snn.training
        assert snn.body.conv1.weight.shape == (4, 1, 3, 3) and snn.body.fc2.weight.shape == (10, 64)
        assert snn.body.bn1.running_mean.eq(0).all()
        before = [p.clone() for p in snn.parameters()]
        snn.materialise(x)
        assert all(torch.equal(a, b) for a, b in zip(before, snn.parameters(), strict=True))
        assert snn(x).shape == (3, 10)


def test_streams_of_one_network_are_apart_and_count_their_steps():
    snn = network("skip")
    x = cases.images(snn.encode, 2, 6)
    one, two = snn.stream(), snn.stream()
    assert one.at == 0
    first = one(x)
    one(x, 3)
    assert one.at == 4 and two.at == 0
    assert torch.equal(two(x), first)
    assert_active(snn.run(x).out)


def test_a_stream_goes_on_beyond_the_networks_own_steps_and_takes_changing_input():
    snn = network("conv", 4)
    frames = cases.images(Frames(), 3, 20)
    stream = snn.stream()
    found = torch.stack([stream(frames[:, t]) for t in range(20)])
    snn.encode, snn.steps = Frames(), 20
    wanted = snn.run(frames)
    assert_active(wanted.out)
    torch.testing.assert_close(found, wanted.scores.detach(), rtol=1e-12, atol=1e-12)


def test_a_stream_has_its_own_seed():
    snn = network("conv", 6, Bernoulli())
    x = cases.images(snn.encode, 3, 6)
    scores = [
        torch.stack([s(x) for _ in range(6)]) for s in (snn.stream(1), snn.stream(1), snn.stream(2), snn.stream())
    ]
    assert torch.equal(scores[0], scores[1]) and not torch.equal(scores[0], scores[2])
    assert torch.equal(scores[3], snn.scores(x))


def test_a_shape_error_of_the_body_names_the_input_and_keeps_the_cause():
    with pytest.raises(ConfigError, match=r"\(2, 3, 8, 8\)") as caught:
        network("conv", dtype=F32)(torch.rand(2, 3, 8, 8))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_an_error_of_the_users_own_body_comes_through_as_it_is():
    class Mine(nn.Module):
        def forward(self, x):
            raise RuntimeError("my own trouble")

    with pytest.raises(RuntimeError, match="my own trouble"):
        SNN(Mine(), 2)(torch.rand(2, 3))


def test_memory_of_scores_does_not_grow_with_the_steps():
    """The body never sees more than `chunk` steps at once."""
    seen = []

    class Watch(nn.Module):
        def forward(self, x):
            seen.append(len(x))
            return x.flatten(1)

    snn = SNN(Watch(), 50, readout=LastMembrane())
    scores = snn.scores(torch.rand(3, 2, 2), chunk=4)
    assert scores.shape == (50, 3, 4) and max(seen) == 12 and sum(seen) == 150
