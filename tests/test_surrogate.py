"""Laws for every surrogate derivative, run over the catalogue as listed, and figures for those with printed ones."""

import gc
import math
from dataclasses import FrozenInstanceError, dataclass

import pytest
import torch
from torch.autograd import grad, gradcheck, gradgradcheck

from spikewright import surrogate as sg
from spikewright.errors import ConfigError

F64 = torch.float64
ENTRIES = sg.catalogue()
SHAPED = [e for e in ENTRIES if e.parameters()]
WITH_STEP = [e for e in ENTRIES if e().has_primitive]
WITHOUT_STEP = [e for e in ENTRIES if not e().has_primitive]
LEARNED = [e for e in WITH_STEP if e.parameters()]

INF = math.inf
# Peak and area of every catalogued shape at its default parameters; None where no figure is printed.
FIGURES = {
    "Sigmoid": (1.0, 1.0),
    "FastSigmoid": (1.0, 0.02),
    "SuperSpike": (1.0, 2.0),
    "SoftSign": (1.0, 1.0),
    "ATan": (1.0, 1.0),
    "Rectangle": (1.0, 1.0),
    "Triangle": (1.0, 1.0),
    "ScaledTriangle": (0.3, 0.3),
    "QuadraticGate": (2.0, 1.0),
    "Polynomial": (0.5, 1.0),
    "Exponential": (1.0, 2.0),
    "PiecewiseExponential": (0.5, 1.0),
    "Gaussian": (0.3989422804, 1.0),
    "Erf": (1.128379167, 1.0),
    "TSSLLogistic": (1.25, None),  # printed as "about 1": see test_tssl_logistic_has_tails_that_never_end
    "STDB": (0.3, None),
    "SpikeOnlyThreshold": (1.0, None),
    "SpikeOnlyPotential": (1.0, None),
    "StraightThrough": (1.0, INF),
    "SpikeOnly": (1.0, None),
    "LogGate": (1.0, INF),
    "S2NN": (None, INF),
    "LeakyReLULike": (1.0, INF),
}


def each(entries):
    return pytest.mark.parametrize("entry", entries, ids=lambda e: e.__name__)


def variants(entry, rate=1.7):
    """The entry at its defaults, with every number changed, and in units of the threshold."""
    changed = {name: getattr(entry(), name) * rate**i for i, name in enumerate(entry.parameters(), 1)}
    return [entry(), entry(**changed), entry(scale_by_threshold=True)]


def g(surrogate, x, v_th=1.0, age=3.0, strict=False):
    return surrogate.derivative(x, v_th, age=age if surrogate.timed else None, strict=strict)


def grid(dtype=F64):
    """8,192 points whose step, 32/8191, puts no kink at a simple fraction on the grid."""
    return torch.linspace(-16, 16, 8192, dtype=F64).to(dtype)


# ---- the catalogue


def test_catalogue_lists_every_shape_and_builds_without_arguments():
    assert set(FIGURES) <= set(sg.names())
    assert len(set(sg.names())) == len(ENTRIES)
    assert sg.Smooth not in ENTRIES and sg.Surrogate not in ENTRIES
    assert {e.__name__ for e in WITHOUT_STEP} == {"STDB", "SpikeOnlyThreshold", "SpikeOnlyPotential", "SpikeOnly"}


def test_a_new_subclass_is_listed():
    @dataclass(frozen=True)
    class Newcomer(sg.ATan):
        pass

    assert Newcomer in sg.catalogue() and "Newcomer" in sg.names()
    del Newcomer
    gc.collect()  # so that no other test lists it


@each(ENTRIES)
def test_is_a_frozen_documented_value(entry):
    assert entry() == entry() and hash(entry()) == hash(entry())
    with pytest.raises(FrozenInstanceError):
        entry().scale_by_threshold = True
    doc = entry.__doc__
    assert "g = " in doc and "Area" in doc and "eak " in doc and "rimitive" in doc


# ---- the five oracles


@each(WITH_STEP)
def test_primitive_differentiates_to_g(entry):
    for surrogate in variants(entry):
        for v_th in (1.0, 0.7):
            x = grid().requires_grad_()
            (slope,) = grad(surrogate.primitive(x, v_th).sum(), x)
            torch.testing.assert_close(slope, g(surrogate, x.detach(), v_th), rtol=1e-9, atol=1e-12)
        zero = torch.zeros((), dtype=F64, requires_grad=True)
        (at_zero,) = grad(surrogate.primitive(zero), zero)
        assert at_zero.item() == pytest.approx(surrogate.peak, rel=1e-12)


