"""The passage of a body: a chain that is walked gives what the same chain gives that is only called."""

from contextlib import contextmanager
from copy import deepcopy
from functools import partial

import cases
import pytest
import torch
from cases import F32, F64, assert_active
from torch import nn
from torch.nn.modules import module as torch_hooks

from spikewright.arch import Normalize, Residual, ScaledSumPool
from spikewright.clock import Clock
from spikewright.encode import Bernoulli, Direct, Frames
from spikewright.errors import ConfigError
from spikewright.kernels import fused
from spikewright.neurons import LIF, PLIF, AdaptiveLIF, Euler, NoisyLIF, Synapse, TSSLNeuron
from spikewright.noise import sample_keys, seeded
from spikewright.passage import SAMPLEWISE, passage
from spikewright.snn import SNN

STEPS, BATCH = 5, 3
BF16 = torch.bfloat16


class Called(nn.Module):
    """The same chain, called as a whole: nothing of it is walked."""

    def __init__(self, chain):
        super().__init__()
        self.chain = chain

    def forward(self, x):
        return self.chain(x)


def conv(before=1, width=4, **more):
    return nn.Conv2d(before, width, 3, padding=1, **more)


def neuron(**more):
    return LIF(1.5, v_th=0.4, **more)


def norm(width):
    """Batch norm that has seen something."""
    layer = nn.BatchNorm2d(width)
    layer.running_mean.copy_(torch.linspace(-0.1, 0.2, width))
    layer.running_var.copy_(torch.linspace(0.5, 1.5, width))
    return layer


def block(before, width, stride):
    shortcut = nn.Sequential(nn.Conv2d(before, width, 1, stride=stride), norm(width)) if stride > 1 else nn.Sequential()
    main = nn.Sequential(conv(before, width, stride=stride), norm(width), neuron(), conv(width, width), norm(width))
    return Residual(main, shortcut, neuron())


def dense(features):
    return [nn.Flatten(), nn.Linear(features, 10), LIF(1.5, v_th=0.1)]


def shared(neuron):
    return nn.Sequential(conv(), neuron, conv(4, 4), neuron, *dense(4 * 64))


BODIES = {
    "pooled": lambda: nn.Sequential(
        conv(), neuron(), nn.AvgPool2d(2), conv(4, 5), neuron(), nn.AvgPool2d(3), *dense(5)
    ),
    "norms": lambda: nn.Sequential(conv(), norm(4), neuron(), conv(4, 5), norm(5), neuron(), *dense(5 * 64)),
    "stem of several": lambda: nn.Sequential(
        Normalize((0.4,), (0.3,)), conv(), nn.ReLU(), nn.MaxPool2d(2), norm(4), neuron(), *dense(4 * 16)
    ),
    "residual": lambda: nn.Sequential(
        conv(), norm(4), neuron(), block(4, 4, 1), block(4, 6, 2), nn.AdaptiveAvgPool2d(1), *dense(6)
    ),
    "residual first": lambda: nn.Sequential(block(1, 4, 2), nn.AvgPool2d(2), *dense(4 * 4)),
    "dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 20), PLIF(v_th=0.4), nn.Linear(20, 10), LIF(v_th=0.1)),
    "nested": lambda: nn.Sequential(
        nn.Sequential(conv(), nn.Sequential(nn.Identity(), neuron())),
        nn.Sequential(nn.AvgPool2d(2), nn.Sequential(), conv(4, 4), neuron()),
        nn.Sequential(ScaledSumPool(2), nn.Sequential(*dense(16))),
    ),
    "neuron first": lambda: nn.Sequential(neuron(), nn.AvgPool2d(2), *dense(16)),
    "synapse first": lambda: nn.Sequential(Synapse(Euler(2.0)), conv(), neuron(), *dense(4 * 64)),
    "one neuron in two places": lambda: (lambda n: nn.Sequential(conv(), n, conv(4, 4), n, *dense(256)))(
        LIF(1.5, v_th=0.6)
    ),
    **cases.NETWORKS,
}


