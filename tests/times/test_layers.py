"""Layers of spike times: reference values, finite differences, brute force, closed forms."""

import math

import pytest
import torch
from torch import Tensor

from spikewright.errors import ConfigError, NumericError
from spikewright.times import (
    BinaryIF,
    Delays,
    Dense,
    EventLIF,
    ExponentialIF,
    InstantIF,
    Potential,
    RampIF,
    Reference,
    first_spikes,
    raster,
)

F64 = torch.float64
INF = math.inf


def times(*shape: int, seed: int = 0, span: float = 20.0, silent: float = 0.2, whole: bool = False) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    t = torch.rand(*shape, generator=g, dtype=F64) * span
    t = t.floor() if whole else t
    return torch.where(torch.rand(*shape, generator=g) < silent, INF, t)


def drawn(layer: Dense, low: float, high: float, seed: int = 1) -> Dense:
    g = torch.Generator().manual_seed(seed)
    layer = layer.double()
    layer.weight.data.copy_(torch.rand(layer.weight.shape, generator=g, dtype=F64) * (high - low) + low)
    return layer


def tensor(*rows: float) -> Tensor:
    return torch.tensor([rows], dtype=F64)


def some_fire(out: Tensor) -> None:
    share = out.isfinite().double().mean()
    assert 0.05 < share <= 1


# ---- reference values


def test_s4nn_reference():
    layer = InstantIF(3, 3).double()
    layer.weight.data = torch.tensor([[60, 30, 30], [60, 45, 10], [10, 10, 10]], dtype=F64)
    assert layer.run(tensor(10, 20, 30), 256).tolist() == [[31, 21, INF]]


def test_mostafa_reference():
    layer = ExponentialIF(4, 1, tau_s=1.0).double()
    layer.weight.data = tensor(0.7, 0.6, -0.2, 0.9)
    t = tensor(0, 0.3, 0.8, 1.79).requires_grad_()
    z = layer.run(t, 100).exp()
    z.sum().backward()
    assert z.item() == pytest.approx(6.455314318591911, rel=1e-12)
    assert layer.weight.grad[0].tolist() == pytest.approx(
        [-5.455314318591911, -5.105455511015908, -4.229773390099442, -0.46586185220879717], rel=1e-10
    )
    assert (t.grad / t.detach().exp())[0].tolist() == pytest.approx([0.7, 0.6, -0.2, 0.9], rel=1e-10)


def test_ramp_reference():
    layer = RampIF(4, 1).double()
    layer.weight.data = tensor(0.2, 0.3, -0.1, 0.4)
    assert layer.run(tensor(0, 1, 2, 5), 100).item() == pytest.approx(2.75, rel=1e-12)


def test_eventprop_reference():
    layer = EventLIF(6, 1, 20.0, 5.0, spikes_each=10, floor=1e-9).double()
    layer.weight.data = tensor(6, 5, 3, 7, -1.5, 8)
    out = layer.run(tensor(1, 3, 6, 10, 11, 20), 60)
    spikes = out[out.isfinite()]
    wanted = [4.509560346324695, 8.019853527370929, 11.479402634351134, 18.732257663094174, 22.87392033212688]
    assert spikes.tolist() == pytest.approx(wanted, rel=1e-9)
    spikes.sum().backward()
    wanted = [-11.177932998182216, -10.895340621820232, -9.934376539145747, -8.497486957977273, -8.04423206650583]
    assert layer.weight.grad[0].tolist() == pytest.approx([*wanted, -0.48511878501463596], rel=1e-8)


# ---- gradients


def exact(layer: Dense, t: Tensor, steps: int = 60) -> None:
    t = t.clamp(max=2.0 * steps)  # infinity has no difference quotient; after the end it is the same
    some_fire(layer.run(t, steps))

    def function(weight: Tensor, t: Tensor) -> Tensor:
        out = torch.func.functional_call(_Runs(layer, steps), {"layer.weight": weight}, (t,))
        return torch.where(out.isfinite(), out, 0.0)

    weight = layer.weight.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(function, (weight, t.requires_grad_()), eps=1e-6, rtol=1e-6, atol=1e-7)


class _Runs(torch.nn.Module):
    def __init__(self, layer: Dense, steps: int):
        super().__init__()
        self.layer, self.steps = layer, steps

    def forward(self, t: Tensor) -> Tensor:
        return self.layer.run(t, self.steps)


