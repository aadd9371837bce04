"""The fused kernels against the definition: the same spikes and membranes bit for bit, the same gradients, everywhere.

A kernel is compiled for every kind of neuron, about a second each when nothing is cached yet: the tests share a few.
"""

import gc
import subprocess
import sys
import warnings
from dataclasses import dataclass

import cases
import numpy as np
import pytest
import torch
from cases import F32, F64, RESETS, assert_active
from numba import njit
from torch import nn

from spikewright import kernels
from spikewright import surrogate as sg
from spikewright.clock import Clock
from spikewright.errors import NumericError
from spikewright.kernels import cpu, formula, fused, machine, reference, team
from spikewright.neurons import LIF, PLIF, Factor, HardReset, NoReset, Reset, Subtract
from spikewright.passage import passage
from spikewright.snn import SNN

BF16 = torch.bfloat16
SETTINGS = {
    "decay": 0.6,
    "gain": 0.5,
    "v_th": 0.9,
    "v_init": 0.05,
    "reset": HardReset(),
    "surrogate": sg.ATan(),
    "strict": False,
}
RESET = pytest.mark.parametrize("reset", RESETS, ids=cases.short)


def current(*shape, dtype=F32, seed=0):
    """A current with zeros in it: many inputs are."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=g) * 1.6 + 0.8
    return torch.where(x < -0.7, 0.0, x).to(dtype)


def images(*shape, dtype=F32, seed=0):
    """The same as rows of channels-last images: [T, B, C, H, W]."""
    t, b, c, h, w = shape
    return current(t, b, h, w, c, dtype=dtype, seed=seed).permute(0, 1, 4, 2, 3)


def state_for(x, timed=False):
    """A first state laid out as a row of x is."""
    v = torch.empty_like(x[0], dtype=F32)
    v.copy_(torch.randn(v.shape, generator=torch.Generator().manual_seed(3)) * 0.5)
    return (v, torch.full_like(v, 2.0)) if timed else (v,)


def weights(like, seed):
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=like.dtype)


def results(way, x, state=None, pool=0, dtype=None, loss="both", **settings):
    """Spikes, last states, and the gradients of the current, the first membrane and every number that is a tensor."""
    x = x.detach().requires_grad_()
    state = None if state is None else tuple(t.detach() for t in state)
    if state:
        state[0].requires_grad_()
    settings = {
        k: v.detach().requires_grad_() if isinstance(v, torch.Tensor) else v for k, v in (SETTINGS | settings).items()
    }
    done = way(x, state, pool=pool, dtype=dtype or x.dtype, **settings)
    assert done is not None, "no kernel took it"
    s, left = done
    assert 0.01 < s.double().mean() < 0.99
    total = torch.zeros(())
    if loss in ("both", "spikes"):
        total = total + (s.float() * weights(s.float(), 1)).sum()
    if loss in ("both", "state"):
        total = total + (left[0] * weights(left[0], 2)).sum()
    leaves = {"x": x, **({"v0": state[0]} if state else {})}
    leaves |= {k: v for k, v in settings.items() if isinstance(v, torch.Tensor)}
    found = torch.autograd.grad(total, list(leaves.values()))
    assert (found[0] != 0).any()
    return s.detach(), [t.detach() for t in left], dict(zip(leaves, found, strict=True))


def close(found, wanted, rel=1e-6):
    error, size = (found.double() - wanted.double()).abs().max().item(), wanted.double().abs().max().item()
    assert error <= rel * size, f"differs by {error / size:.1e} of its size"


def compare(x, state=None, rel=1e-6, **how):
    """The fused kernel against the definition."""
    s, left, gradients = results(fused.integrate_and_fire, x, state, **how)
    wanted_s, wanted_left, wanted = results(reference.integrate_and_fire, x, state, **how)
    assert s.dtype == wanted_s.dtype and s.shape == wanted_s.shape and torch.equal(s, wanted_s)
    assert len(left) == len(wanted_left)
    for a, b in zip(left, wanted_left, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)
    assert gradients.keys() == wanted.keys()
    for name, gradient in gradients.items():
        assert gradient.dtype == wanted[name].dtype and gradient.shape == wanted[name].shape, name
        if gradient.numel() > 1:
            close(gradient, wanted[name], rel)
    return s, left, gradients


@pytest.fixture(params=[1, 3])
def threads(request):
    """The kernels on one thread and on more than this machine may have cores."""
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def own_parts():
    """For tests that write a surrogate of their own: afterwards no cache keeps its class, so none is listed later."""
    yield
    formula._trace.cache_clear()
    gc.collect()


# ---- equal to the definition


@pytest.mark.parametrize("entry", sg.catalogue(), ids=lambda e: e.__name__)
def test_every_surrogate(entry):
    x = current(7, 3, 51)
    compare(x, surrogate=entry(), reset=Subtract(detach=False))
    timed = {"surrogate": entry(), "v_th": 1.3}
    compare(x, state_for(x, entry.timed), **timed)


@pytest.mark.parametrize("entry", [sg.ATan, sg.STDB], ids=lambda e: e.__name__)
def test_a_surrogate_in_units_of_the_threshold(entry):
    compare(current(7, 3, 51), surrogate=entry(scale_by_threshold=True), v_th=0.7)


def test_the_resets_above_are_all_there_are():
    assert {type(r) for r in RESETS} == set(cases.listed(Reset))
    assert {(type(r), r.detach) for r in RESETS} == {
        (kind, detach) for kind in (HardReset, Subtract) for detach in (True, False)
    } | {(NoReset, True)}


@pytest.mark.parametrize("strict", [False, True])
@RESET
def test_every_reset_and_leak(reset, strict):
    x = current(7, 3, 21)
    for leak in cases.LEAKS:
        decay, gain = leak.coefficients()
        how = {"decay": decay, "gain": gain, "reset": reset, "strict": strict, "v_th": 1.0}
        compare(x, **how)
        compare(x, state_for(x), **how)


@pytest.mark.parametrize("strict", [False, True])
def test_a_potential_exactly_at_the_threshold(strict):
    x = torch.tensor([0.5, 1.0, 1.5, 1.0])[:, None, None].expand(4, 2, 3).contiguous()
    s, _, _ = compare(x, decay=0.0, gain=1.0, v_th=1.0, v_init=0.0, strict=strict)
    assert s[:, 0, 0].tolist() == ([0, 0, 1, 0] if strict else [0, 1, 1, 1])


@pytest.mark.parametrize(
    "shape", [(1, 3, 5), (40, 1, 6), (1, 1, 70), (7, 3, 1371), (40, 1, 4097), (300, 2, 33)], ids=str
)
def test_every_size(shape, threads):
    """Less than a tile, several tiles, a last tile that is not full; from 16,384 neuron-steps on, several threads."""
    x = current(*shape)
    compare(x, state_for(x), v_th=0.5, reset=Subtract(detach=False))
    compare(x[:1].expand(shape).contiguous(), v_th=0.5)


@pytest.mark.parametrize("dtypes", [(F32, F32), (BF16, BF16), (F32, BF16), (BF16, F32)], ids=str)
@pytest.mark.parametrize("shape", [(40, 1, 4096), (7, 3, 1371), (9, 2, 33), (3, 1, 64)], ids=str)
def test_what_is_written_past_the_caches(shape, dtypes, threads, monkeypatch):
    """Rows in whole lines of memory, and rows that are not, as any output so large that no cache holds it."""
    monkeypatch.setattr(cpu, "PAST", 0)
    x = current(*shape, dtype=dtypes[0])
    compare(x, state_for(x), dtype=dtypes[1], v_th=0.5)


@pytest.mark.parametrize("pool", [0, 2])
def test_images_written_past_the_caches(pool, threads, monkeypatch):
    monkeypatch.setattr(cpu, "PAST", 0)
    compare(images(5, 2, 16, 8, 8), pool=pool)
    x = images(1, 2, 16, 8, 8)
    compare(x.expand(5, *x.shape[1:]), pool=pool, rel=2e-6)


@pytest.mark.parametrize("lines", [1, 3])
def test_streaming_copies(lines):
    @njit
    def copy(source, target, count):
        machine.stream(source, target, count)
        machine.streamed()

    room = torch.zeros(16 * (lines + 2))
    start = -room.data_ptr() % 64 // 4 + 16  # a whole line before and after stays as it is
    source = torch.randn(16 * lines)
    copy(source.data_ptr(), room.data_ptr() + 4 * start, 64 * lines)
    assert torch.equal(room[start : start + 16 * lines], source)
    assert not room[:start].any() and not room[start + 16 * lines :].any()


def test_a_single_neuron():
    x = current(40, 1, 1)
    compare(x, state_for(x))


@pytest.mark.parametrize("loss", ["spikes", "state"])
@RESET
def test_a_gradient_that_arrives_by_one_way_only(reset, loss):
    x = current(7, 3, 21)
    compare(x, state_for(x), loss=loss, reset=reset)


@pytest.mark.parametrize("surrogate", [sg.ATan(), sg.STDB(0.3, 0.1)], ids=lambda e: type(e).__name__)
def test_blocks_that_hand_the_state_on(surrogate):
    how = SETTINGS | {"surrogate": surrogate, "pool": 0, "dtype": F32}
    x = current(40, 3, 21).requires_grad_()
    whole, last = fused.integrate_and_fire(x, None, **how)
    assert_active(whole)
    weight = weights(whole, 1)
    (wanted,) = torch.autograd.grad((whole * weight).sum() + last[0].sum(), x)
    for blocks in ([1] * 40, [7, 32, 1]):
        state, out = None, []
        for block in x.split(blocks):
            s, state = fused.integrate_and_fire(block, state, **how)
            out.append(s)
        assert torch.equal(torch.cat(out), whole)
        assert len(state) == len(last) and all(torch.equal(a, b) for a, b in zip(state, last, strict=True))
        (found,) = torch.autograd.grad((torch.cat(out) * weight).sum() + state[0].sum(), x)
        close(found, wanted)


@RESET
def test_learned_numbers(reset, threads):
    """Their gradients are sums over all neurons: compared with the neurons' own, summed up in float64."""
    numbers = {"decay": torch.tensor(0.7), "gain": torch.tensor(0.4), "v_th": torch.tensor(0.8)}
    for x in (current(7, 3, 21), current(9, 2, 1500), current(1, 2, 21), current(5, 1, 21)[:1].expand(5, 1, 21)):
        for state in (None, state_for(x)):
            _, _, found = compare(x, state, rel=3e-6, reset=reset, **numbers)
            each = {name: value.expand(x.shape[1:]).contiguous() for name, value in numbers.items()}
            _, _, wanted = results(reference.integrate_and_fire, x, state, reset=reset, **each)
            for name in numbers:
                size = wanted[name].double().abs().sum()
                assert (found[name] - wanted[name].double().sum()).abs() <= 1e-6 * size, name
                assert found[name] != 0 and found[name].shape == ()


