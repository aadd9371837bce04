"""Competitive learning: the compiled loops against the network and the rules step by step, and the sheet's toy."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import spikewright as sw
from spikewright.arch import Patches
from spikewright.data import Dataset
from spikewright.encode import Bernoulli
from spikewright.errors import ConfigError, DataError
from spikewright.neurons import Competition, ConductanceLIF, LabelVote, RefractoryLIF
from spikewright.plasticity import STDP, AdaptiveThreshold, Exponential, SumTo, dense, local
from spikewright.plasticity.competing import CompetingLayer
from spikewright.recipes.local.diehl_cook import RULES

SHAPE = (1, 6, 6)


def partner(h=0.5):
    return ConductanceLIF(10.0, -60.0, -45.0, -40.0, e_inh=-85.0, refractory=2.0, h=h)


def dense_net(neurons=8, steps=120, shape=SHAPE, gain=0.15, theta=12.0, seed=0):
    """Diehl & Cook's, in float64, firing more than theirs."""
    torch.manual_seed(seed)
    synapses = nn.Linear(math.prod(shape), neurons, bias=False)
    nn.init.uniform_(synapses.weight, 0.0, 0.6)
    cells = Competition(neurons, cell=ConductanceLIF(v_th=-72.0), partner=partner(), theta=theta)
    body = nn.Sequential(nn.Flatten(), synapses, cells, LabelVote(neurons, 3))
    return sw.SNN(body, steps, Bernoulli(gain)).double()


def local_net(kernels=4, steps=120, gain=0.2, seed=0):
    torch.manual_seed(seed)
    patches = Patches(3, 2, crop=0)
    places = patches.places((1, 7, 7))
    synapses = nn.Conv1d(places * 9, places * kernels, 1, groups=places, bias=False)
    nn.init.uniform_(synapses.weight, 0.0, 3.0)
    cell = RefractoryLIF(100.0, -65.0, -60.0, -52.0, refractory=5.0, h=1.0, jump=True)
    cells = Competition(places * kernels, places, cell, inhibition=20.0, theta=0.0)
    body = nn.Sequential(patches, synapses, nn.Flatten(), cells, LabelVote(places * kernels, 3))
    return sw.SNN(body, steps, Bernoulli(gain)).double()


def images(count, shape=SHAPE, seed=1):
    x = torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))
    return x * (x > 0.4)


def spikes_of(snn, x, seed):
    """Output spikes [T, B, cells] of the cells."""
    found = []
    cells = next(m for m in snn.modules() if isinstance(m, Competition))
    hook = cells.register_forward_hook(lambda m, a, out: found.append(out))
    with torch.no_grad():
        snn._advance(snn._input(x.double()), snn.steps, snn.steps, seed, sw.snn._Carry())
    hook.remove()
    return found[0].unflatten(0, (snn.steps, len(x)))


@pytest.mark.parametrize("net, shape", [(dense_net, SHAPE), (local_net, (1, 7, 7))])
def test_the_loops_without_learning_fire_as_often_as_the_network(net, shape):
    snn = net()
    layer = CompetingLayer(snn, shape)
    x = images(20, shape)
    counts, shown = layer.show(x, np.full(20, 5), layer.rest(), layer.constants(), learn=False)
    wanted = spikes_of(snn, x, 5).sum(0)
    assert 20 < wanted.sum() < 0.5 * wanted.numel() * snn.steps and (shown == 1).all()
    assert torch.equal(counts.double(), wanted)