@each(WITH_STEP)
def test_primitive_rises_without_a_jump(entry):
    x = grid()
    rise = entry().primitive(x).diff()
    slope = g(entry(), x)
    assert (rise >= 0).all() and (rise <= 1.01 * slope.max().clamp(min=entry().peak) * (x[1] - x[0])).all()


@each(WITHOUT_STEP)
def test_no_primitive_is_said_in_one_line(entry):
    for ask in (lambda: entry().primitive(grid()), lambda: sg.Smooth(entry()), lambda: sg.Learnable(entry())):
        with pytest.raises(ConfigError, match=entry.__name__) as error:
            ask()
        assert "\n" not in str(error.value)


def integral(surrogate, reach, v_th=1.0):
    """Integral of g over |x| < reach, midpoints in x = sinh(t): fine at 0, wide in the tails."""
    end, n = math.asinh(reach), 2**20
    t = ((torch.arange(n, dtype=F64) + 0.5) / n * 2 - 1) * end
    return float((g(surrogate, t.sinh(), v_th, age=0.0) * t.cosh()).sum() * (2 * end / n))


@each(ENTRIES)
def test_area_and_peak(entry):
    for surrogate in variants(entry):
        assert float(g(surrogate, torch.zeros((), dtype=F64), age=0.0)) == surrogate.peak
        if math.isfinite(surrogate.area):
            assert integral(surrogate, 1e9) == pytest.approx(surrogate.area, rel=1e-4)
        else:  # each further factor of 1,000 adds no less than the one before
            inner, middle, outer = (integral(surrogate, reach) for reach in (1e2, 1e5, 1e8))
            assert outer - middle > 0.99 * (middle - inner) > 0
    assert entry(scale_by_threshold=True).area == entry(scale_by_threshold=False).area
    scaled = entry(scale_by_threshold=True)
    if math.isfinite(scaled.area):
        assert integral(scaled, 1e9, v_th=2.5) == pytest.approx(scaled.area, rel=1e-4)


@each(ENTRIES)
def test_area_and_peak_as_printed(entry):
    peak, area = FIGURES.get(entry.__name__, (None, None))
    assert peak is None or entry().peak == pytest.approx(peak, rel=1e-6)
    assert area is None or entry().area == pytest.approx(area, rel=1e-6)


def test_tssl_logistic_has_tails_that_never_end():
    surrogate = sg.TSSLLogistic()
    assert surrogate.area == INF
    assert integral(surrogate, 8 * 0.2) == pytest.approx(0.99933, abs=1e-5)  # the "about 1" of the sources
    tail = g(surrogate, torch.tensor([2.0, 1e4], dtype=F64))
    assert tail[0] == tail[1] == pytest.approx(1.67619e-3, rel=1e-4)


@each(ENTRIES)
def test_symmetry(entry):
    for surrogate in variants(entry):
        mirrored = torch.allclose(g(surrogate, grid()), g(surrogate, -grid()), rtol=1e-9, atol=1e-12)
        assert mirrored == entry.even


@each(ENTRIES)
def test_never_negative_and_finite_far_out(entry):
    for surrogate in variants(entry):
        for dtype in (F64, torch.float32, torch.bfloat16):
            far = torch.tensor([-1e4, -1e2, 1e2, 1e4], dtype=dtype)
            for x in (far, grid(dtype)):
                slope = g(surrogate, x)
                assert slope.isfinite().all() and (slope >= 0).all()
            if surrogate.has_primitive:
                far.requires_grad_()
                step = surrogate.primitive(far)
                assert step.isfinite().all() and grad(step.sum(), far)[0].isfinite().all()


@each(ENTRIES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)], ids=["f32", "bf16"])
def test_same_in_every_dtype(entry, dtype, tolerance):
    for surrogate in (entry(), entry(scale_by_threshold=True)):
        x = grid(dtype)
        for v_th in (1.0, torch.ones(1), torch.ones((), dtype=F64)):
            slope = g(surrogate, x, v_th)
            assert slope.dtype == dtype and slope.shape == x.shape
            torch.testing.assert_close(slope.to(F64), g(surrogate, x.to(F64)), rtol=0, atol=tolerance * surrogate.peak)
        if surrogate.has_primitive:
            step, exact = surrogate.primitive(x), surrogate.primitive(x.to(F64))
            assert step.dtype == dtype
            torch.testing.assert_close(step.to(F64), exact, rtol=tolerance, atol=tolerance)