def test_plif_learns_by_the_kernel_as_by_the_definition(monkeypatch):
    x = current(9, 3, 21)
    found = []
    for engine in (fused._engine, lambda device: None):
        monkeypatch.setattr(fused, "_engine", engine)
        module = PLIF(3.0, v_th=0.5)
        out, _ = module.run(x)
        assert_active(out)
        found.append((out, *torch.autograd.grad((out * weights(out, 1)).sum(), module.w)))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-5, atol=1e-5)


def test_a_number_of_shape_1_gets_a_gradient_of_its_shape():
    _, _, found = compare(current(5, 2, 9), v_th=torch.tensor([0.8]))
    assert found["v_th"].shape == (1,)


@pytest.mark.parametrize("pool", [0, 2, 3])
@pytest.mark.parametrize("size", [(8, 9), (7, 7), (3, 4)], ids=str)
def test_pools_of_channels_last_images(pool, size, threads):
    """Sizes that divide and that do not; pooled by the kernel."""
    for shape in ((5, 2, 3, *size), (1, 1, 40, *size), (6, 7, 17, *size), (2, 3, 16, *size)):
        x = images(*shape)
        s, left, _ = compare(x, pool=pool)
        assert s.shape[-2:] == tuple(n // (pool or 1) for n in size) and left[0].shape == x.shape[1:]
        compare(x, state_for(x), pool=pool, reset=Subtract(detach=False), loss="spikes")


@pytest.mark.parametrize("pool", [0, 2])
def test_pools_of_contiguous_images(pool):
    x = images(5, 2, 3, 7, 6).contiguous()
    compare(x, state_for(x), pool=pool)
    compare(x.to(BF16), pool=pool, rel=0.01)


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 4, 4), (2, 3, 5), (3, 2, 4), (7, 4, 4)], ids=str)
def test_pools_of_images_smaller_than_a_block(shape, threads):
    """Also constant in time, when the gradient is collected in scratch."""
    x = images(6, 3, *shape)
    compare(x, pool=2)
    found = []
    for way in (fused.integrate_and_fire, reference.integrate_and_fire):
        leaf = x[0].detach().requires_grad_()
        s, _ = way(leaf.expand_as(x), None, pool=2, dtype=F32, **SETTINGS)
        assert_active(s)
        found += torch.autograd.grad((s * weights(s, 1)).sum(), leaf)
    close(*found)