def by_hand(snn, connection, rule, norm, threshold, x, seeds, rest):
    """The definition: the cells' own step and `STDP.step`, image after image. Returns spikes, weights, theta."""
    cells = next(m for m in snn.modules() if isinstance(m, Competition))
    synapses = next(m for m in snn.modules() if isinstance(m, (nn.Linear, nn.Conv1d)))
    h, n = cells.cell.h, cells.neurons
    w = synapses.weight.detach().numpy().reshape(connection.weight_shape).copy()
    inputs = math.prod(x.shape[1:])
    traces, state = rule.rest(connection, inputs), None
    theta, counts = cells.theta_now.numpy().copy(), np.zeros((len(x), n))
    with torch.no_grad():
        for b, image in enumerate(x.double()):
            w = norm(w)
            trains = snn.encode.run(image[None], 0, snn.steps, snn.steps, int(seeds[b]))[:, 0].flatten(1)
            trains = torch.cat([trains, torch.zeros(rest, inputs, dtype=torch.float64)])
            for t, pre in enumerate(trains):
                current = torch.from_numpy(connection.drive(w, pre.numpy()).reshape(1, 1, n))
                cells.theta_now.copy_(torch.from_numpy(theta))
                out, state = cells.run(current, state)
                post = out[0, 0].numpy()
                w, traces = rule.step(connection, w, traces, pre.numpy(), post, h=h)
                theta = theta + threshold.plus * post
                counts[b] += post if t < snn.steps else 0
            theta = theta * math.exp(-h * (snn.steps + rest) / threshold.tau)
    return counts, w, theta


CASES = {
    **{name: (dense_net, SHAPE, rule) for name, rule in RULES.items()},
    "local": (local_net, (1, 7, 7), STDP(ltp2=5e-2, ltd2=5e-3, bounds=sw.plasticity.Bounds(0, 3.0))),
}


