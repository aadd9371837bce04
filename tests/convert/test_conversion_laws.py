"""The laws of rate conversion: closed forms, equal forms, the order of the error."""

import math
from functools import partial

import pytest
import torch
from networks import Dense, Mlp, UserNet, images, made
from torch import nn

import spikewright as sw
from spikewright.convert import Calibration, Largest, Method, Percentile, Spiking, converted
from spikewright.convert.estimate import Given
from spikewright.neurons import IF, Charge, Delay, HardReset, MaxPoolGate, Subtract

F64 = torch.float64


def counts(neuron, z, steps, size=1.0):
    """Spikes of a neuron under a constant current: z [N] -> [N]."""
    out, _ = neuron.run(z.expand(steps, 1, -1))
    return out.sum(0)[0] / size


# ---- one neuron


@pytest.mark.parametrize("v_init", [0.0, 0.5])
@pytest.mark.parametrize("strict", [False, True])
def test_the_floor_law(strict, v_init):
    z, th, steps = torch.arange(-64, 200, dtype=F64) / 64, 0.75, 24
    found = counts(IF(th, Subtract(), strict=strict, v_init=v_init, size=0.3), z, steps, 0.3)
    level = (z * steps + v_init) / th
    wanted = (level.ceil() - 1 if strict else level.floor()).clamp(0, steps)
    assert torch.allclose(found, wanted, atol=1e-9) and 0 < found.mean() < steps


def test_what_goes_in_comes_out_or_stays():
    z = torch.randn(50, 4, 30, dtype=F64, generator=torch.Generator().manual_seed(0)) * 0.5 + 0.3
    out, (v,) = IF(0.8, v_init=0.2).run(z)
    torch.testing.assert_close(0.8 * out.sum(0), z.sum(0) + 0.2 - v, rtol=0, atol=1e-12)
    assert out.sum() > 0


def test_a_reset_to_zero_loses_the_overshoot():
    z = torch.tensor([0.6], dtype=F64)
    assert counts(IF(1.0, HardReset()), z, 600) == 300
    assert counts(IF(1.0, Subtract()), z, 600) in (359, 360)


def test_a_shift_is_half_a_threshold_at_the_start_at_its_own_t_only():
    z = torch.rand(4000, dtype=F64, generator=torch.Generator().manual_seed(0))
    shifted = counts(IF(1.0), z + 1 / 64, 32)
    assert torch.equal(shifted, counts(IF(1.0, v_init=0.5), z, 32))
    same = (counts(IF(1.0), z + 1 / 64, 8) == counts(IF(1.0, v_init=0.5), z, 8)).double().mean()
    assert 0.5 < same < 0.9
    error = shifted / 32 - z
    plain = counts(IF(1.0), z, 32) / 32 - z
    assert abs(error.mean()) < 2e-3 and plain.mean() < -0.01
    assert plain.square().mean() / error.square().mean() == pytest.approx(4, rel=0.1)


def test_a_charge_is_an_initial_potential():
    z = torch.rand(20, 3, 5, dtype=F64, generator=torch.Generator().manual_seed(1))
    charge = Charge((5,)).double()
    charge.charge += torch.tensor([0.5, 0.0, 0.9, -0.4, 0.1], dtype=F64)
    out, _ = IF(1.0).run(charge.run(z)[0])
    for i, start in enumerate(charge.charge.tolist()):
        assert torch.equal(out[..., i], IF(1.0, v_init=start).run(z)[0][..., i])
    assert 0 < out.mean() < 1


def test_a_delay_reaches_layer_n_at_step_n():
    x = torch.zeros(6, 1, 1)
    x[0] = 1
    for n in range(5):
        assert x.squeeze().tolist() == [float(t == n) for t in range(6)]
        x = Delay().run(x)[0]


def test_a_max_pool_gate_tends_to_the_largest_rate():
    rates = torch.rand(1, 2, 2, 6, 6, generator=torch.Generator().manual_seed(0))
    spikes = IF(1.0).run(rates.expand(400, *rates.shape[1:]))[0]
    out, _ = MaxPoolGate(2).run(spikes)
    wanted = nn.functional.max_pool2d(rates[0], 2)
    assert set(out.unique().tolist()) == {0.0, 1.0}
    error = (out.mean(0) - wanted).abs()
    assert error.mean() < 0.005 and error.max() < 0.06  # two inputs of almost the same rate take turns
    assert (nn.functional.max_pool2d(spikes.flatten(0, 1), 2).unflatten(0, (400, 2)).mean(0) - wanted).max() > 0.2


# ---- whole networks


def in_form(net, x, form, steps, thetas, **how):
    data = Calibration.of(x, net)
    return converted(net, data, Method(Given(thetas), form=form, **how), steps)


