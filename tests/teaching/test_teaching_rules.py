"""Each rule's weight change against its equation written out, on trains made by hand and at random."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from spikewright import SNN, losses, recipes
from spikewright.encode import Frames
from spikewright.measure.trains import matched
from spikewright.neurons import LIF, DoubleExponential, ExactJump, Subtract, Synapse, SynapticDelay, UnitPeak
from spikewright.readout import MaxMembrane, NearestTrain, Threshold
from spikewright.teaching import (
    Align,
    Alphas,
    Correlate,
    Difference,
    Edits,
    Exponential,
    Potential,
    Pupil,
    Rule,
    Scaling,
    Triplet,
    TwoSided,
)
from spikewright.teaching.pairs import spikes_of
from spikewright.teaching.tempotron import cycle, potentials

F64 = torch.float64


def raster(times, steps=60):
    """One sample: spike steps by unit -> [T, 1, units]."""
    out = torch.zeros(steps, 1, len(times), dtype=F64)
    for unit, train in enumerate(times):
        out[list(train), 0, unit] = 1
    return out


INPUTS = [(5, 20), (12,), (30, 31, 50), ()]
DESIRED, OUT = [(21, 40)], [(20, 35, 52)]


def change(rule, inputs=INPUTS, out=OUT, desired=DESIRED, weight=None):
    weight = torch.full((len(out), len(inputs)), 0.3, dtype=F64) if weight is None else weight
    return rule.change(weight, raster(inputs), rule.events(raster(out), raster(desired)))


def test_resume_is_its_event_form():
    found = change(Rule(kernel=Exponential(7.0, 1.5), bias=0.05))[0]
    for i, train in enumerate(INPUTS):
        trace = lambda t: sum(1.5 * math.exp(-(t - s) / 7.0) for s in train if s < t)  # noqa: B023, E731
        wanted = sum(0.05 + trace(t) for t in DESIRED[0]) - sum(0.05 + trace(t) for t in OUT[0])
        assert found[i].item() == pytest.approx(wanted, rel=1e-12)
    assert not change(Rule(bias=0.05), out=DESIRED).any()  # where the trains coincide nothing changes


def test_an_input_at_the_very_step_is_too_late_to_be_credited():
    assert Exponential(7.0)(np.array([-1, 0, 1])).tolist() == [0, 0, math.exp(-1 / 7)]
    assert Exponential(7.0, now=True)(np.array([-1, 0])).tolist() == [0, 1]


def test_span_is_the_integral_of_the_filtered_trains():
    tau, h = 5.0, 0.002
    t = np.arange(-20, 400, h)

    def filtered(train):
        return sum((np.where(t >= s, math.e / tau * (t - s) * np.exp(-(t - s) / tau), 0) for s in train), 0 * t)

    found = change(Rule(kernel=Alphas(tau)))[0]
    error = filtered(DESIRED[0]) - filtered(OUT[0])
    for i, train in enumerate(INPUTS):
        assert found[i].item() == pytest.approx((filtered(train) * error).sum() * h / (4 * tau), rel=1e-6, abs=1e-6)
    assert found[2] != 0


def test_triplets_weigh_spikes_by_those_before_in_their_own_train():
    found = change(Rule(Triplet(25.0, 1.0, 0.5), Exponential(7.0), bias=0.05))[0]
    for i, train in enumerate(INPUTS):
        wanted = 0.0
        for sign, spikes in ((1, DESIRED[0]), (-1, OUT[0])):
            for t in spikes:
                slow = sum(math.exp(-(t - s) / 25.0) for s in spikes if s < t)
                trace = sum(math.exp(-(t - s) / 7.0) for s in train if s < t)
                wanted += sign * (1 + 0.5 * slow) * (0.05 + trace)
        assert found[i].item() == pytest.approx(wanted, rel=1e-12)


def test_chronotron_edits_by_hand():
    events = Edits(tau_q=10.0, gain=4.0)(raster([(12, 30, 50)]), raster([(10, 48, 20, 21)]))[:, 0, 0]
    # 12 -> 10 and 50 -> 48 move (cost .02 each); 30 -> 21 (.405) is cheaper than a new and a removed spike; 20 is new
    wanted = {12: 4 / 100 * 2, 50: 4 / 100 * 2, 30: 4 / 100 * 9, 20: 1.0}
    assert {t: events[t].item() for t in events.nonzero()[:, 0].tolist()} == pytest.approx(wanted)
    far = Edits(tau_q=2.0, gain=4.0)(raster([(12,)]), raster([(40,)]))[:, 0, 0]
    assert (far[12], far[40]) == (-1, 1) and far.count_nonzero() == 2


def neuron(weight, tau=40.0, tau_s=10.0):
    dense = nn.Linear(weight.shape[1], weight.shape[0], bias=False).double()
    dense.weight.data.copy_(weight)
    return nn.Sequential(
        nn.Flatten(), dense, Synapse(ExactJump(tau_s)), LIF(leak=UnitPeak(tau, tau_s), reset=Subtract())
    )


def test_the_potential_is_the_neurons_own_response():
    response = DoubleExponential(ExactJump(10.0), UnitPeak(40.0, 10.0)).run(raster([(3,)], 200))[0][:, 0, 0]
    kernel = Potential(40.0, 10.0)(np.arange(200) - 3)
    assert response.tolist() == pytest.approx(kernel.tolist(), rel=1e-12, abs=1e-15)
    assert kernel.max() == pytest.approx(1.0, rel=1e-12) and kernel.argmax() in (20, 21, 22)


def test_chronotron_descends_its_cost():
    """dE/dw by finite differences has the sign of -dw, where all spikes are matched."""
    steps, n, tau_q = 4000, 40, 400.0
    source = np.random.RandomState(3)
    inputs = torch.zeros(1, steps, n, dtype=F64)
    inputs[0, source.randint(0, steps - 500, 160), source.randint(0, n, 160)] = 1
    weight = torch.from_numpy(source.uniform(0.1, 0.25, (1, n)))

    def spikes(w):
        out = SNN(neuron(w, 400.0, 100.0), steps, Frames()).run(inputs).out
        return out[:, 0, 0].nonzero()[:, 0].numpy()

    def cost(train):
        match = matched(train, target, lambda dt: (dt / tau_q) ** 2 / 2)
        return match.cost, not match.removed and not match.added

    train = spikes(weight)
    assert len(train) >= 3
    target = train + source.randint(40, 90, len(train)) * source.choice([-1, 1], len(train))
    out, desired = torch.zeros(2, steps, 1, 1, dtype=F64)
    out[train], desired[target] = 1, 1
    rule = Rule(Edits(tau_q, tau_q), Potential(400.0, 100.0))
    dw = rule.change(weight, inputs.transpose(0, 1), rule.events(out, desired))[0]
    agree, tried = 0, 0
    for i in dw.abs().argsort(descending=True)[:6].tolist():
        probe = torch.zeros_like(weight)
        probe[0, i] = 0.01
        (up, same), (down, still) = cost(spikes(weight + probe)), cost(spikes(weight - probe))
        if same and still:
            tried += 1
            agree += (up - down) * dw[i].item() < 0
    assert tried >= 4 and agree >= tried - 1  # a later spike also moves by the resets that the rule leaves out


def test_signed_weights_keep_their_side():
    rule = Rule(kernel=Exponential(2.5, now=True), signed=True)
    weight = torch.tensor([[0.5, -0.5, 0.01, -0.01]], dtype=F64)
    found = change(rule, weight=weight)
    plain = change(Rule(kernel=Exponential(2.5, now=True)), weight=weight)
    torch.testing.assert_close(found, plain * weight.sign())
    after = rule.bounded(torch.tensor([[0.4, 0.1, -0.2, -0.3]], dtype=F64), weight)
    assert after.tolist() == [[0.4, -1e-6, 1e-6, -0.3]]


def test_multi_resume_is_its_two_equations():
    steps, sizes = 60, (4, 3, 2)
    source = np.random.RandomState(1)
    inputs = raster(INPUTS)
    hidden_w = torch.from_numpy(source.uniform(0.3, 0.9, (3, 4)))
    out_w = torch.from_numpy(source.uniform(-0.3, 1.5, (2, 3)))
    body = nn.Sequential(*neuron(hidden_w), *list(neuron(out_w))[1:])
    rule = Rule(kernel=TwoSided(7.0, 9.0, 1.0, 0.4), bias=0.05, by_fan_in=True)
    snn = SNN(body, steps, Frames(), NearestTrain((((25, 40), (33,)),)))
    pupil = Pupil(snn, losses.OwnScore(), rule)
    value, _ = pupil(inputs.transpose(0, 1), torch.zeros(1, dtype=torch.long), torch.Generator())
    value.backward()
    found_h, found_o = (-layer.weight.grad for layer in pupil.layers)
    given, run = pupil._observed(inputs.transpose(0, 1), torch.Generator())
    trains = {"i": given[0], "h": given[1], "o": run.out}
    times = {k: [x[:, 0, u].nonzero()[:, 0].tolist() for u in range(x.shape[-1])] for k, x in trains.items()}
    assert all(times["o"]) and all(times["h"])

    def terms(pre, k):
        """sum over pairs of S_pre and (S_d - S_o) of neuron k, both integrals and the constant."""
        total = 0.0
        for sign, events in ((1, [(25, 40), (33,)][k]), (-1, times["o"][k])):
            for t in events:
                total += sign * (0.05 + sum(math.exp(-(t - s) / 7.0) for s in pre if s < t))
                total += sign * sum(-0.4 * math.exp(-(s - t) / 9.0) for s in pre if s >= t)
        return total

    for h in range(sizes[1]):
        for k in range(sizes[2]):
            assert found_o[k, h].item() == pytest.approx(terms(times["h"][h], k) / 3, rel=1e-9)
        for i in range(sizes[0]):
            wanted = sum(abs(out_w[k, h].item()) * terms(times["i"][i], k) for k in range(2)) / (3 * 4)
            assert found_h[h, i].item() == pytest.approx(wanted, rel=1e-9)


def test_scaling_brings_rates_back_into_bounds():
    weight = torch.tensor([[0.5, -0.5], [0.5, -0.5], [0.5, -0.5]])
    found = Scaling(1.0, 3.0, 0.1)(weight, torch.tensor([0.0, 2.0, 5.0]))
    assert found[1].tolist() == [0.5, -0.5]
    assert found[0].tolist() == pytest.approx([0.55, -0.5 / 1.1]) and found[2].tolist() == pytest.approx(
        [0.5 / 1.1, -0.55]
    )


# ---- delays


def test_a_delayed_layer_is_a_dense_layer_on_shifted_inputs():
    delay = SynapticDelay(4, 2, longest=9).double()
    delay.steps.copy_(torch.tensor([[0, 3, 9, 1.4], [2, 0, 0.4, 8]]))
    weight = torch.rand(2, 4, 1, generator=torch.Generator().manual_seed(0), dtype=F64)
    conv = nn.Conv1d(8, 2, 1, groups=2, bias=False).double()
    conv.weight.data.copy_(weight)
    x = raster(INPUTS).transpose(0, 1)
    out = (
        SNN(nn.Sequential(nn.Flatten(), delay, nn.Unflatten(1, (8, 1)), conv, nn.Flatten()), 60, Frames())
        .run(x)
        .out[:, 0]
    )
    for k, delays in enumerate([[0, 3, 9, 1], [2, 0, 0, 8]]):
        shifted = raster([[s + d for s in train if s + d < 60] for train, d in zip(INPUTS, delays, strict=True)])[:, 0]
        torch.testing.assert_close(out[:, k], shifted @ weight[k, :, 0])


def test_align_sets_one_delay_once_for_each_missing_and_extra_spike():
    inputs, weight = raster([(10,), (18,), (24,), (10,)]), torch.tensor([[0.2, 0.2, 0.2, -0.2]], dtype=F64)
    rule = Align(lead=5.0)
    out, desired = raster([(40,)]), raster([(25,)])
    found = rule(torch.zeros(1, 4, dtype=F64), 30, weight, inputs, out, desired)
    # missing at 25: input 2 (at 24) is nearer than the lead, input 1 peaks there if it comes 2 later; extra at 40: the
    # inhibitory one, 25 later
    assert found.tolist() == [[0, 2, 0, 25]]
    again = rule(found, 30, weight, inputs, raster([()]), desired)
    assert again.tolist() == [[10, 2, 0, 25]]  # set once: the next one takes its turn
    assert rule(torch.zeros(1, 4, dtype=F64), 9, weight, inputs, out, raster([()])).tolist() == [
        [0, 0, 0, 0]
    ]  # too long


def test_delays_climb_the_correlation_with_the_desired_train():
    rule = Correlate(rate=2.0, tau=7.0)
    delays = torch.full((1, 4), 3.0, dtype=F64)
    found = rule(delays, 30, torch.ones(1, 4), raster(INPUTS), raster(OUT), raster(DESIRED))[0]
    for i, train in enumerate(INPUTS):
        x = lambda t: sum(math.exp(-(t - s) / 7.0) for s in train if s < t)  # noqa: B023, E731
        wanted = 3.0 + 2.0 / 7.0 * (sum(map(x, DESIRED[0])) - sum(map(x, OUT[0])))
        assert found[i].item() == pytest.approx(wanted, rel=1e-12)
    assert found[3] == 3 and (found != 3).any()
    assert rule(delays, 30, torch.ones(1, 4), raster(INPUTS), raster([()]), raster([range(60)])).max() <= 30
    # The slope it climbs is that of the trace: a delay a little longer raises it by as much.
    trace = lambda d: math.exp(-(25 - 12 - d) / 7.0)  # noqa: E731
    slope = rule(torch.zeros(1, 1, dtype=F64), 30, torch.ones(1, 1), raster([(12,)]), raster([()]), raster([(25,)]))
    assert slope.item() / 2.0 == pytest.approx((trace(1e-6) - trace(-1e-6)) / 2e-6, rel=1e-6)


# ---- the tempotron


def tempotron(weight, readout):
    dense = nn.Linear(weight.shape[1], weight.shape[0], bias=False).double()
    dense.weight.data.copy_(weight)
    body = nn.Sequential(nn.Flatten(), dense, DoubleExponential(ExactJump(4.0), UnitPeak(15.0, 4.0)))
    return SNN(body, 60, Frames(), readout), dense


def test_the_tempotron_s_gradient_is_its_rule():
    weight = torch.tensor([[0.9, 0.4, 0.3, 0.2], [0.1, 0.1, 0.2, 0.1]], dtype=F64)
    snn, dense = tempotron(weight, MaxMembrane())
    run = snn.run(raster(INPUTS).transpose(0, 1))
    losses.Tempotron(1.0)(run, torch.tensor([1])).backward()  # neuron 0 fires and should not, neuron 1 the reverse
    top = run.out.max(0)
    assert top.values[0, 0] > 1 > top.values[0, 1]
    kernel = Potential(15.0, 4.0)
    for k, sign in ((0, -1), (1, 1)):
        t_max = int(top.indices[0, k])
        for i, train in enumerate(INPUTS):
            wanted = sign * sum(kernel(np.array([t_max - s]))[0] for s in train if s <= t_max)
            assert -dense.weight.grad[k, i].item() == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_the_compiled_cycle_is_sgd_with_batches_of_one():
    source = np.random.RandomState(0)
    frames = torch.zeros(12, 60, 5, dtype=F64)
    for p in range(12):
        frames[p, source.randint(0, 50, 5), np.arange(5)] = 1
    labels = torch.from_numpy(source.randint(0, 2, 12))
    snn, dense = tempotron(torch.from_numpy(source.normal(0.2, 0.1, (1, 5))), Threshold(1.0))
    w, velocity = dense.weight.detach()[0].float().numpy().copy(), np.zeros(5, np.float32)
    optimizer, wrong = torch.optim.SGD([dense.weight], 0.02, momentum=0.9), 0
    for p in range(12):
        run = snn.run(frames[p : p + 1])
        loss = losses.Tempotron(1.0)(run, labels[p : p + 1])
        wrong += int(loss > 0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    psp = potentials(frames, Potential(15.0, 4.0))
    errors = cycle(psp, labels.numpy() == 1, np.arange(12), w, velocity, np.float32(0.02), np.float32(0.9), 1.0)
    assert 0 < errors == wrong < 12
    assert w.tolist() == pytest.approx(dense.weight[0].tolist(), rel=1e-4)


# ---- the engine


def test_the_sums_are_all_pairs_of_one_sample():
    g = torch.Generator().manual_seed(0)
    inputs = (torch.rand(40, 3, 6, generator=g) < 0.1).double() * 2
    events = torch.randn(40, 3, 2, generator=g, dtype=F64) * (torch.rand(40, 3, 2, generator=g) < 0.1)
    found = Rule(kernel=TwoSided(7.0, 3.0)).change(torch.ones(2, 6, dtype=F64), inputs, events)
    kernel = TwoSided(7.0, 3.0)(np.arange(40)[:, None] - np.arange(40))
    wanted = torch.einsum("tbk,ts,sbn->kn", events, torch.from_numpy(kernel), inputs) / 3
    torch.testing.assert_close(found, wanted)
    assert spikes_of(inputs).offsets.tolist()[-1] == inputs.count_nonzero()


def test_own_inputs_of_every_neuron_are_its_own():
    rule = Rule(kernel=Exponential(7.0), bias=0.05)
    out, desired = raster([*OUT, (8,)]), raster([*DESIRED, (30, 44)])
    doubled = torch.cat([raster(INPUTS), raster(INPUTS[::-1])], -1)
    found = rule.change(torch.ones(2, 4, dtype=F64), doubled, rule.events(out, desired))
    for k, inputs in enumerate([INPUTS, INPUTS[::-1]]):
        alone = rule.change(torch.ones(1, 4, dtype=F64), raster(inputs), Difference()(out, desired)[..., k : k + 1])
        torch.testing.assert_close(found[k], alone[0])


@pytest.mark.parametrize("name", ["resume", "dl-resume", "ccds", "chronotron", "span", "t-resume", "multi-resume"])
def test_every_recipe_s_rule_is_made_of_finite_numbers(name):
    rule = recipes.get(name)().rule()
    worth = rule.kernel(np.arange(-4000, 4001))
    assert np.isfinite(worth).all() and worth.max() > 0
    assert np.abs(worth[:3000]).max() < 1e-3  # nobody credits inputs that come 100 ms later