@each(ENTRIES)
def test_nan_is_never_a_silent_zero(entry):
    nan = torch.full((3,), math.nan, requires_grad=True)
    for surrogate in variants(entry):
        assert (g(surrogate, nan.detach()) != 0).all()
        (slope,) = grad(surrogate.spike(nan, age=1.0).sum(), nan)
        assert (slope != 0).all()
    if entry not in (sg.StraightThrough, sg.STDB):  # the two that do not depend on x
        assert g(entry(), nan.detach()).isnan().all()


# ---- the spike


@each(ENTRIES)
def test_backward_of_spike_is_g_exactly(entry):
    for surrogate in variants(entry):
        for dtype in (F64, torch.float32, torch.bfloat16):
            for strict in (False, True):
                x = torch.linspace(-3, 3, 1001, dtype=dtype, requires_grad=True)
                age = torch.arange(1001) % 7
                upstream = torch.linspace(-1, 2, 1001, dtype=dtype)
                s = surrogate.spike(x, 0.8, strict=strict, age=age)
                assert s.dtype == dtype and 0 < s.sum() < s.numel()
                assert torch.equal(s, (x > 0 if strict else x >= 0).to(dtype))
                (slope,) = grad(s, x, upstream)
                assert torch.equal(slope, upstream * g(surrogate, x.detach(), 0.8, age, strict))


@each(ENTRIES)
def test_exactly_at_threshold(entry):
    x = torch.tensor([-1e-6, 0.0, 1e-6], requires_grad=True)
    assert entry().spike(x, age=0.0).tolist() == [0.0, 1.0, 1.0]
    assert entry().spike(x, strict=True, age=0.0).tolist() == [0.0, 0.0, 1.0]
    loose, strict = (grad(entry().spike(x, strict=k, age=0.0).sum(), x)[0][1].item() for k in (False, True))
    assert loose == pytest.approx(entry().peak, rel=1e-6)
    assert strict == (0.0 if entry.__name__.startswith("SpikeOnly") else loose)


@each(ENTRIES)
def test_threshold_as_a_tensor_gets_its_gradient_through_x(entry):
    u = torch.linspace(0.05, 2, 60, dtype=F64).reshape(20, 3).requires_grad_()
    v_th = torch.tensor([0.5, 1.0, 1.5], dtype=F64, requires_grad=True)
    surrogate = entry()
    s = surrogate.spike(u - v_th, v_th, age=2.0)
    assert 0 < s.sum() < s.numel()
    to_u, to_v_th = grad(s.sum(), (u, v_th))
    assert torch.equal(to_u, g(surrogate, (u - v_th).detach(), v_th.detach(), 2.0))
    torch.testing.assert_close(to_v_th, -to_u.sum(0))
    assert not g(surrogate, (u - v_th).detach(), v_th).requires_grad


@each(ENTRIES)
def test_second_derivative_raises(entry):
    surrogates = [entry(), sg.Learnable(entry())] if entry in LEARNED else [entry()]
    for surrogate in surrogates:
        x = torch.linspace(-1, 1, 9, dtype=F64, requires_grad=True)
        # Also where the rest of the expression has a second derivative of its own, which alone would be a wrong answer.
        for loss in (lambda s, x: s.sum(), lambda s, x: (s * x).sum(), lambda s, x: s.sum() + (x**2).sum()):
            (first,) = grad(loss(surrogate.spike(x, age=1.0), x), x, create_graph=True)
            with pytest.raises(RuntimeError, match="no second derivative"):
                grad(first.sum(), x)


@each(ENTRIES)
def test_per_sample_gradients_and_compilation(entry):
    x = torch.linspace(-1, 1, 12).reshape(4, 3)
    spike = entry().spike

    def loss(row):
        return spike(row, 1.0, False, 1.0).sum()

    per_sample = torch.func.vmap(torch.func.grad(loss))(x)
    assert torch.equal(per_sample, g(entry(), x, age=1.0))
    leaf = x.clone().requires_grad_()
    torch._dynamo.reset()  # else the entries before this one count as recompilations
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(grad(compiled(leaf), leaf)[0], per_sample)


def test_spike_keeps_no_graph_without_a_gradient():
    assert not sg.ATan().spike(torch.randn(5)).requires_grad


# ---- figures of single entries


