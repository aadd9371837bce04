"""Networks of spike times are ordinary citizens: the laws of all networks, evaluation, counts, files, raster twins."""

import math
from itertools import product

import cases
import pytest
import torch
from torch import nn

import spikewright as sw
from spikewright.clock import Clock
from spikewright.encode import Direct, LinearLatency, RampLatency, TwoTimes
from spikewright.engine.optim import Polyak, Rprop
from spikewright.engine.session import Session
from spikewright.engine.upkeep import Redraw
from spikewright.errors import ConfigError, NumericError
from spikewright.losses import SquaredTime
from spikewright.measure import evaluation
from spikewright.phases import Fit
from spikewright.readout import FirstSpike, FirstSpikeZ, MaxMembrane, NearestTime, Rate
from spikewright.snn import SNN
from spikewright.times import BinaryIF, Delays, EventLIF, ExponentialIF, InstantIF, Potential, RampIF, Reference
from spikewright.times.network import Uniform, dense

F64 = torch.float64
STEPS = 24


def body(layer, low, high):
    net = dense("20-10", (1, 8, 8), layer)
    g = torch.Generator().manual_seed(3)
    for p in net.parameters():
        if p.dim() > 1:
            p.data = (torch.rand(p.shape, generator=g) * (high - low) + low) * 12 / p.shape[1]
    return net


def with_delays():
    net = body(lambda n, m: nn.Sequential(Delays(3), EventLIF(3 * n, m, 7.0, 7.0)), -0.5, 2)
    return nn.Sequential(net.flatten, net.fc1, net.fc2)


def many_spikes():
    net = body(lambda n, m: EventLIF(n, m, 8.0, 3.0, spikes_each=3), -0.5, 2)
    net.fc2.spikes_each = 1
    return net


def potentials():
    net = body(lambda n, m: EventLIF(n, m, 8.0, 3.0, spikes_each=3), -0.5, 2)
    last = Potential(20, 10, 8.0, 3.0)
    last.weight.data.copy_(net.fc2.weight.data)
    return nn.Sequential(net.flatten, net.fc1, last)


NETWORKS = {
    "instant": lambda: (body(lambda n, m: InstantIF(n, m, 3.0), -0.4, 1), LinearLatency(), FirstSpike()),
    "binary": lambda: (body(lambda n, m: BinaryIF(n, m, 12.0), -0.4, 1), LinearLatency(False), FirstSpike()),
    "exponential": lambda: (body(lambda n, m: ExponentialIF(n, m, 1.0), -0.2, 0.9), TwoTimes(9.0), FirstSpikeZ(10.0)),
    "ramp": lambda: (body(lambda n, m: RampIF(n, m, 5.0), -0.2, 0.4), RampLatency(9.0, 0.2), FirstSpike()),
    "lif": lambda: (many_spikes(), RampLatency(9.0, 0.2), FirstSpike()),
    "delays": lambda: (with_delays(), RampLatency(6.0), NearestTime(tuple(range(4, 14)))),
    "potential": lambda: (potentials(), RampLatency(9.0, 0.2), MaxMembrane(sw.Factor(0.0))),
}


def network(name, dtype=F64):
    net, encoder, read = NETWORKS[name]()
    return SNN(net, STEPS, encoder, read).to(dtype).eval()


def images(count, dtype=F64):
    return cases.images(LinearLatency(), count, STEPS, dtype)


each = pytest.mark.parametrize("name", NETWORKS)


@each
def test_all_steps_chunks_and_streams_are_the_same(name):
    snn, x = network(name), images(5)
    whole = snn.scores(x)
    assert whole.shape == (STEPS, 5, 10) and whole.std() > 0
    for chunk in (1, 5, 100):
        assert torch.equal(snn.scores(x, chunk=chunk), whole)
    stream = snn.stream()
    assert torch.equal(torch.stack([stream(x) for _ in range(STEPS)]), whole)
    assert torch.equal(snn(x), whole[-1])
    with pytest.raises(ConfigError, match="runs 5 samples, found 3"):
        stream(x[:3])