@pytest.mark.parametrize("case", CASES)
def test_learning_is_the_rule_applied_step_by_step(case):
    make, shape, rule = CASES[case]
    rest, count = 60, 4
    norm, threshold = SumTo(10.0), AdaptiveThreshold(0.05, 1e4)
    connection = local(shape, 4, 3, stride=2) if make is local_net else dense(36, 8)
    x, seeds = images(count, shape), np.arange(count) + 7
    snn = make()
    layer = CompetingLayer(snn, shape, rule)
    h = layer.cells.cell.h
    constants = layer.constants(
        norm=norm.total, theta_plus=threshold.plus, theta_decay=math.exp(-h / threshold.tau), rest=rest
    )
    state = layer.rest()
    before = layer.weights().copy()
    counts, _ = layer.show(x, seeds, state, constants, learn=True)
    layer.put(state)
    wanted, w, theta = by_hand(make(), connection, rule, norm, threshold, x, seeds, rest)
    assert wanted.sum() >= 20 and np.abs(state.weights - before).max() > 1e-3
    assert np.array_equal(counts.numpy(), wanted)
    found = layer.synapses.weight.detach().numpy().reshape(w.shape)
    np.testing.assert_allclose(found, w, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(state.theta, theta, rtol=1e-9)
    assert found.min() >= rule.bounds.low and found.max() <= max(rule.bounds.high, w.max())


def test_a_pre_event_depresses_and_no_gate_holds_the_cells_back():
    """The two defects of a public port: a plus sign at pre events, and 50 ms at least between spikes."""
    snn = dense_net(neurons=1, steps=400, gain=0.5, theta=8.0)
    rule = RULES["triplet"]
    only_pre = STDP(ltp2=0.0, ltp3=0.0, ltd2=rule.ltd2)
    layer = CompetingLayer(snn, SHAPE, only_pre)
    state = layer.rest()
    before = state.weights.copy()
    counts, _ = layer.show(torch.ones(1, *SHAPE), np.zeros(1, np.int64), state, layer.constants(), learn=True)
    assert (state.weights <= before).all() and (state.weights < before).any()
    assert counts.sum() > 400 * 0.5 / 50  # more than one spike in 50 ms


def test_blocks_of_images_do_not_matter():
    x, seeds = images(6), np.arange(6)
    found = []
    for parts in ([6], [1, 2, 3]):
        layer = CompetingLayer(dense_net(), SHAPE, RULES["triplet"])
        state, constants, counts, at = layer.rest(), layer.constants(norm=10.0, theta_plus=0.05), [], 0
        for n in parts:
            counts.append(layer.show(x[at : at + n], seeds[at : at + n], state, constants, learn=True)[0])
            at += n
        found.append((torch.cat(counts), state))
    assert found[0][0].sum() > 10 and torch.equal(found[0][0], found[1][0])
    for name in ("weights", "theta", "v", "inh_v", "y"):
        assert np.array_equal(getattr(found[0][1], name), getattr(found[1][1], name)), name


def toy(count=160):
    """Four patterns of 100 pixels at 200 of 255, shown in turn."""
    x = torch.zeros(4, 784)
    for k in range(4):
        x[k, 100 * k : 100 * (k + 1)] = 200 / 255
    return x[torch.arange(count) % 4].view(count, 1, 28, 28)


def test_the_toy_of_the_sheet_comes_apart():
    """784 inputs, 8 cells, the paper's constants: each pattern comes to have one owner, and no cell has two.

    The sheet's own simulation (plain Euler, one seed) had settled after 160 images; here it takes up to 400.
    """
    torch.manual_seed(1)
    synapses = nn.Linear(784, 8, bias=False)
    nn.init.uniform_(synapses.weight, 0.003, 0.303)
    cells = Competition(8, cell=ConductanceLIF(v_th=-72.0), partner=partner())
    snn = sw.SNN(nn.Sequential(nn.Flatten(), synapses, cells, LabelVote(8, 4)), 700, Bernoulli(2 * 255 / 8 * 0.0005))
    layer = CompetingLayer(snn, (1, 28, 28), RULES["triplet"])
    state = layer.rest()
    constants = layer.constants(
        norm=78.0, theta_plus=0.05, theta_decay=math.exp(-0.5 / 1e7), rest=300, least=5, attempts=20, stronger=0.5
    )
    counts, shown = layer.show(toy(400), np.arange(400), state, constants, learn=True)
    assert shown[:160].mean() < 1.1
    assert 5 < counts[:10].sum(1).double().mean() < 8 and 6 < counts[150:160].sum(1).double().mean() < 9
    last = counts[-40:].view(10, 4, 8).sum(0)
    owners = last.argmax(1)
    assert len(set(owners.tolist())) == 4
    assert all(45 <= last[k, owners[k]] <= 95 and last[k, owners[k]] > 0.65 * last[k].sum() for k in range(4))
    share = [
        state.weights[100 * k : 100 * (k + 1), owners[k]].sum() / state.weights[:, owners[k]].sum() for k in range(4)
    ]
    assert all(0.28 < s < 0.9 for s in share)
    idle = [j for j in range(8) if j not in owners.tolist()]
    assert min(state.theta[owners]) > 40 and max(state.theta[idle]) < 30


def test_a_silent_cells_threshold_decays_and_a_spike_raises_it():
    snn = dense_net(neurons=2)
    layer = CompetingLayer(snn, SHAPE, RULES["triplet"])
    state = layer.rest()
    constants = layer.constants(theta_plus=0.05, theta_decay=math.exp(-0.5 / 1e7), rest=880)
    layer.show(torch.zeros(160, *SHAPE), np.arange(160), state, constants, learn=True)  # 80 s of nothing
    assert state.theta == pytest.approx(np.full(2, 12 * math.exp(-80_000 / 1e7)), rel=1e-9)


def test_a_quiet_image_is_shown_again_and_more_strongly():
    snn = dense_net(gain=0.01)
    layer = CompetingLayer(snn, SHAPE, RULES["triplet"])
    constants = layer.constants(norm=10.0, least=5, attempts=8, stronger=1.0)
    counts, shown = layer.show(images(3), np.arange(3), layer.rest(), constants, learn=True)
    assert (shown > 1).all() and ((counts.sum(1) >= 5) | (torch.from_numpy(shown) == 8)).all()
    _, shown = layer.show(torch.zeros(1, *SHAPE), np.zeros(1, np.int64), layer.rest(), constants, learn=True)
    assert shown.tolist() == [8]


def test_labels_go_to_the_class_with_the_highest_mean_count():
    counts = torch.tensor([[4, 0, 0], [4, 0, 1], [4, 0, 1], [7, 0, 0]])
    labels = torch.tensor([0, 0, 0, 1])
    assert LabelVote.assign(counts, labels, 3).tolist() == [1, -1, 0]  # not the sum, which would be class 0


def test_neurons_vote_by_their_mean_and_the_unnamed_not_at_all():
    vote = LabelVote(4, 3)
    vote.labels_now.copy_(torch.tensor([0, 0, 2, -1]))
    assert vote(torch.tensor([[1.0, 0.0, 0.0, 1.0]])).tolist() == [[0.5, -1.0, 0.0]]


# ---- what a user can get wrong


def trained(method, data="digits", **settings):
    return sw.train(method, data, progress=False, **settings)


def quick(**settings):
    return {"neurons": 10, "epochs": 1, "limit": 60, "steps": 60, "rest": 0.0} | settings


def test_a_layer_that_never_fires_is_named():
    labels = torch.arange(1100) % 2
    black = Dataset.from_tensors("black", torch.zeros(1100, 1, 4, 4), labels, torch.zeros(2, 1, 4, 4), labels[:2])
    with pytest.raises(ConfigError, match=r"'cells'.*not fire once on 1000 images"):
        trained("diehl-cook", black, neurons=2, steps=5, validation=0.0, rest=0.0)


def test_weights_outside_the_bounds_are_named():
    snn = dense_net()
    with torch.no_grad():
        snn.body[1].weight[0, 0] = 1.5
    with pytest.raises(ConfigError, match=r"1\.5.*bounds"):
        CompetingLayer(snn, SHAPE, RULES["triplet"]).constants()


def test_a_field_that_does_not_fit_the_image_is_named():
    with pytest.raises(ConfigError, match="16 x 16 does not fit into images of 8 x 8"):
        trained("lc-snn", kernel=16, crop=0, limit=60, epochs=1)


def test_no_training_images_is_said():
    digits = sw.load("digits")
    none = Dataset(
        "none", digits.train.subset(torch.arange(0)), digits.test, digits.classes, digits.mean, digits.std, "x"
    )
    with pytest.raises(DataError, match="no training images"):
        trained("diehl-cook", none, neurons=10, validation=0.0)


def test_a_network_of_another_build_is_refused():
    snn = sw.SNN(nn.Sequential(nn.Flatten(), nn.Linear(36, 4), sw.LIF()), 4)
    with pytest.raises(ConfigError, match="Competition"):
        CompetingLayer(snn, SHAPE)


def test_a_rule_the_loops_do_not_know_is_refused():
    for rule in (STDP(ltd3=0.1), STDP(pre=Exponential(20.0, saturating=False)), STDP(coincident=False)):
        with pytest.raises(ConfigError, match="saturating"):
            CompetingLayer(dense_net(), SHAPE, rule).constants()


def test_unnamed_neurons_are_warned_of(capsys):
    sw.train("diehl-cook", "digits", **quick(neurons=60, label_images=1))
    assert "vote for no class" in " ".join(capsys.readouterr().err.split())


# ---- resuming


def test_a_stopped_training_goes_on_bit_for_bit(tmp_path, monkeypatch):
    """Stopped by a signal in the middle of the first pass, and once more in the second."""
    import signal

    from spikewright.engine.session import Interrupted
    from spikewright.plasticity import competing

    monkeypatch.setattr(competing, "BLOCK", 20)
    settings = {"neurons": 12, "epochs": 2, "limit": 90, "steps": 80, "rest": 20.0, "intensity": 8.0, "validation": 0.0}
    whole = sw.train("diehl-cook", "digits", out=tmp_path / "whole", progress=False, **settings)
    block, calls = competing.Learner._block, []

    def interrupted(self, *args):
        block(self, *args)
        calls.append(1)
        if len(calls) in (2, 6):
            self.session.signal = signal.SIGTERM

    monkeypatch.setattr(competing.Learner, "_block", interrupted)
    with pytest.raises(Interrupted):
        sw.train("diehl-cook", "digits", out=tmp_path / "cut", progress=False, **settings)
    with pytest.raises(Interrupted):
        sw.resume(tmp_path / "cut", progress=False)
    resumed = sw.resume(tmp_path / "cut", progress=False)
    assert (tmp_path / "whole" / "filters-synapses.png").stat().st_size > 5000
    for (name, a), (_, b) in zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    assert whole.encode == resumed.encode and (whole.body.vote.labels_now >= 0).any()