@pytest.mark.parametrize("pool", [15, 16])
def test_pools_as_wide_as_counts_of_a_byte_allow_and_wider(pool):
    """All 225 neurons of a window may fire at once; 256 would be too many."""
    x = images(3, 2, 3, 17, 33)
    x[1] = 5.0
    s, _, _ = compare(x, pool=pool)
    assert (s[1] == 1).all()


def test_a_pool_wider_than_the_image_fails_as_torchs():
    for x in (images(3, 2, 4, 2, 2), images(3, 2, 4, 2, 2).contiguous()):
        with pytest.raises(RuntimeError, match="Output size is too small"):
            fused.integrate_and_fire(x, None, pool=3, dtype=F32, **SETTINGS)


@pytest.mark.parametrize("layout", ["flat", "channels-last", "contiguous"])
def test_a_constant_current_is_the_same_current_repeated(layout):
    row = current(3, 51) if layout == "flat" else images(1, 2, 4, 7, 6)[0]
    row = row.contiguous() if layout == "contiguous" else row
    pool = 0 if layout == "flat" else 2
    for shape_of_graph in ("leaf", "computed", *(["no gradient"] if layout == "flat" else [])):
        found = []
        for repeat in (lambda x: x.expand(7, *x.shape), lambda x: torch.stack([x] * 7)):
            leaf = row.clone().requires_grad_(shape_of_graph != "no gradient")
            decay = torch.tensor(0.6, requires_grad=layout == "flat")
            x = repeat(leaf * 1.5 if shape_of_graph == "computed" else leaf)
            s, (v,) = fused.integrate_and_fire(x, None, pool=pool, dtype=F32, **SETTINGS | {"decay": decay})
            assert_active(s)
            total = (s * weights(s, 1)).sum() + (v * weights(v, 2)).sum()
            wanted = [t for t in (decay, leaf) if t.requires_grad]
            found.append((s, v, torch.autograd.grad(total, wanted)))
        (s, v, gradients), (wanted_s, wanted_v, wanted) = found
        assert torch.equal(s, wanted_s) and torch.equal(v, wanted_v)
        for a, b in zip(gradients, wanted, strict=True):
            close(a, b)