@pytest.mark.parametrize("kind", [ExponentialIF, RampIF])
def test_causal_gradients_are_exact(kind):
    exact(drawn(kind(20, 8), -0.15, 0.45), times(4, 20))


def test_causal_neurons_take_many_events_of_a_moment_by_brute_force():
    layer = drawn(RampIF(30, 8), -0.15, 0.3)
    t = (times(6, 30, span=3.0, whole=True) * 2).requires_grad_()  # three moments of some eight events each
    out, (x, w) = layer.run(t, 60), (t.detach(), layer.weight.detach())
    some_fire(out)
    g = drawn_like(out)
    dt, dw = torch.autograd.grad(torch.where(out.isfinite(), out, 0.0), (t, layer.weight), g)
    wanted, of_t, of_w = torch.full_like(out, INF), torch.zeros_like(dt), torch.zeros_like(dw)
    for b in range(6):
        for j in range(8):
            for now, after in ((0.0, 2.0), (2.0, 4.0), (4.0, 60.0)):
                early = x[b] <= now
                slope = w[j, early].sum()
                at = (1 + (w[j, early] * x[b, early]).sum()) / slope
                if slope > 0 and at < after:
                    wanted[b, j] = at
                    of_t[b, early] += g[b, j] * w[j, early] / slope
                    of_w[j, early] += g[b, j] * (x[b, early] - at) / slope
                    break
    torch.testing.assert_close(out.detach(), wanted)
    torch.testing.assert_close(dt, of_t)
    torch.testing.assert_close(dw, of_w)


def drawn_like(x: Tensor) -> Tensor:
    return torch.rand(x.shape, generator=torch.Generator().manual_seed(5), dtype=F64) - 0.3


@pytest.mark.parametrize("shape", [(3, 12), (2, 3, 12)])
@pytest.mark.parametrize("tau_m, tau_s, each", [(20.0, 5.0, 1), (20.0, 5.0, 4), (7.0, 7.0, 1), (4.0, 2.0, 5)])
def test_the_adjoint_is_exact(tau_m, tau_s, each, shape):
    layer = EventLIF(12, 6, tau_m, tau_s, spikes_each=each, floor=1e-9, gain=2.5, inhibitory=3)
    exact(drawn(layer, -0.5, 2.5), times(*shape))


def test_potentials_have_exact_gradients():
    exact(drawn(Potential(12, 4), -1, 1), times(3, 2, 12), 30)


def test_the_approximate_rule_by_brute_force():
    layer, t = drawn(InstantIF(12, 6, v_th=2.0, normalize=False), -0.3, 1.0), times(5, 12, whole=True).requires_grad_()
    out = layer.run(t, 24)
    some_fire(out)
    assert out.isinf().any()
    g = torch.randn(5, 6, dtype=F64, generator=torch.Generator().manual_seed(4))
    dt, dw = torch.autograd.grad(out, (t, layer.weight), g)
    before = (t[:, None] < out.clamp(max=24)[..., None]).double()  # [B, M, N]
    torch.testing.assert_close(dw, -(g[..., None] * before).sum(0))
    torch.testing.assert_close(dt, (g[..., None] * before * layer.weight).sum(1))
    layer.factor = 0.3
    torch.testing.assert_close(torch.autograd.grad(layer.run(t, 24), t, g)[0], 0.3 * dt)


def test_late_neurons_say_how_far_they_stayed_below():
    layer, t = drawn(InstantIF(12, 6, v_th=2.0), -0.3, 1.0), times(5, 12, whole=True)
    plain, layer.late = layer.run(t, 20), True
    out = layer.run(t, 20)
    some_fire(plain)
    silent = plain.isinf()
    assert silent.any() and torch.equal(out[~silent], plain[~silent])
    v = (t < 19).double() @ layer.weight.T  # a spike at 19 could make nothing fire before 20
    torch.testing.assert_close(out[silent], (20 + (2 - v) / 2)[silent])
    assert (out[silent] >= 20).all()