@each
def test_neither_batch_nor_order_changes_a_sample(name):
    snn, x = network(name), images(7)
    whole = snn.scores(x)
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])
    assert torch.equal(snn.scores(x[order]), whole[:, order])
    for k in range(7):
        assert torch.equal(snn.scores(x[k : k + 1]), whole[:, k : k + 1])
    assert snn.scores(x[:0]).shape == (STEPS, 0, 10)


@each
def test_nothing_is_changed_or_kept(name):
    snn, x = network(name), images(4)
    given, before = x.clone(), {n: sorted(vars(m)) for n, m in snn.named_modules()}
    state = {k: v.clone() for k, v in snn.state_dict().items()}
    scores = snn.run(x).scores
    scores.square().sum().backward()
    assert torch.equal(snn.run(x).scores, scores) and torch.equal(x, given)
    assert {n: sorted(vars(m)) for n, m in snn.named_modules()} == before
    assert all(torch.equal(v, state[k]) for k, v in snn.state_dict().items())
    assert Clock._running.get() is None


@each
def test_float32_is_float64_but_for_rounding(name):
    near = (network(name, torch.float32)(images(6).float()).double() - network(name)(images(6))).abs()
    assert (near < 1e-2).double().mean() > 0.9


@each
def test_saved_and_loaded_it_is_the_same(name, tmp_path):
    snn = network(name, torch.float32)
    snn.save(tmp_path)
    loaded = sw.load_model(tmp_path)
    assert torch.equal(loaded(images(4).float()), snn(images(4).float())) and repr(loaded) == repr(snn)


@each
def test_it_is_measured_like_any_other(name, monkeypatch):
    monkeypatch.setattr(evaluation, "TIMED_SECONDS", 0.0)
    snn = network(name, torch.float32)
    x = images(6).float()
    split = sw.data.split.TensorSplit(x, torch.arange(6))
    found = sw.evaluate(snn, split, batch=4)
    fired = {}
    hooks = [
        m.register_forward_hook(lambda m, a, out, n=n: fired.update({n: (a[0], out)}))
        for n, m in snn.body.named_modules()
        if hasattr(m, "weight")
    ]
    snn(x)
    for hook in hooks:
        hook.remove()
    for n, (a, out) in fired.items():
        layer = snn.body.get_submodule(n)
        arrived = a.isfinite().sum().item()
        assert found.synops_by_layer[n] == pytest.approx(arrived * layer.out_features / 6)
        if layer.spikes:
            assert found.rates[n] == pytest.approx(out.isfinite().sum().item() / (6 * layer.out_features * STEPS))
            assert 0 < found.rates[n] < 1
    assert fired and found.macs_per_image == 0 and not found.uncounted
    assert found.ann_macs_per_image == sum(m.weight.numel() for m in snn.body.modules() if hasattr(m, "weight"))
    assert found.accuracy_by_step[-1] == found.accuracy and len(found.accuracy_by_step) == STEPS
    assert 1 <= found.decision_steps <= STEPS


def test_the_decision_falls_with_the_first_output_spike():
    scores = FirstSpike().at(torch.tensor([[5.5, 9.0], [2.0, 2.0], [torch.inf, 0.0], [torch.inf, torch.inf]]), 0, 12)
    for cuts in ((12,), (1, 4, 7)):
        answer = since = torch.zeros(4, dtype=torch.long)
        at = 0
        for block in scores.split(cuts):
            answer, since = evaluation._settled(block, answer, since, at)
            at += len(block)
        assert answer.tolist() == [0, -1, 1, -1] and since[:3:2].tolist() == [6, 1]


# ---- a raster simulation of the same network