def test_the_gradient_of_a_constant_current_takes_the_way_the_current_came():
    """A view that is not just an expand, or a gradient asked for at the expanded tensor itself, is not skipped."""

    class Reversed(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.view_as(x)

        @staticmethod
        def backward(ctx, g):
            return -g

    row = current(3, 21)
    found = []
    for way in (fused.integrate_and_fire, reference.integrate_and_fire):
        leaf = row.clone().requires_grad_()
        s, _ = way(Reversed.apply(leaf).expand(5, 3, 21), None, pool=0, dtype=F32, **SETTINGS)
        late = row.clone().expand(5, 3, 21).requires_grad_()
        t, _ = way(late, None, pool=0, dtype=F32, **SETTINGS)
        assert_active(s)
        found.append((*torch.autograd.grad(s.sum(), leaf), *torch.autograd.grad((t * weights(t, 1)).sum(), late)))
    for a, b in zip(*found, strict=True):
        close(a, b)


def test_gradients_that_arrive_in_any_layout():
    x = images(5, 2, 4, 6, 7)
    losses = {
        "expanded": lambda s: s.sum(),
        "transposed": lambda s: (s.transpose(0, 1).flatten(2) * weights(s.transpose(0, 1).flatten(2), 1)).sum(),
        "contiguous": lambda s: (s.contiguous() * weights(s, 1)).sum(),
        "one step": lambda s: s[3].sum(),
        "not at all": lambda s: 0 * s.sum(),
    }
    for loss in losses.values():
        for pool in (0, 2):
            found = []
            for way in (fused.integrate_and_fire, reference.integrate_and_fire):
                leaf = x.clone().requires_grad_()
                s, _ = way(leaf, None, pool=pool, dtype=F32, **SETTINGS)
                assert_active(s)
                found += torch.autograd.grad(loss(s), leaf)
            close(*found)


def test_without_gradients_nothing_is_kept():
    x = current(5, 3, 21)
    with torch.no_grad():
        s, (v,) = fused.integrate_and_fire(x.requires_grad_(), None, pool=0, dtype=F32, **SETTINGS)
    assert_active(s)
    assert not s.requires_grad and not v.requires_grad
    with torch.inference_mode():
        assert torch.equal(fused.integrate_and_fire(x, None, pool=0, dtype=F32, **SETTINGS)[0], s)


def test_a_second_derivative_raises():
    """With respect to anything: the current, a number, what the spikes were multiplied by."""
    x, decay, w = current(5, 3, 21).requires_grad_(), torch.tensor(0.6).requires_grad_(), torch.tensor(2.0)
    w.requires_grad_()
    s, _ = fused.integrate_and_fire(x, None, pool=0, dtype=F32, **SETTINGS | {"decay": decay})
    assert_active(s)
    for first in torch.autograd.grad((w * s).sum(), (x, decay), create_graph=True):
        for by in (x, decay, w):
            with pytest.raises(RuntimeError, match="second derivative"):
                torch.autograd.grad(first.square().sum(), by, retain_graph=True)


def test_the_current_and_the_state_stay_as_they_were():
    x = current(5, 3, 21)
    state = state_for(x)
    kept = x.clone(), state[0].clone()
    compare(x, state)
    assert torch.equal(x, kept[0]) and torch.equal(state[0], kept[1])


# ---- half precision


def test_a_bfloat16_current():
    x = current(9, 3, 51, dtype=BF16)
    s, left, _ = compare(x, state_for(x), rel=1e-6, reset=Subtract(detach=False))
    assert s.dtype == BF16 and left[0].dtype == F32


@pytest.mark.parametrize("pool", [0, 2])
def test_bfloat16_spikes_of_a_float32_current(pool):
    x = images(5, 2, 4, 7, 6)
    s, left, _ = compare(x, pool=pool, dtype=BF16)
    assert s.dtype == BF16 and left[0].dtype == F32


def test_bfloat16_rounds_as_torch_does():
    @njit
    def rounded(x, out):
        for i in range(len(x)):
            out[i] = machine.bf16(x[i])

    @njit
    def widened(bits, out):
        for i in range(len(bits)):
            out[i] = machine.from_bf16(bits[i])

    g = torch.Generator().manual_seed(0)
    bits = torch.randint(-(2**31), 2**31, (100_000,), generator=g).to(torch.int32)  # NaN and subnormals among them
    high = bits & ~0xFFFF
    x = torch.cat([bits, high | 0x8000, high | 0x7FFF, high | 0x8001]).view(F32)  # and ties
    special = [0.0, -0.0, 3.4e38, -3.4e38, 3.39e38, 1e-45, float("inf"), float("-inf"), float("nan")]
    x = torch.cat([x, torch.tensor(special)])
    out = np.empty(len(x), np.uint16)
    rounded(x.numpy(), out)
    found = torch.from_numpy(out.view(np.int16)).view(BF16)
    nan = x.isnan()
    assert 0 < nan.sum() < len(x) and torch.equal(found.isnan(), nan)
    assert torch.equal(found[~nan].view(torch.int16), x.to(BF16)[~nan].view(torch.int16))
    back = np.empty(len(x), np.float32)
    widened(out, back)
    assert torch.equal(torch.from_numpy(back)[~nan], found.float()[~nan])


def test_the_exponential():
    @njit
    def exp(x, out):
        for i in range(len(x)):
            out[i] = machine.exp(x[i])

    x = np.concatenate([np.linspace(-87, 88, 400_001), [-87.3, -1e-9, 0, 1e-9, 88.37]]).astype(np.float32)
    out = np.empty_like(x)
    exp(x, out)
    assert np.abs(out / np.exp(x.astype(np.float64)) - 1).max() <= 2e-7
    x = np.array([-np.inf, -1e30, -100, -87.4, 88.5, 1e30, np.inf, np.nan], np.float32)
    out = np.empty_like(x)
    exp(x, out)
    assert (out[:4] == 0).all()
    assert (out[4:7] > 2.3e38).all() and np.isfinite(out[4:7]).all()
    assert np.isnan(out[7])


# ---- what no kernel takes


def untraceable():
    class Wavy(sg.ATan):
        def curve(self, x):
            return torch.sin(x).abs()

    return Wavy()


def branching():
    class Branching(sg.ATan):
        def curve(self, x):
            return super().curve(x) if x.max() > 0 else torch.ones_like(x)

    return Branching()


def branching_on_a_number():
    class Switched(sg.ATan):
        def curve(self, x):
            return torch.ones_like(x) if self.alpha > 1 else super().curve(x)

    return Switched()


def crowded():
    @dataclass(frozen=True)
    class Crowded(sg.Surrogate):
        a: float = 1.0
        b: float = 2.0
        c: float = 3.0
        d: float = 4.0
        e: float = 5.0

        def curve(self, x):
            return 1 / (self.a + self.b * x.abs() + self.c + self.d + self.e)

    return Crowded()


def holding_a_list():
    @dataclass(frozen=True)
    class Holding(sg.Surrogate):
        table: list = None

        def curve(self, x):
            return torch.ones_like(x) * self.table[0]

    return Holding([2.0])


def infinite():
    class Unbounded(sg.Triangle):
        def curve(self, x):
            return x.clamp(min=0, max=float("inf"))

    return Unbounded()


def with_its_own_spike():
    class Doubled(sg.ATan):
        def spike(self, x, v_th=1.0, strict=False, age=None):
            return 2 * super().spike(x, v_th, strict, age)

    return Doubled()


SURROGATES = [
    untraceable,
    branching,
    branching_on_a_number,
    crowded,
    holding_a_list,
    infinite,
    with_its_own_spike,
    lambda: sg.Smooth(sg.Sigmoid()),
    lambda: sg.Learnable(sg.ATan()),
]


class Halving(Reset):
    def __call__(self, u, s, v_th, decay):
        return u * (1 - s.detach() / 2)


class Clipping(HardReset):
    """Inherits `after_spike`, which does not speak for it."""

    def __call__(self, u, s, v_th, decay):
        return super().__call__(u, s, v_th, decay).clamp(min=-0.1)


class Marked(torch.Tensor):
    pass


def same_as_the_definition(x, **settings):
    """`kernels.integrate_and_fire` gives what the definition does, gradients too; returns what `fused` says."""
    found = []
    for way in (kernels.integrate_and_fire, reference.integrate_and_fire):
        leaf = x.detach().clone().requires_grad_()
        s, left = way(leaf, None, **SETTINGS | settings)
        assert_active(s > 0.5)
        found.append((s, *left, *torch.autograd.grad(s.sum() + left[0].sum(), leaf)))
    for a, b in zip(*found, strict=True):
        assert torch.equal(a, b)
    return fused.integrate_and_fire(x, None, pool=0, dtype=x.dtype, **SETTINGS | settings)


@pytest.mark.parametrize("make", SURROGATES, ids=lambda m: m.__name__)
def test_a_surrogate_that_no_kernel_takes(make, own_parts):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert same_as_the_definition(current(7, 3, 21), surrogate=make()) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"reset": Halving()},
        {"reset": Clipping()},
        {"v_th": torch.linspace(0.5, 1.0, 21)},
        {"decay": torch.tensor(0.5, dtype=F64)},
        {"v_init": torch.linspace(0.0, 0.3, 21)},
        {"v_th": torch.tensor(0.8).as_subclass(Marked)},
    ],
    ids=lambda s: "-".join(f"{k}={type(v).__name__}" for k, v in s.items()),
)
def test_numbers_and_resets_that_no_kernel_takes(settings):
    assert same_as_the_definition(current(7, 3, 21), **settings) is None