def weighted(make, dtype=F64, seed=1):
    """A body with fixed weights that make its neurons fire, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body = make()
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in body.parameters():
            if p.dim() > 1:
                bound = 2.0 / p[0].numel() ** 0.5
                p.copy_(torch.rand(p.shape, generator=g) * 2 * bound - bound * 0.9)
    return body.to(dtype).eval()


def passed(body, x):
    """Output, last states by layer and gradients of a body over the steps of x [T, B, ...]."""
    with Clock(len(x), root=body, keys=lambda: seeded(sample_keys(x[0]), 0)) as clock:
        out = passage(body, x, clock)
    clock.check()
    names = {id(m): n.removeprefix("chain.") for n, m in body.named_modules()}
    left = {(names[id(m)], call): cases.tensors(state) for (m, call), state in clock.left.items()}
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=out.dtype)
    total = (out * weight).sum() + sum(t.sum() for state in left.values() for t in state if t.requires_grad)
    parameters = {n.removeprefix("chain."): p for n, p in body.named_parameters()}
    return out, left, dict(zip(parameters, torch.autograd.grad(total, list(parameters.values())), strict=True))


def same(found, wanted, tolerance=1e-12):
    (out, left, gradients), (wanted_out, wanted_left, wanted_gradients) = found, wanted
    assert torch.equal(out != 0, wanted_out != 0)
    torch.testing.assert_close(out, wanted_out, rtol=tolerance, atol=tolerance)
    assert left.keys() == wanted_left.keys() and gradients.keys() == wanted_gradients.keys()
    for key, state in left.items():
        for a, b in zip(state, wanted_left[key], strict=True):
            torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)
    for name, gradient in gradients.items():
        scale = wanted_gradients[name].abs().max().item()
        torch.testing.assert_close(gradient, wanted_gradients[name], rtol=0, atol=tolerance * (1 + scale), msg=name)


def constant(*shape, steps=STEPS, dtype=F64):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=dtype).expand(steps, *shape)


class Seen:
    """Leading sizes and dtypes of what a layer was given."""

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.rows, self.dtypes, self.layouts = [], [], []

    def forward(self, x):
        self.rows.append(len(x))
        self.dtypes.append(x.dtype)
        self.layouts.append(x.is_contiguous(memory_format=torch.channels_last) if x.dim() == 4 else None)
        return super().forward(x)


class SeenConv(Seen, nn.Conv2d):
    pass


class SamplewiseConv(SeenConv):
    samplewise = True


class SeenLayer(Seen, nn.Identity):
    pass


class SeenLIF(LIF):
    """What its `run` was given; its `forward` is that of every temporal module."""

    @property
    def dtypes(self):
        return [x.dtype for x in self.currents]

    @property
    def layouts(self):
        return [x[0].is_contiguous(memory_format=torch.channels_last) for x in self.currents]

    def __init__(self, *args, **more):
        super().__init__(*args, **more)
        self.pooled, self.currents = [], []

    def run(self, current, state=None, pool=0, keep=True):
        self.pooled.append(pool)
        self.currents.append(current)
        return super().run(current, state, pool, keep)


# ---- the same result


@pytest.mark.parametrize("encoder", [Direct(), Bernoulli(), Frames()], ids=repr)
@pytest.mark.parametrize("name", BODIES)
def test_a_walked_chain_gives_what_the_called_one_gives(name, encoder):
    body = weighted(BODIES[name])
    for steps in (STEPS, 1):
        images = cases.images(encoder, BATCH, steps)
        x = encoder.run(images, 0, steps, steps, 0)
        before = x.clone()
        found, wanted = passed(body, x), passed(Called(body), x)
        same(found, wanted)
        assert torch.equal(x, before)
        if steps > 1:
            assert_active(found[0])
            assert all((g != 0).any() for g in found[2].values())
        snn = SNN(body, steps, encoder)
        assert torch.equal(snn.run(images).out.flatten(0, 1), found[0])
        torch.testing.assert_close(SNN(Called(body), steps, encoder)(images), snn(images), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", BODIES)
def test_every_neuron_of_the_bodies_fires(name):
    """Otherwise the test above would prove nothing. The hooks make every layer be called by itself."""
    snn = SNN(weighted(BODIES[name]), 6)
    with cases.Recorder(snn) as recorder:
        snn.run(constant(8, 1, 8, 8)[0])
    for layer, blocks in recorder.blocks.items():
        if snn.get_submodule(layer).spikes:
            assert all(0 < out.mean() < 1 for out in blocks), layer


def test_batch_norm_in_training_sees_the_mean_and_variance_of_the_repeated_copies():
    body = weighted(BODIES["norms"]).train()
    called = Called(deepcopy(body))
    x = constant(BATCH, 1, 8, 8)
    found, wanted = passed(body, x), passed(called, x)
    assert_active(found[0])
    same(found, wanted, 1e-9)
    first, second = body[1], called.chain[1]
    torch.testing.assert_close(first.running_mean, second.running_mean, rtol=1e-9, atol=1e-12)
    seen, all_steps = BATCH * 64, STEPS * BATCH * 64
    old = torch.linspace(0.5, 1.5, 4, dtype=F64)
    biased = [
        (m.running_var - 0.9 * old) / 0.1 * (n - 1) / n for m, n in ((first, seen), (second, all_steps))
    ]  # Bessel's correction is of other counts
    torch.testing.assert_close(*biased, rtol=1e-6, atol=1e-9)


def test_float32_by_the_kernels():
    """Weights and inputs are multiples of 1/8, so every sum is exact in whatever order it is taken."""
    body = weighted(BODIES["pooled"], F32)
    with torch.no_grad():
        for p in body.parameters():
            p.copy_(torch.randint(-3, 6, p.shape, generator=torch.Generator().manual_seed(len(p))) / 8)
        for m in body.modules():
            if isinstance(m, LIF):
                m.leak, m.v_th = Euler(2.0), 0.5
    x = torch.randint(0, 9, (BATCH, 1, 8, 8), generator=torch.Generator().manual_seed(0)) / 8
    x = x.expand(STEPS, *x.shape)
    with torch.no_grad():
        outs = []
        for way in (body, Called(body)):
            with Clock(STEPS) as clock:
                outs.append(passage(way, x, clock))
    assert fused._engine("cpu") is not None and not fused._without
    assert_active(outs[0])
    assert torch.equal(*outs)


# ---- what is done once, what at every step


def test_the_stem_runs_once_where_its_layers_say_they_are_samplewise():
    for kind, rows in ((SeenConv, STEPS * BATCH), (SamplewiseConv, BATCH)):
        body = weighted(
            lambda kind=kind: nn.Sequential(kind(1, 4, 3, padding=1), neuron(), SeenLayer(), *dense(4 * 64))
        )
        found = passed(body, constant(BATCH, 1, 8, 8))
        assert_active(found[0])
        assert body[0].rows == [rows] and body[2].rows == [STEPS * BATCH]
        same(found, passed(Called(body), constant(BATCH, 1, 8, 8)))
        passed(body, constant(BATCH, 1, 8, 8).clone())
        assert body[0].rows[-1] == STEPS * BATCH, "a current that is not known to be constant"


def test_after_a_layer_that_is_not_samplewise_nothing_is_constant():
    body = nn.Sequential(nn.Dropout(0.5), SamplewiseConv(1, 4, 3), LIF(v_th=0.2), nn.Flatten()).double()
    with Clock(STEPS) as clock:
        out = passage(body, constant(BATCH, 1, 8, 8), clock)
    assert_active(out)
    assert body[1].rows == [STEPS * BATCH]
    assert not torch.equal(out[:BATCH], out[BATCH : 2 * BATCH]), "every step has its own dropout mask"


def test_a_body_without_neurons_hands_on_every_step():
    body = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).double()
    out = SNN(body, STEPS).run(constant(BATCH, 1, 8, 8)[0]).out
    assert out.shape == (STEPS, BATCH, 10) and torch.equal(out[0], out[-1])


def test_the_samplewise_layers_treat_equal_samples_equally():
    """In training mode, too: what depends on the number of samples or on chance has no place there."""
    sizes = {
        nn.Conv1d: ((4, 6, 3), (2, 4, 9)),
        nn.Conv2d: ((4, 6, 3), (2, 4, 9, 9)),
        nn.Linear: ((9, 5), (2, 9)),
        nn.BatchNorm1d: ((4,), (2, 4, 9)),
        nn.BatchNorm2d: ((4,), (2, 4, 9, 9)),
        nn.AvgPool2d: ((2,), (2, 4, 9, 9)),
        nn.MaxPool2d: ((2,), (2, 4, 9, 9)),
        nn.AdaptiveAvgPool2d: ((1,), (2, 4, 9, 9)),
        nn.Flatten: ((), (2, 4, 9)),
        nn.Identity: ((), (2, 4, 9)),
        nn.ReLU: ((), (2, 4, 9)),
    }
    assert set(sizes) == set(SAMPLEWISE), "say here how the layer is made"
    for kind, (arguments, shape) in sizes.items():
        layer = kind(*arguments).double()
        x = torch.randn(shape, dtype=F64, generator=torch.Generator().manual_seed(0))
        once, repeated = layer(x), layer(x.repeat(4, *[1] * (x.dim() - 1)))
        torch.testing.assert_close(once.repeat(4, *[1] * (once.dim() - 1)), repeated, rtol=1e-10, atol=1e-12)


# ---- who watches sees everything


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("kind", ["forward", "pre", "backward", "backward pre"])
def test_a_hooked_layer_is_called_as_it_is(kind):
    body = weighted(BODIES["pooled"])
    wanted = passed(body, constant(BATCH, 1, 8, 8))
    seen = {}

    def watch(name):
        def note(module, args, *_):
            seen.setdefault(name, []).append(len(args[0]) if args[0] is not None else None)

        return note

    for name, layer in body.named_children():
        if kind == "forward":
            layer.register_forward_hook(watch(name))
        elif kind == "pre":
            layer.register_forward_pre_hook(watch(name))
        elif kind == "backward":
            layer.register_full_backward_hook(watch(name))
        else:
            layer.register_full_backward_pre_hook(watch(name))
    found = passed(body, constant(BATCH, 1, 8, 8))
    assert_active(found[0])
    same(found, wanted)
    assert seen.keys() == dict(body.named_children()).keys()
    if kind != "backward":  # which is given the input's gradient, and the stem's has none
        assert all(rows == [STEPS * BATCH] for rows in seen.values())


@contextmanager
def everywhere(register, hook):
    handle = register(hook)
    try:
        yield
    finally:
        handle.remove()


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
def test_a_hook_on_all_modules_sees_every_layer():
    body = weighted(BODIES["nested"])
    x = constant(BATCH, 1, 8, 8)
    wanted = passed(body, x)
    modules = list(body.modules())
    for register in (
        torch_hooks.register_module_forward_hook,
        torch_hooks.register_module_forward_pre_hook,
        torch_hooks.register_module_full_backward_hook,
        torch_hooks.register_module_full_backward_pre_hook,
    ):
        seen = []
        with everywhere(register, lambda module, *_, seen=seen: seen.append(module)):
            same(passed(body, x), wanted)
        assert set(seen) >= {m for m in modules if not isinstance(m, (nn.Sequential, nn.Identity))}, register.__name__


def test_a_layer_whose_forward_was_replaced_is_called_by_it():
    class Silent(LIF):
        def forward(self, x):
            return 0 * super().forward(x)

    body = weighted(lambda: nn.Sequential(conv(), Silent(v_th=0.2), nn.AvgPool2d(2), nn.Flatten())).eval()
    with Clock(STEPS) as clock:
        assert (passage(body, constant(BATCH, 1, 8, 8), clock) == 0).all()
    body = weighted(BODIES["pooled"])
    calls, once = [], body[1].forward
    body[1].forward = lambda x: calls.append(len(x)) or once(x)
    assert_active(passed(body, constant(BATCH, 1, 8, 8))[0])
    assert calls == [STEPS * BATCH]


# ---- the caller's tensor


@pytest.mark.parametrize("steps", [1, STEPS])
@pytest.mark.parametrize("wrap", [nn.Identity(), Called], ids=["walked", "called"])
def test_a_body_that_works_in_place_leaves_the_callers_input_alone(wrap, steps):
    class Shift(nn.Module):
        samplewise = True

        def forward(self, x):
            return x.sub_(0.3)

    for first in (nn.ReLU(inplace=True), Shift()):
        body = weighted(lambda first=first: nn.Sequential(first, nn.ReLU(inplace=True), conv(), neuron(), *dense(256)))
        body = wrap(body) if wrap is Called else body
        g = torch.Generator().manual_seed(0)
        for x in (
            torch.randn(BATCH, 1, 8, 8, generator=g, dtype=F64).expand(steps, BATCH, 1, 8, 8),
            torch.randn(steps, BATCH, 1, 8, 8, generator=g, dtype=F64),
            torch.randn(BATCH, steps, 8, 8, 1, generator=g, dtype=F64).transpose(0, 1).permute(0, 1, 4, 2, 3),
        ):
            before = x.clone()
            with Clock(steps) as clock, torch.no_grad():
                out = passage(body, x, clock)
            assert torch.equal(x, before)
            with Clock(steps) as clock, torch.no_grad():
                assert torch.equal(passage(body, x, clock), out)
            assert (out != 0).any() or steps == 1


# ---- pools


@pytest.mark.parametrize(
    "pool, by_the_neuron",
    [
        (lambda: nn.AvgPool2d(2), 2),
        (lambda: nn.AvgPool2d((3, 3)), 3),
        (lambda: nn.AvgPool2d(2, 2, count_include_pad=False), 2),
        (lambda: nn.AvgPool2d(1), 1),
        (lambda: nn.AvgPool2d(2, ceil_mode=True), 0),
        (lambda: nn.AvgPool2d(2, padding=1), 0),
        (lambda: nn.AvgPool2d(3, stride=2), 0),
        (lambda: nn.AvgPool2d(2, stride=3), 0),
        (lambda: nn.AvgPool2d((2, 3)), 0),
        (lambda: nn.AvgPool2d(2, divisor_override=3), 0),
        (lambda: nn.MaxPool2d(2), 0),
        (lambda: ScaledSumPool(2), 0),
        (lambda: nn.Sequential(nn.AvgPool2d(2)), 0),
        (lambda: type("Mine", (nn.AvgPool2d,), {"forward": lambda self, x: 3 * nn.AvgPool2d.forward(self, x)})(2), 0),
    ],
)
@pytest.mark.parametrize("side", [7, 8])
def test_the_neuron_pools_where_it_may_and_the_result_is_the_same(pool, by_the_neuron, side):
    body = weighted(lambda: nn.Sequential(conv(), SeenLIF(1.5, v_th=0.4), pool(), nn.Flatten()))
    x = constant(BATCH, 1, side, side)
    found = passed(body, x)
    assert body[1].pooled == [by_the_neuron]
    assert_active(found[0] > 0.5)
    same(found, passed(Called(body), x))
    changing = passed(body, x.clone())
    same(changing, found)


def test_who_does_not_pool():
    """A pool that is watched, a neuron that is, one that cannot, and a block that is no image."""
    x = constant(BATCH, 1, 8, 8)
    for watched in (1, 2):
        body = weighted(lambda: nn.Sequential(conv(), SeenLIF(1.5, v_th=0.4), nn.AvgPool2d(2), nn.Flatten()))
        wanted = passed(body, x)
        rows = []
        body[watched].register_forward_hook(lambda module, args, out, rows=rows: rows.append(len(args[0])))
        same(passed(body, x), wanted)
        assert body[1].pooled == [2, 0] and rows == [STEPS * BATCH]
    body = weighted(lambda: nn.Sequential(conv(), TSSLNeuron(v_th=0.3), nn.AvgPool2d(2), nn.Flatten()))
    same(passed(body, x), passed(Called(body), x))
    flat = weighted(lambda: nn.Sequential(nn.Conv1d(1, 4, 3), SeenLIF(1.5, v_th=0.4), nn.AvgPool2d(2), nn.Flatten()))
    same(passed(flat, constant(BATCH, 1, 8)), passed(Called(flat), constant(BATCH, 1, 8)))
    assert set(flat[1].pooled) == {0}


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
def test_a_pool_wider_than_its_image_is_a_shape_error(dtype):
    body = nn.Sequential(conv(), neuron(), nn.AvgPool2d(4), nn.Flatten()).to(dtype)
    with pytest.raises(ConfigError, match=r"\(2, 1, 3, 3\) does not fit"):
        SNN(body, 2)(torch.rand(2, 1, 3, 3, dtype=dtype))


def test_images_travel_channels_last():
    for channels in (1, 3):
        body = weighted(
            lambda channels=channels: nn.Sequential(
                SamplewiseConv(channels, 4, 3), SeenLIF(1.5, v_th=0.4), SeenConv(4, 4, 3), SeenLIF(), nn.Flatten()
            ),
            F32,
        )
        with Clock(STEPS) as clock, torch.no_grad():
            for x in (constant(BATCH, channels, 8, 8, dtype=F32), torch.rand(STEPS, BATCH, channels, 8, 8)):
                passage(body, x, clock)
        assert all(layer.layouts == [True, True] for layer in list(body)[:4])


@pytest.mark.parametrize("neuron", [LIF(v_th=0.4), NoisyLIF(), AdaptiveLIF()], ids=lambda n: type(n).__name__)
@pytest.mark.parametrize("steps", [1, STEPS])
def test_gradients_of_images_travel_channels_last(neuron, steps):
    """Batch norm and convolutions take several times as long with the others."""
    seen = []
    first, second = conv(), norm(4)
    body = nn.Sequential(first, norm(4), neuron, conv(4, 4), second, deepcopy(neuron), nn.AvgPool2d(2), nn.Flatten())
    for layer in (first, second):
        layer.forward = partial(_watched, layer, layer.forward, seen)
    with Clock(steps) as clock:
        out = passage(body, torch.rand(BATCH, 1, 8, 8).expand(steps, -1, -1, -1, -1), clock)
    assert_active(out)
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    assert seen == [True, True]


def _watched(layer, forward, seen, x):
    out = forward(x)
    out.grad_fn.register_prehook(lambda gradients: seen.append(_in_order(*gradients)))
    return out


def _in_order(gradient, *_):
    return bool(gradient.any()) and gradient.is_contiguous(memory_format=torch.channels_last)


# ---- under autocast, compiled


def test_under_autocast_spikes_are_bfloat16_and_scores_and_the_constant_stem_float32():
    def make():
        return nn.Sequential(
            SamplewiseConv(1, 4, 3, padding=1),
            SeenLIF(1.5, v_th=0.4),
            nn.AvgPool2d(2),
            SeenLayer(),
            conv(4, 4),
            SeenLIF(1.5, v_th=0.2),
            SeenLayer(),
            *dense(64),
        )

    body = weighted(make, F32)
    snn, x = SNN(body, STEPS), constant(BATCH, 1, 8, 8, dtype=F32)[0]
    stem = []
    body[1].run = lambda current, state=None, **how: (
        stem.append(current),
        SeenLIF.run(body[1], current, state, **how),
    )[1]
    with torch.no_grad(), torch.autocast("cpu", BF16):
        run = snn.run(x)
    assert_active(run.out)
    assert run.out.dtype == run.scores.dtype == F32
    assert body[0].dtypes == [F32] and body[1].dtypes == [F32], "the stem is not rounded"
    assert body[3].dtypes == body[6].dtypes == [BF16], "spikes, pooled or not"
    assert body[5].dtypes == [BF16], "the current out of a convolution"
    with torch.no_grad():
        wanted = nn.functional.conv2d(x, body[0].weight, body[0].bias, padding=1)
    torch.testing.assert_close(body[1].currents[0][0], wanted, rtol=1e-6, atol=1e-6)
    with torch.no_grad(), torch.autocast("cpu", BF16):
        assert_active(snn.run(x.to(BF16)).out)


@pytest.mark.filterwarnings("error:Dynamo does not know how to trace")
def test_a_compiled_network_gives_the_same():
    snn = SNN(weighted(BODIES["dense"], F32), STEPS)
    x = torch.rand(BATCH, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = snn.run(x)
    assert_active(wanted.out)
    gradients = torch.autograd.grad(wanted.scores[-1].square().sum(), list(snn.parameters()))
    compiled = torch.compile(snn, backend="eager")
    scores = compiled(x)
    torch.testing.assert_close(scores, wanted.scores[-1], rtol=1e-6, atol=1e-6)
    found = torch.autograd.grad(scores.square().sum(), list(snn.parameters()))
    for a, b in zip(found, gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