@pytest.mark.parametrize("kind", [UserNet, Dense, Mlp], ids=lambda k: k.__name__)
@pytest.mark.parametrize("v_init", [0.0, 0.5])
def test_the_three_forms_are_equal_spike_for_spike(kind, v_init):
    net = made(kind).double()
    x = images(12, (1, 4, 4) if kind is Mlp else (1, 8, 8), dtype=F64)
    found = converted(net, Calibration.of(x, net), Method(Largest()), 4).thresholds
    thetas = {name: 2.0 ** math.ceil(math.log2(theta)) for name, theta in found.items()}  # exact in floats
    spikes, scores = [], []
    for form in ("weights", "spikes", "thresholds"):
        made_ = in_form(net, x, form, 40, thetas, neuron=Spiking(v_init=v_init))
        seen = {}
        for n in thetas:
            look = partial(lambda seen, n, m, a, out: seen.update({n: out != 0}), seen, n)
            made_.snn.body.get_submodule(n).register_forward_hook(look)
        with torch.no_grad():
            scores.append(made_.snn.run(x).scores)
        assert seen.keys() == thetas.keys()
        spikes.append(seen)
    for other in spikes[1:]:
        assert other.keys() == spikes[0].keys()
        for name, fired in spikes[0].items():
            assert 0.005 < fired.double().mean() < 0.99, name
            assert torch.equal(fired, other[name]), name
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(scores[2] * made_.out, scores[1], rtol=1e-9, atol=1e-9)


def test_the_wrong_mix_of_forms_is_not_equal():
    net, x = made(Mlp, widths=(16, 40, 40, 10)).double(), images(12, (1, 4, 4), dtype=F64)
    right = converted(net, Calibration.of(x, net), Method(Largest(), form="spikes"), 100)
    wrong = converted(net, Calibration.of(x, net), Method(Largest(), form="spikes"), 100)
    for layer in wrong.snn.modules():
        if isinstance(layer, IF):
            layer.size = 1.0  # thresholds of the one form, spikes of the other
    assert not torch.equal(right.snn(x), wrong.snn(x))


@pytest.mark.parametrize("seed", range(10))
def test_the_error_falls_as_one_over_t_and_the_verdicts_agree(seed):
    """Battery 14: ten random ReLU networks, T = 8 .. 512."""
    net, x = made(Mlp, seed, widths=(16, 40, 40, 10)).double(), images(300, (1, 4, 4), seed, F64)
    with torch.no_grad():
        wanted = net(x)
        found = converted(net, Calibration.of(x, net), Method(Largest(), neuron=Spiking(v_init=0.5)), 512)
        scores = found.snn.scores(x)
    steps = [2**k for k in range(3, 10)]
    errors = [(scores[t - 1] - wanted).abs().mean().log().item() for t in steps]
    xs = torch.tensor(steps, dtype=F64).log()
    slope = ((xs - xs.mean()) * (torch.tensor(errors, dtype=F64) - sum(errors) / 7)).sum() / (
        xs - xs.mean()
    ).square().sum()
    assert slope.item() == pytest.approx(-1, abs=0.15)
    margin = wanted.topk(2).values.diff().abs()[:, 0]
    clear = margin > margin.quantile(0.05)  # random networks tie for some inputs
    assert (scores[-1].argmax(1) == wanted.argmax(1))[clear].double().mean() >= 0.99


def test_a_users_residual_network_agrees_with_its_ann_in_every_form_and_with_every_pool():
    net, x = made(UserNet), images(100)
    with torch.no_grad():
        wanted = net(x)
        for how in ({"form": "weights"}, {"form": "spikes"}, {"form": "thresholds"}, {"pool": "spiking"}):
            found = converted(net, Calibration.of(x, net), Method(Percentile(100), **how), 600)
            assert (found.ann(x) - wanted).abs().max() < 1e-5
            error = (found.out * found.snn(x) - wanted).abs().mean() / wanted.std(0).mean()
            assert error < 0.25, how


def test_normalising_weights_makes_every_activation_at_most_one_and_scores_stay():
    net, x = made(Dense).double(), images(60, dtype=F64)
    found = converted(net, Calibration.of(x, net), Method(Largest()), 4)
    body = found.snn.body
    rectified = body.replaced({n: nn.ReLU() for n in found.thresholds})
    with torch.no_grad():
        values = rectified.values(x)
        torch.testing.assert_close(values[rectified.output], net(x), rtol=1e-9, atol=1e-9)
    for name in found.thresholds:
        assert values[name].max().item() == pytest.approx(1, rel=1e-9), name


def test_a_converted_network_saves_loads_and_does_not_depend_on_its_batch(tmp_path):
    net, x = made(UserNet), images(30)
    snn = sw.convert(net, calibrate_on=x, steps=150)
    snn.save(tmp_path)
    again = sw.load_model(tmp_path)
    assert torch.equal(again(x), snn(x)) and repr(again) == repr(snn)
    whole = snn.double()
    x = x.double()
    parts = torch.cat([whole(x[i : i + 7]) for i in range(0, 30, 7)])
    torch.testing.assert_close(parts, whole(x), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(whole.scores(x, chunk=13), whole.scores(x), rtol=1e-9, atol=1e-9)