def test_stdb_table():
    ages = torch.tensor([0, 1, 100, 1000])
    slope = sg.STDB().derivative(torch.randn(4, dtype=F64), age=ages)
    torch.testing.assert_close(slope, torch.tensor([0.3, 0.2970149501, 0.1103638324, 1.361997893e-5], dtype=F64))
    assert sg.STDB().derivative(torch.zeros(2, 4), age=ages).shape == (2, 4)
    assert sg.STDB().derivative(torch.zeros(3), age=INF).tolist() == [0.0, 0.0, 0.0]
    for ask in (sg.STDB().derivative, sg.STDB().spike):
        with pytest.raises(ConfigError, match="age"):
            ask(torch.zeros(3))


def test_spike_only_heights():
    x, v_th = torch.tensor([-0.1, 0.0, 0.5]), 2.0
    assert sg.SpikeOnlyThreshold().derivative(x, v_th).tolist() == [0.0, 0.5, 0.5]
    assert sg.SpikeOnlyThreshold().derivative(x, v_th, strict=True).tolist() == [0.0, 0.0, 0.5]
    assert sg.SpikeOnlyPotential().derivative(x, v_th).tolist() == pytest.approx([0.0, 0.5, 0.4])
    assert sg.SpikeOnlyPotential().derivative(x, v_th, strict=True).tolist() == pytest.approx([0.0, 0.0, 0.4])


def test_scaled_triangle_is_in_units_of_the_threshold():
    x = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0], dtype=F64)
    expected = torch.tensor([0.0, 0.075, 0.15, 0.075, 0.0, 0.0], dtype=F64)
    torch.testing.assert_close(sg.ScaledTriangle().derivative(x, 2.0), expected)
    u = (
        x + 2.0
    ).requires_grad_()  # as the authors write it: a triangle of u/theta - 1, the chain rule left to autograd
    z = u / 2.0 - 1.0
    z.backward(0.3 * (1 - z.detach().abs()).relu())
    torch.testing.assert_close(u.grad, expected)


def same(a, b, v_th=1.0):
    x = grid()
    torch.testing.assert_close(a.derivative(x, v_th), b.derivative(x, v_th), rtol=1e-9, atol=1e-12)


def test_shapes_that_are_one_another():
    x, a = grid(), 0.4
    h3 = torch.exp(-x.abs() / a) / (a * (1 + torch.exp(-x.abs() / a)) ** 2)
    torch.testing.assert_close(sg.Sigmoid(1 / a).derivative(x), h3, rtol=1e-9, atol=1e-12)
    h2 = torch.where(x.abs() < 2 / a**0.5, a**0.5 / 2 - a / 4 * x.abs(), 0)
    torch.testing.assert_close(sg.Polynomial(a).derivative(x), h2)
    same(sg.Polynomial(a), sg.QuadraticGate(a**0.5 / 2))
    same(sg.QuadraticGate(2.5), sg.Triangle(0.4))
    same(sg.Exponential(scale=0.5, width=0.25), sg.PiecewiseExponential(4.0))
    same(sg.Exponential(1.0, width=2 * 10.0), sg.Exponential(1.0, width=2.0, scale_by_threshold=True), v_th=10.0)
    for polynomial in (sg.Polynomial(0.3), sg.Polynomial(7.0)):
        assert integral(polynomial, 1e3) == pytest.approx(1.0, rel=1e-4)


def test_wide_rectangle_keeps_its_slope():
    surrogate, x = sg.Rectangle(width=1.0, height=1.0), torch.tensor([0.5], dtype=F64, requires_grad=True)
    assert grad(surrogate.primitive(x).sum(), x)[0].item() == 1.0  # clamp((x + w) h, 0, 1) would give 0 here
    assert surrogate.primitive(torch.tensor(9.0)).item() == surrogate.area == 2.0


# ---- wrappers


@each(WITH_STEP)
def test_smooth_passes_gradcheck_twice(entry):
    for inner in variants(entry):
        surrogate = sg.Smooth(inner)
        u = torch.linspace(-1.917, 2.123, 14, dtype=F64, requires_grad=True)
        v_th = torch.tensor(0.7, dtype=F64, requires_grad=True)

        def forward(u, v_th, surrogate=surrogate):
            return surrogate.spike(u - v_th, v_th)

        assert gradcheck(forward, (u, v_th))
        assert gradgradcheck(forward, (u, v_th), atol=1e-4, rtol=1e-3)