@pytest.mark.parametrize("name", ["instant", "binary"])
def test_a_raster_of_integrate_and_fire_neurons_fires_at_the_same_times(name):
    snn, x = network(name), images(6)
    steps = snn.encode.times(x, STEPS).flatten(1)
    for layer in (snn.body.fc1, snn.body.fc2):
        scale = float(layer.a.detach()) if name == "binary" else 1.0
        weight = layer.weight.detach()
        weight = scale * torch.where(weight >= 0, 1.0, -1.0).double() if name == "binary" else weight
        current = sw.times.raster(steps, 0, STEPS).double() @ weight.t()
        spikes, _ = sw.IF(v_th=layer.v_th, reset=sw.NoReset(), strict=True).run(current)
        late = sw.times.first_spikes(spikes) + 1
        late = torch.where(late < STEPS, late, torch.inf)
        found = layer.run(steps, STEPS).detach()
        assert torch.equal(found, late) and found.isfinite().any()
        steps = found


def test_a_raster_of_leaky_neurons_fires_close_to_the_events():
    """The exact step of a fine grid, with currents through a synapse; the grid adds up to a step of its own."""
    snn, x, fine = network("lif"), images(4), 200
    times = snn.encode.times(x, STEPS).flatten(1)
    for layer in (snn.body.fc1, snn.body.fc2):
        arrived = sum(
            sw.times.raster(t * fine, 0, STEPS * fine).double()
            for t in times.reshape(4, -1, layer.in_features).unbind(1)
        )
        current, _ = sw.Synapse(sw.ExactJump(3.0 * fine)).run(arrived @ layer.weight.detach().t())
        spikes, _ = sw.LIF(leak=sw.Exact(8.0 * fine)).run(current)
        found = layer.run(times, STEPS).detach().reshape(4, -1, layer.out_features)
        grid = sw.times.first_spikes(spikes) / fine
        both = found[:, 0].isfinite() & grid.isfinite()
        assert both.double().mean() > 0.2 and (found[:, 0].isfinite() == grid.isfinite()).double().mean() > 0.97
        assert (found[:, 0] - grid)[both].abs().max() < 0.1
        times = found if layer is snn.body.fc1 else times


# ---- what does not fit


def test_signals_that_do_not_fit_are_named():
    net, _, _ = NETWORKS["instant"]()
    with pytest.raises(ConfigError, match="takes spike times, Direct hands on none"):
        SNN(net, 8, Direct(), FirstSpike())
    with pytest.raises(ConfigError, match="hands on spike times, Rate reads rasters"):
        SNN(net, 8, LinearLatency(), Rate())
    with pytest.raises(ConfigError, match=r"layer '1' \(LIF\) takes a raster, the layers before it hand on times"):
        SNN(nn.Sequential(net, sw.LIF()), 8, LinearLatency(), FirstSpike())
    with pytest.raises(ConfigError, match="takes times, the layers before it hand on a raster"):
        SNN(nn.Sequential(nn.Flatten(), Potential(64, 5), InstantIF(5, 3)), 8, LinearLatency(), Rate())
    with pytest.raises(ConfigError, match="dense: expected numbers of neurons"):
        dense("16C3-10", (1, 8, 8), InstantIF)
    with pytest.raises(ConfigError, match=r"does not fit|takes 64 inputs"):
        network("instant", torch.float32)(torch.rand(2, 1, 5, 5))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@each
def test_a_weight_that_is_not_finite_is_named(name, value):
    snn = network(name)
    weight = next(p for n, p in snn.body.named_parameters() if "weight" in n)
    weight.data[0, 0] = value
    with pytest.raises(NumericError, match=r"(fc1|1)' .* is NaN or infinite"):
        snn(images(2))


# ---- training


def test_a_network_of_times_learns_exclusive_or_and_stops():
    data = sw.load("xor")
    snn = sw.train("spikeprop", data, variant="adaptive", seed=0, epochs=600, progress=False)
    assert torch.equal(snn(data.test.batch(torch.arange(4))).argmax(1), data.test.labels)