def test_on_a_straight_line_the_stronger_jump_fires_first():
    layer = InstantIF(2, 3, v_th=2.0, latency=4.0, straight=True).double()
    layer.weight.data = torch.tensor([[1, 1], [1, 3], [-2, 8]], dtype=F64)
    # from 1 to 2 (not above), from 1 to 4: a third of 4 steps, from -2 to 6: half of them
    assert layer.run(tensor(3, 5), 20).tolist() == [[INF, pytest.approx(5 + 4 / 3), 7.0]]
    layer, t = drawn(InstantIF(12, 6, v_th=2.0), -0.3, 1.0), times(5, 12, whole=True)
    plain, layer.straight = layer.run(t, 24), True
    out = layer.run(t, 24)
    some_fire(out)
    fired = out.isfinite()
    assert torch.equal(fired, plain.isfinite())
    assert ((out <= plain) & (out > plain - 1))[fired].all() and (out != plain)[fired].any()


def test_normalised_errors_keep_their_norm_on_the_way_down():
    layer, t = drawn(InstantIF(12, 6, v_th=2.0), -0.3, 1.0), times(5, 12, whole=True).requires_grad_()
    g = torch.randn(5, 6, dtype=F64, generator=torch.Generator().manual_seed(4))
    (dt,) = torch.autograd.grad(layer.run(t, 24), t, g)
    torch.testing.assert_close(dt.norm(dim=1), g.norm(dim=1))


def test_the_error_may_go_down_through_the_weights_of_after_the_step():
    t, g = times(3, 12, whole=True).requires_grad_(), torch.tensor([[1.0, -2.0, 0.5]] * 3, dtype=F64)
    layer = drawn(InstantIF(12, 3, v_th=2.0, normalize=False, ahead=0.1), -0.3, 1.0)
    dt, dw = torch.autograd.grad(layer.run(t, 24), (t, layer.weight), g)
    before = (t[:, None] < layer.run(t, 24).clamp(max=24)[..., None]).double()  # [B, M, N]
    own = -(g[..., None] * before)  # of every sample by itself
    torch.testing.assert_close(own.sum(0), dw)
    torch.testing.assert_close(dt, (g[..., None] * before * (layer.weight - 0.1 * own)).sum(1))


def test_binary_weights_act_as_scaled_signs():
    t = times(6, 30, whole=True)
    binary = drawn(BinaryIF(30, 8, v_th=20.0, scale=5.0), -1, 2)
    plain = drawn(InstantIF(30, 8, v_th=20.0), 0, 1)
    plain.weight.data = 5.0 * torch.where(binary.weight >= 0, 1.0, -1.0).double()
    out = binary.run(t, 30)
    some_fire(out)
    assert torch.equal(out, plain.run(t, 30))
    g = torch.randn(6, 8, dtype=F64, generator=torch.Generator().manual_seed(4))
    dw, da = torch.autograd.grad(out, (binary.weight, binary.a), g)
    torch.testing.assert_close(dw, torch.autograd.grad(plain.run(t, 30), plain.weight, g)[0])
    assert da.item() == pytest.approx(0.1 * (dw * plain.weight.sign()).mean().item(), rel=1e-6)


def test_binary_weights_hand_errors_down_as_signs_or_as_what_stands_behind_them():
    t = times(6, 30, whole=True).requires_grad_()
    g = torch.randn(6, 8, dtype=F64, generator=torch.Generator().manual_seed(4))
    for signed in (True, False):
        binary = drawn(BinaryIF(30, 8, v_th=20.0, normalize=False, signed=signed), -1, 2)
        out = binary.run(t, 30)
        some_fire(out)
        (dt,) = torch.autograd.grad(out, t, g)
        before = (t[:, None] < out.clamp(max=30)[..., None]).double()
        weight = 5.0 * torch.where(binary.weight >= 0, 1.0, -1.0).double() if signed else binary.weight
        torch.testing.assert_close(dt, (g[..., None] * before * weight).sum(1))


# ---- brute force and other roads to the same time


def walk(layer: EventLIF, t: Tensor, steps: int, fine: int = 4000) -> Tensor:
    """First spikes of the differential equations on a fine grid."""
    v = torch.zeros(len(t), layer.out_features, dtype=F64)
    i = torch.zeros_like(v)
    out = torch.full_like(v, INF)
    h = 1 / fine
    weight = layer.effective().detach()
    for k in range(steps * fine):
        arrived = ((t >= k * h) & (t < (k + 1) * h)).double()
        v = v + h / layer.tau_m * (i - v)
        i = i * (1 - h / layer.tau_s) + arrived @ weight.t()
        fired = (v >= layer.v_th) & out.isinf()
        out = torch.where(fired, (k + 1) * h, out)
    return out