@each(WITH_STEP)
def test_smooth_delegates(entry):
    for inner in variants(entry):
        smooth, x = sg.Smooth(inner), grid()
        assert torch.equal(smooth.spike(x, 0.7, strict=True), inner.primitive(x, 0.7))
        assert torch.equal(smooth.primitive(x, 0.7), inner.primitive(x, 0.7))
        assert torch.equal(smooth.derivative(x, 0.7), inner.derivative(x, 0.7))
        assert (smooth.area, smooth.peak, smooth.timed) == (inner.area, inner.peak, inner.timed)
        assert smooth.scale_by_threshold == inner.scale_by_threshold


@each(LEARNED)
def test_learnable_spikes_hard_and_learns_the_primitive(entry):
    x = torch.linspace(-1.917, 2.123, 14, dtype=F64, requires_grad=True)
    upstream = torch.linspace(1, 2, 14, dtype=F64)
    for inner in variants(entry):
        learnable = sg.Learnable(inner).double()
        assert learnable.inner is inner and set(learnable.log_values) == set(inner.parameters())
        s = learnable.spike(x, 0.7)
        assert torch.equal(s, (x >= 0).to(F64)) and 0 < s.sum() < s.numel()
        to_x, *to_logs = grad(s, [x, *learnable.log_values.values()], upstream)
        torch.testing.assert_close(to_x, upstream * inner.derivative(x.detach(), 0.7), rtol=1e-6, atol=1e-9)
        for name, to_log in zip(learnable.log_values, to_logs, strict=True):
            value = learnable.value(name).item()
            assert value == pytest.approx(getattr(inner, name), rel=1e-6)
            assert learnable.log_values[name].dtype == F64
            difference = [0.0, 0.0]
            for i, change in enumerate((value + 1e-6, value - 1e-6)):
                moved = {k: getattr(inner, k) for k in inner.parameters()} | {name: change}
                shifted = entry(**moved, scale_by_threshold=inner.scale_by_threshold)
                difference[i] = float((upstream * shifted.primitive(x.detach(), 0.7)).sum())
            expected = (difference[0] - difference[1]) / 2e-6
            assert to_log.item() / value == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_learnable_atan_against_the_formula():
    learnable = sg.Learnable(sg.ATan(alpha=3.0)).double()
    x = torch.linspace(-2, 2, 101, dtype=F64)
    alpha, upstream = learnable.value("alpha"), torch.linspace(-1, 3, 101, dtype=F64)
    (to_log,) = grad(learnable.spike(x), [learnable.log_values["alpha"]], upstream)
    formula = (upstream * (x / 2) / (1 + (math.pi * 3.0 * x / 2) ** 2)).sum()
    assert (to_log / alpha).item() == pytest.approx(formula.item(), rel=1e-5)


def test_learnable_stays_positive_and_trains():
    learnable = sg.Learnable(sg.ATan())
    assert learnable.value("alpha").item() == pytest.approx(2.0, rel=1e-6) and "alpha=2" in repr(learnable)
    optimiser = torch.optim.SGD(learnable.parameters(), lr=1.0)
    x = torch.linspace(-1, 1, 50)
    for _ in range(5):
        optimiser.zero_grad()
        (learnable.spike(x) * x).sum().backward()
        optimiser.step()
    now = learnable.current()
    assert 0 < now.alpha != 2.0 and math.isfinite(now.alpha) and type(now) is sg.ATan
    torch.testing.assert_close(learnable.derivative(x).detach(), now.derivative(x))
    other = sg.Learnable(sg.ATan(9.0))
    other.load_state_dict(learnable.state_dict())
    assert other.current() == now


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, F64])
@each(LEARNED)
def test_learnable_keeps_the_dtype_of_x(entry, dtype):
    x = torch.linspace(-2, 2, 64, dtype=dtype, requires_grad=True)
    learnable = sg.Learnable(entry())
    s = learnable.spike(x, torch.ones(64), strict=True)
    s.sum().backward()
    assert s.dtype == x.grad.dtype == dtype and torch.equal(s, (x > 0).to(dtype))
    assert all(p.grad.isfinite() for p in learnable.parameters())


# ---- bad parameters


@each(SHAPED)
@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, INF, "2", None])
def test_bad_parameters_are_refused_in_one_line(entry, bad):
    for name in entry.parameters():
        with pytest.raises(ConfigError, match=name) as error:
            entry(**{name: bad})
        assert entry.__name__ in str(error.value) and repr(bad) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("wrapper", [sg.Smooth, sg.Learnable])
def test_wrappers_refuse_what_they_cannot_wrap(wrapper):
    with pytest.raises(ConfigError, match="ATan"):
        wrapper("atan")
    with pytest.raises(ConfigError, match="no number"):
        sg.Learnable(sg.StraightThrough())