def test_currents_that_no_kernel_takes():
    x = current(7, 3, 21)
    assert same_as_the_definition(x.double()) is None
    assert same_as_the_definition(x.half()) is None
    assert same_as_the_definition(x.as_subclass(Marked)) is None
    empty, _ = kernels.integrate_and_fire(x[:, :0], None, **SETTINGS)
    assert empty.shape == (7, 0, 21)


def test_a_state_of_another_layout():
    x = images(5, 2, 3, 6, 6)
    (v,) = state_for(x)
    assert fused.integrate_and_fire(x, (v.contiguous(),), pool=0, dtype=F32, **SETTINGS) is None
    out, _ = kernels.integrate_and_fire(x, (v.contiguous(),), **SETTINGS)
    assert_active(out)
    assert torch.equal(out, kernels.integrate_and_fire(x, (v,), **SETTINGS)[0])


@pytest.mark.parametrize(
    "spread",
    [
        lambda x: x[..., ::2],
        lambda x: x.transpose(0, 1),
        lambda x: x.transpose(1, 2),
        lambda x: x[:, :1].expand(-1, 3, -1),
        lambda x: x[0, 0].expand(5, 4, -1),
    ],
    ids=["sliced", "transposed", "rows transposed", "samples expanded", "all expanded"],
)
def test_a_current_that_is_not_contiguous(spread):
    found = []
    for way in (kernels.integrate_and_fire, reference.integrate_and_fire):
        leaf = current(7, 5, 22).requires_grad_()
        s, (v,) = way(spread(leaf), None, **SETTINGS)
        assert_active(s)
        found.append((s, v, *torch.autograd.grad((s * weights(s, 1)).sum() + v.sum(), leaf)))
    assert torch.equal(found[0][0], found[1][0]) and torch.equal(found[0][1], found[1][1])
    close(found[0][2], found[1][2])


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::torch.jit.TracerWarning")
def test_inside_transformations_the_definition_serves():
    x = current(7, 3, 21)

    def spikes(x, decay=0.6):
        return kernels.integrate_and_fire(x, None, **SETTINGS | {"decay": decay})[0]

    wanted = spikes(x)
    assert_active(wanted)
    assert torch.equal(torch.func.vmap(spikes, 1, 1)(x), wanted)
    decays = torch.tensor([0.6, 0.3])
    several = torch.func.vmap(lambda decay: spikes(x, decay))(decays)
    assert torch.equal(several[0], wanted) and torch.equal(several[1], spikes(x, 0.3))
    leaf = x.clone().requires_grad_()
    close(torch.func.grad(lambda x: spikes(x).sum())(x), *torch.autograd.grad(spikes(leaf).sum(), leaf))
    traced = torch.jit.trace(spikes, (x,))
    other = current(7, 3, 21, seed=1)
    assert torch.equal(traced(other), spikes(other))