def test_events_are_where_a_fine_grid_finds_them():
    layer = drawn(EventLIF(6, 5, 8.0, 3.0), -1.0, 3.0)
    t = times(3, 6, span=5.0)
    out = layer.run(t, 12)
    some_fire(out)
    grid = walk(layer, t, 12, fine=1000)
    assert torch.equal(out.isfinite(), grid.isfinite())
    assert (out - grid)[out.isfinite()].abs().max() < 0.01


def test_equal_time_constants_are_the_limit_of_unequal_ones():
    t = times(4, 10)
    equal, near = drawn(EventLIF(10, 5, 6.0, 6.0), -0.5, 2), drawn(EventLIF(10, 5, 6.0 + 1e-6, 6.0), -0.5, 2)
    some_fire(equal.run(t, 40))
    torch.testing.assert_close(equal.run(t, 40), near.run(t, 40), rtol=1e-5, atol=1e-5)


def test_one_spike_equals_spikeprops_closed_form():
    """u(t) = sum w e(t - t_i), e(s) = (s / tau) exp(1 - s / tau): at the spike u = v_th, dt/dw = -e / u'."""
    tau = 7.0
    layer = drawn(EventLIF(10, 4, tau, tau, gain=math.e, floor=1e-9), 0, 0.5)
    t = times(1, 10, span=6.0, silent=0.0)
    out = layer.run(t, 40)
    assert out.isfinite().all()
    s = (out.detach()[0, :, None] - t).clamp(min=0)
    e, slope = s / tau * (1 - s / tau).exp(), (s > 0) * (1 - s / tau) / tau * (1 - s / tau).exp()
    torch.testing.assert_close((layer.weight * e).sum(1), torch.ones(4, dtype=F64))
    out.sum().backward()
    torch.testing.assert_close(layer.weight.grad, -e / (layer.weight * slope).sum(1, keepdim=True).detach())


def test_a_membrane_twice_as_slow_as_its_synapse_solves_a_quadratic():
    """tau_m = 2 tau_s: with x = exp(-t / tau_m), V = A x - C x^2."""
    layer = drawn(EventLIF(8, 5, 4.0, 2.0), 0, 1.5)
    t = times(1, 8, span=0.5, silent=0.0)
    out = layer.run(t, 40)[0]
    a, c = (layer.weight * (t / 4).exp()).sum(1), (layer.weight * (t / 2).exp()).sum(1)
    first = -4 * torch.log((a - (a * a - 4 * c).sqrt()) / (2 * c))
    first_up = -4 * torch.log((a + (a * a - 4 * c).sqrt()) / (2 * c))
    late = (out > t.max()) & out.isfinite()
    assert late.sum() >= 3
    torch.testing.assert_close(out[late], torch.minimum(first, first_up)[late])


@pytest.mark.parametrize(
    "make", [lambda: InstantIF(40, 12, v_th=3.0), lambda: ExponentialIF(40, 12), lambda: RampIF(40, 12)]
)
def test_a_neuron_fires_at_the_first_crossing_of_its_potential(make):
    layer, t = drawn(make(), -0.2, 0.5), times(5, 40, whole=True)
    out = layer.run(t, 40).detach()
    some_fire(out)
    for b in range(5):
        for j in range(12):
            at = [k * 0.01 for k in range(4000)] if not isinstance(layer, InstantIF) else range(40)
            grid = torch.tensor(at, dtype=F64)[:, None]
            since = (grid - t[b]).clamp(min=0)
            if isinstance(layer, InstantIF):
                response = (grid >= t[b]).double()
            else:
                response = 1 - torch.exp(-since / 10) if isinstance(layer, ExponentialIF) else since
            response = torch.where(t[b].isinf(), 0.0, response)
            crossed = (response @ layer.weight[j].detach() > layer.v_th).nonzero()
            wanted = grid[crossed[0, 0]].item() if len(crossed) else INF
            if isinstance(layer, InstantIF):
                assert out[b, j] == (wanted + 1 if wanted + 1 < 40 else INF)
            else:
                assert out[b, j] == wanted or abs(out[b, j] - wanted) < 0.011


def test_a_stronger_causal_weight_never_delays():
    layer, t = drawn(InstantIF(20, 6, v_th=3.0), 0, 0.6), times(8, 20, whole=True)
    before = layer.run(t, 30).detach()
    layer.weight.data[:, 4] += 0.3
    assert (layer.run(t, 30) <= before).all() and (layer.run(t, 30) < before).any()