def test_a_training_is_the_same_twice_and_starts_with_its_seed():
    settings = {"epochs": 2, "limit": 60, "progress": False}
    one, two = (sw.train("s4nn", "digits", seed=1, **settings) for _ in range(2))
    other = sw.train("s4nn", "digits", seed=2, **settings)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_idle_neurons_are_drawn_anew():
    snn = network("instant", torch.float32)
    idle = torch.tensor([3, 7])
    with torch.no_grad():
        snn.body.fc1.weight[idle] = -1
    split = sw.data.split.TensorSplit(images(30).float(), torch.zeros(30, dtype=torch.long))
    before = snn.body.fc1.weight.detach().clone()
    changed = Redraw([Uniform(2.0, 3.0)], least=0.01)(snn, split, torch.Generator().manual_seed(0))
    now = snn.body.fc1.weight.detach()
    same = (now == before).all(1)
    assert changed == (~same).sum() >= 2 and not same[idle].any() and same.any()
    assert now[idle].min() >= 2 and now[idle].max() <= 3


@pytest.mark.parametrize("smooth", [2, 3])
def test_smooth_first_weights(smooth):
    """Every pixel's weight: the mean and `smooth` times the average, by brute force, of the square around it."""
    shape, draw = (2, 5, 6), torch.Generator().manual_seed(0)
    plain = (Uniform(-1.0, 3.0)(3, 60, draw) - 1).view(3, *shape).tolist()
    got = Uniform(-1.0, 3.0, smooth, shape)(3, 60, draw.manual_seed(0)).view(3, *shape)
    near = range(-(smooth // 2), (smooth + 1) // 2)
    for n, c, y, x in product(range(3), range(2), range(5), range(6)):
        square = [plain[n][c][(y + dy) % 5][(x + dx) % 6] for dy in near for dx in near]
        assert got[n, c, y, x].item() == pytest.approx(1 + sum(square) / smooth, abs=1e-5)


def test_smooth_first_weights_keep_their_spread():
    weights = Uniform(-1.0, 2.0, 3, (1, 28, 28))(400, 784, torch.Generator().manual_seed(0))
    assert weights.mean().item() == pytest.approx(0.5, abs=0.01)
    assert weights.std().item() == pytest.approx(3 / 12**0.5, rel=0.01)


@pytest.mark.parametrize(("smooth", "shape"), [(3, (9,)), (9, (1, 8, 8)), (0, (1, 8, 8))])
def test_smooth_first_weights_need_images(smooth, shape):
    with pytest.raises(ConfigError, match=f"smooth over {smooth} pixels"):
        Uniform(0.0, 1.0, smooth, shape)(2, math.prod(shape))


def trained(**how):
    data = sw.load("xor")
    torch.manual_seed(0)
    net = dense("6-1", (2,), lambda n, m: EventLIF(n, m, 7.0, 7.0, gain=2.7, push=1.0), 3)
    net = nn.Sequential(net.flatten, Reference(), net.fc1, net.fc2)
    snn = SNN(net, 40, RampLatency(6.0), NearestTime())
    fit = Fit(snn, SquaredTime(), **({"batch": 4, "epochs": 5} | how))
    session = Session(data, progress=False)
    fit.run(session)
    return snn, session.records


def test_training_stops_below_a_loss():
    records = trained(optimizer=Polyak(0.01), epochs=9)[1]
    bound = records[4]["loss"] + 1e-9
    first = next(k for k, r in enumerate(records, 1) if r["loss"] < bound)
    assert len(trained(optimizer=Polyak(0.01), epochs=9, stop_below=bound)[1]) == first < 9


def test_weights_stay_above_their_floor():
    snn, _ = trained(optimizer=Rprop(0.3), weight_floor=0.0)
    assert min(p.min().item() for p in snn.parameters()) == 0.0


def test_rows_are_clipped():
    before, _ = trained(optimizer=sw.optim.SGD(1e-9, momentum=0.0), epochs=1)
    after, _ = trained(optimizer=sw.optim.SGD(1.0, momentum=0.0), epochs=1, clip_rows=0.01)
    moved = torch.cat(
        [(a - b).detach().norm(dim=1) for a, b in zip(after.parameters(), before.parameters(), strict=True)]
    )
    assert 0 < moved.max() <= 0.0101