@pytest.fixture
def fresh():
    """No engine has been loaded or given up; afterwards likewise."""
    fused._engine.cache_clear()
    fused._without.clear()
    yield
    fused._engine.cache_clear()
    fused._without.clear()


def three_times(x):
    """What comes out of three calls, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = [kernels.integrate_and_fire(x, None, **SETTINGS)[0] for _ in range(3)]
    return found, caught


def test_a_kernel_that_cannot_be_built_is_told_once(monkeypatch, fresh):
    x = current(7, 3, 21)
    wanted, _ = reference.integrate_and_fire(x, None, **SETTINGS)
    assert_active(wanted)

    def prepare(kind, gradients):
        raise OSError("no compiler on this machine\nand a long story")

    monkeypatch.setattr(cpu, "prepare", prepare)
    found, caught = three_times(x)
    assert all(torch.equal(out, wanted) for out in found)
    assert [w.category for w in caught] == [RuntimeWarning]
    cases.one_line(caught[0].message, "cpu", "OSError: no compiler on this machine", "the same results")


def test_an_engine_that_cannot_be_loaded_is_told_once(monkeypatch, fresh):
    monkeypatch.setitem(fused.ENGINES, "cpu", "spikewright.kernels.of_another_world")
    x = current(7, 3, 21)
    found, caught = three_times(x)
    assert_active(found[0])
    assert torch.equal(found[0], reference.integrate_and_fire(x, None, **SETTINGS)[0])
    assert [w.category for w in caught] == [RuntimeWarning]
    cases.one_line(caught[0].message, "ModuleNotFoundError", "of_another_world")


# ---- NaN and infinity


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@RESET
def test_a_current_that_is_not_finite_leaves_its_mark(reset, bad):
    x = current(7, 3, 21)
    x[2, 1, 4] = x[6, 2, 0] = x[0, 0, 20] = bad
    wanted = torch.zeros(3, 21, dtype=torch.bool)
    wanted[1, 4] = wanted[2, 0] = wanted[0, 20] = True
    for surrogate in (sg.ATan(), sg.STDB()):
        for way in (fused.integrate_and_fire, reference.integrate_and_fire):
            with torch.no_grad():
                s, left = way(x, None, pool=0, dtype=F32, **SETTINGS | {"reset": reset, "surrogate": surrogate})
            assert_active(s)
            assert torch.equal(~left[0].isfinite(), wanted)


@pytest.mark.parametrize("surrogate", [sg.ATan(), sg.STDB()], ids=cases.short)
@pytest.mark.parametrize("pool", [0, 2])
def test_a_state_that_nobody_keeps_is_told_to_be_finite_or_not(surrogate, pool, threads):
    how = SETTINGS | {"pool": pool, "dtype": F32, "surrogate": surrogate}
    x = images(7, 3, 17, 5, 5).requires_grad_()
    kept, _ = fused.integrate_and_fire(x, None, **how)
    s, fine = fused.integrate_and_fire(x, None, keep=False, **how)
    assert_active(s)
    assert fine is True and torch.equal(s, kept)
    weight = weights(s, 1)
    for gradients in zip(*(torch.autograd.grad((out * weight).sum(), x) for out in (s, kept)), strict=True):
        assert torch.equal(*gradients)
    for place in ((2, 0, 0, 0, 0), (6, 2, 16, 4, 4), (0, 1, 5, 4, 0)):  # the last two: where no window of the pool is
        for bad in (float("nan"), float("inf"), float("-inf")):
            spoilt = x.detach().clone(memory_format=torch.preserve_format)
            spoilt[place] = bad
            assert fused.integrate_and_fire(spoilt, None, keep=False, **how)[1] is False


def test_the_last_block_of_a_run_keeps_no_state():
    body = nn.Sequential(nn.Linear(6, 8), LIF(v_th=0.1))
    x = torch.rand(4, 3, 6)
    for keep in (True, False):
        clock = Clock(4, root=body, keep=keep)
        assert_active(passage(body, x, clock))
        clock.check()
        assert len(clock.left) == keep


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_network_names_the_layer_that_a_bad_weight_reaches(bad, dtype):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        body = nn.Sequential(nn.Linear(6, 8), LIF(v_th=0.1), nn.Linear(8, 5), LIF(v_th=0.1)).to(dtype)
    snn, x = SNN(body, 4), torch.rand(3, 6, dtype=dtype)
    assert_active(snn.run(x).out)
    with torch.no_grad():
        body[2].weight[3, 2] = body[2].bias[1] = bad
    with pytest.raises(NumericError, match=r"layer '3' \(LIF\)") as caught:
        snn(x)
    cases.one_line(caught.value, "NaN or infinite")


# ---- machine code in the cache

PLAIN = (False, False, False, None)  # not strict, not timed, no sums, no formula
SCRIPT = """
import sys, torch
from spikewright import LIF
from spikewright.kernels import fused
x = torch.linspace(-1, 3, 60).reshape(5, 2, 6)
out, _ = LIF(v_th=0.5).run(x)
assert "spikewright.kernels.cpu" not in sys.modules, "SPIKEWRIGHT_KERNELS=reference is not heeded"
import os
del os.environ["SPIKEWRIGHT_KERNELS"]
fused._engine.cache_clear()
again, _ = LIF(v_th=0.5).run(x)
assert torch.equal(out, again) and 0 < out.mean() < 1
from spikewright.kernels import cpu
print(cpu._compiled("forward", False, False, False, None).cache_hits)
"""


def test_another_process_finds_the_machine_code_and_the_environment_can_forbid_it(monkeypatch, tmp_path):
    def kept():
        return {f.name: f.stat().st_mtime_ns for f in (tmp_path / "spikewright/kernels").rglob("*") if f.is_file()}

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cpu._compiled.__wrapped__("forward", *PLAIN).cache_hits == 0
    first = kept()
    assert any(name.endswith(".nbc") for name in first)
    monkeypatch.setenv("SPIKEWRIGHT_KERNELS", "reference")
    done = subprocess.run([sys.executable, "-W", "error", "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "1\n"
    assert kept() == first


def test_a_source_in_the_cache_that_is_not_ours_is_overwritten_not_run(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module, cached = cpu._module(*PLAIN)
    (source,) = tmp_path.rglob("loops_*.py")
    text = source.read_bytes()
    assert cached and module.__file__ == str(source) and hasattr(module, "forward")
    for strange in (b"TAMPERED = True\n", text + b"\nTAMPERED = True\n", b"", b"\xff\xfe"):
        source.write_bytes(strange)
        module, _ = cpu._module(*PLAIN)
        assert hasattr(module, "forward") and not hasattr(module, "TAMPERED")
        if strange != b"\xff\xfe":
            assert source.read_bytes() == text


def test_a_cache_that_cannot_be_written_costs_only_time(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(cpu, "_compiled", cpu._compiled.__wrapped__)
    with torch.no_grad():
        x = current(5, 2, 9)
        s, _ = fused.integrate_and_fire(x, None, pool=0, dtype=F32, **SETTINGS)
        assert_active(s)
        assert torch.equal(s, reference.integrate_and_fire(x, None, **SETTINGS)[0])


# ---- on threads


def test_without_openmp_threads_of_python_serve(monkeypatch):
    monkeypatch.setattr(team, "threadpool_info", list)
    monkeypatch.setattr(team, "_team", team._team.__wrapped__)
    torch.set_num_threads(2)
    try:
        compare(current(9, 2, 4001))
    finally:
        torch.set_num_threads(1)


def test_kernels_run_from_several_threads_at_once():
    from concurrent.futures import ThreadPoolExecutor

    def run(seed):
        x = current(20, 2, 1500, seed=seed)
        return torch.equal(LIF(leak=Factor(0.5)).run(x)[0], reference_spikes(x))

    def reference_spikes(x):
        how = SETTINGS | {"decay": 0.5, "gain": 1.0, "v_th": 1.0, "v_init": 0.0}
        return reference.integrate_and_fire(x, None, **how)[0]

    assert_active(reference_spikes(current(20, 2, 1500)))
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(12)))