def test_times_shift_with_their_inputs():
    layer, t = drawn(EventLIF(12, 6, 9.0, 4.0), 0, 1), times(3, 12, span=8.0)
    out, later = layer.run(t, 100), layer.run(t + 3.7, 100)
    some_fire(out)
    torch.testing.assert_close(out + 3.7, later)


# ---- silence


@pytest.mark.parametrize(
    "layer",
    [InstantIF(5, 3), ExponentialIF(5, 3, lift=2.0), RampIF(5, 3, lift=2.0), EventLIF(5, 3, push=2.0)],
    ids=repr,
)
def test_silent_neurons_give_no_nan_and_are_lifted(layer):
    layer = drawn(layer, -0.1, 0.01)
    for t in (torch.full((2, 5), INF, dtype=F64), times(2, 5, silent=0.0)):
        t.requires_grad_()
        out = layer.run(t, 30)
        assert out.isinf().all()
        dt, dw = torch.autograd.grad(out, (t, layer.weight), torch.ones_like(out))
        assert dt.isfinite().all() and dw.isfinite().all()
        if isinstance(layer, InstantIF):
            assert torch.equal(dw, -(t < 30).double().sum(0).expand(3, 5))
        else:
            assert (dw == -2).all()


@pytest.mark.parametrize("kind", [ExponentialIF, RampIF])
def test_neurons_without_reserve_are_lifted_although_they_fire(kind):
    weights, t = torch.tensor([[0.3] * 5, [0.5] * 5], dtype=F64), torch.zeros(1, 5, dtype=F64)
    gradients = []
    for lift, reserve in ((0.0, 0.0), (2.0, 0.0), (2.0, 1.0)):
        layer = kind(5, 2, lift=lift, reserve=reserve).double()
        layer.weight.data.copy_(weights * (1 if kind is ExponentialIF else 0.5))  # sums of 1.5 and 2.5, of threshold 1
        out = layer.run(t, 30)
        some_fire(out)
        gradients.append(torch.autograd.grad(out.sum(), layer.weight)[0])
    assert torch.equal(gradients[0], gradients[1])
    assert (gradients[2] - gradients[0] == torch.tensor([[-2.0], [0.0]])).all()


def test_a_spike_at_the_end_has_not_happened():
    layer = InstantIF(1, 1, v_th=0.5).double()
    layer.weight.data.fill_(1)
    t = torch.tensor([[6.0], [7.0], [8.0], [9.0]], dtype=F64)
    assert layer.run(t, 8).flatten().tolist() == [7, INF, INF, INF]


def test_nan_and_wrong_shapes_are_refused():
    layer = InstantIF(5, 3)
    for bad in (torch.zeros(2, 4), torch.zeros(5), torch.zeros(2, 5, dtype=torch.long), [[1.0] * 5]):
        with pytest.raises(ConfigError, match="InstantIF takes"):
            layer.run(bad, 8)
    with pytest.raises(NumericError, match="NaN"):
        layer.run(torch.full((1, 5), math.nan), 8)


@pytest.mark.parametrize("kind", [InstantIF, BinaryIF, ExponentialIF, RampIF, EventLIF, Potential])
def test_bad_arguments_are_named(kind):
    for arguments in ((0, 3), (3, 2.5), (True, 1)):
        with pytest.raises(ConfigError, match="features is"):
            kind(*arguments)
    for name in {"v_th", "tau_m", "tau_s", "latency", "lift", "reserve", "push", "floor", "gain", "scale"}:
        if name in kind.__init__.__code__.co_varnames:
            for value in (math.nan, INF, -1.0):
                with pytest.raises(ConfigError, match=f"{name} is"):
                    kind(3, 3, **{name: value})


# ---- what stands beside the neurons


def test_delays_and_the_reference():
    t = torch.tensor([[1.0, INF]])
    assert Delays(3, first=2.0, apart=0.5).run(t, 9).tolist() == [[3.0, 3.5, 4.0, INF, INF, INF]]
    assert Reference().run(t, 9).tolist() == [[1.0, INF, 0.0]]


def test_times_and_rasters_are_each_others_inverse():
    t = times(3, 4, 5, whole=True)
    spikes = raster(t, 0, 20)
    assert spikes.sum(0).max() == 1 and spikes.any()
    assert torch.equal(first_spikes(spikes.double()), t)
    assert torch.equal(first_spikes(raster(t, 5, 20).double(), 5), torch.where(t < 5, INF, t))
