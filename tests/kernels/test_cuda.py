"""The Triton kernels against the definition: on a GPU where there is one, else in Triton's interpreter.

The interpreter runs a kernel on CPU tensors, one operation of numpy's after the other: it proves what the kernel
computes, not that it compiles for a GPU, which the last test sees to.
"""

import itertools
import os
import subprocess
import sys

import cases
import pytest
import torch
from cases import F32, assert_active

GPU = torch.cuda.is_available()
if not GPU:
    os.environ["TRITON_INTERPRET"] = "1"  # Triton looks when it is first imported
triton = pytest.importorskip("triton", reason="needs Triton (CUDA builds of torch bring it along)")

from spikewright.kernels import cuda, fused, reference  # noqa: E402
from spikewright.kernels.formula import trace  # noqa: E402
from spikewright.kernels.plan import Kind, Numbers  # noqa: E402
from spikewright.neurons import HardReset  # noqa: E402
from spikewright.surrogate import STDB, ATan, catalogue  # noqa: E402

OLD = tuple(int(n) for n in triton.__version__.split(".")[:2]) < (3, 7)
pytestmark = [
    pytest.mark.skipif(not GPU and OLD, reason="the interpreter of Triton before 3.7 fails with today's numpy"),
    pytest.mark.filterwarnings("error:the fused kernels"),  # to do without them would pass every test here
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton"),  # numpy's, where a kernel may divide by 0
]
DEVICE = "cuda" if GPU else "cpu"
SETTINGS = {"decay": 0.7, "gain": 0.6, "v_th": 0.5, "v_init": 0.1, "reset": HardReset(), "strict": False}
SETTINGS |= {"surrogate": ATan(), "pool": 0, "dtype": F32}
SHAPE = (6, 3, 205)  # more neurons than one program has, the last one partly idle
HALVES = (torch.bfloat16, torch.float16)


@pytest.fixture(autouse=True)
def engine(monkeypatch):
    monkeypatch.setattr(fused, "_without", set())
    if not GPU:
        monkeypatch.setattr(fused, "_engine", lambda device: cuda)


def drive(shape=SHAPE, dtype=F32, seed=0):
    return cases.drive(cases.LIF(), shape, dtype, seed).to(DEVICE)


def start(surrogate, shape=SHAPE[1:]):
    """A state in which neurons are here and there, some just after a spike."""
    v = torch.linspace(-0.5, 0.7, torch.Size(shape).numel(), device=DEVICE).view(shape)
    return (v, (v * 100).round().abs()) if surrogate.timed else (v,)


def outcome(way, x, state=None, learned=(), last=True, **settings):
    """[spikes, *states], and the gradients of the current, the first membrane and the learned numbers.

    `x` is a current, or makes one and what it is made of.
    """
    settings = SETTINGS | settings
    current, source = x() if callable(x) else (x.clone().requires_grad_(),) * 2
    wanted = [source]
    if state is not None:
        state = (state[0].clone().requires_grad_(), *state[1:])
        wanted.append(state[0])
    for name in learned:
        settings[name] = torch.tensor(settings[name], device=DEVICE, requires_grad=True)
        wanted.append(settings[name])
    done = way.integrate_and_fire(current, state, **settings)
    assert done is not None, "the fused kernels were not taken"
    s, left = done
    weight = torch.rand(s.shape, generator=torch.Generator().manual_seed(2)) - 0.2
    loss = (s * weight.to(s.dtype).to(DEVICE)).sum()
    if last:
        loss = loss + (left[0] ** 2).sum()
    return [s, *left], torch.autograd.grad(loss, wanted)


def close(a, b, tolerance):
    assert a.dtype == b.dtype and a.shape == b.shape
    assert torch.isfinite(b).all()
    error, size = (a - b).double().abs().max().item(), b.double().abs().max().item()
    assert error <= tolerance * size, f"off by {error:.2e} where the largest is {size:.2e}"


def equals_the_definition(x, *args, tolerance=2e-5, **kwargs):
    wanted, wanted_gradients = outcome(reference, x, *args, **kwargs)
    found, gradients = outcome(fused, x, *args, **kwargs)
    assert_active(wanted[0])
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype and torch.equal(a, b)
    for a, b in zip(gradients, wanted_gradients, strict=True):
        close(a, b, tolerance)


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "scaled"])
@pytest.mark.parametrize("kind", catalogue(), ids=lambda kind: kind.__name__)
def test_every_surrogate(kind, scaled):
    surrogate = kind(scale_by_threshold=scaled)
    reset = HardReset(-0.2, detach=scaled)
    learned = ("decay", "gain", "v_th")
    equals_the_definition(drive(), start(surrogate), learned, surrogate=surrogate, reset=reset, strict=scaled)


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize("reset", cases.RESETS, ids=cases.short)
def test_every_reset(reset, strict):
    x = (drive() * 4).round() / 4  # potentials that meet the threshold exactly
    settings = {"decay": 0.5, "gain": 1.0, "v_init": 0.5, "reset": reset, "strict": strict}
    equals_the_definition(x, None, ("decay", "gain", "v_th"), **settings)
    assert (0.5 * 0.5 + x[0] == SETTINGS["v_th"]).any()


def test_products_and_sums_are_rounded_apart():
    v = drive((1, 4096)) / 3
    x = (0.1 - 0.9 * v) / 0.1  # leads to the threshold, give or take the last bit
    x, settings = torch.cat([x, v]), {"decay": 0.9, "gain": 0.1, "v_th": 0.1}
    (s, u), _ = outcome(reference, x, (v[0],), **settings)
    (found, last), _ = outcome(fused, x, (v[0],), **settings)
    assert_active(s)
    assert torch.equal(found, s) and torch.equal(last, u)
    decay, gain, v_th = torch.tensor([0.9, 0.1, 0.1], device=DEVICE)
    contracted = (decay.double() * v[0].double() + (gain * x[0]).double()).float()  # as a multiply-add rounds: once
    assert ((contracted >= v_th).float() != s[0]).any()


@pytest.mark.parametrize("surrogate", [ATan(), STDB()], ids=cases.short)
def test_only_spikes_or_only_the_last_state_have_a_gradient(surrogate):
    equals_the_definition(drive(), start(surrogate), last=False, surrogate=surrogate)
    gradients = []
    for way in (reference, fused):
        x = drive().requires_grad_()
        _, left = way.integrate_and_fire(x, None, **SETTINGS | {"surrogate": surrogate})
        gradients += torch.autograd.grad(left[0].sum(), x)
    close(gradients[1], gradients[0], 2e-5)
    assert gradients[0].abs().max() > 0


@pytest.mark.parametrize("steps", [1, 6])
@pytest.mark.parametrize("dtype", [F32, *HALVES], ids=str)
def test_a_constant_current(dtype, steps):
    def current():
        base = drive((3, 205), dtype).requires_grad_()
        return base.expand(steps, *base.shape), base

    learned = ("decay", "gain", "v_th")
    equals_the_definition(current, start(ATan()), learned, dtype=dtype, tolerance=2e-5 if dtype is F32 else 3e-2)


@pytest.mark.parametrize("given, out", [*itertools.product((F32, torch.bfloat16), repeat=2), (HALVES[1],) * 2], ids=str)
def test_every_dtype(given, out):
    exact = given is F32 and out is F32
    x = drive(dtype=given)
    equals_the_definition(x, start(STDB()), surrogate=STDB(), dtype=out, tolerance=2e-5 if exact else 1e-2)


@pytest.mark.parametrize("pool", [0, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_images_and_their_pooling(layout, pool):
    x = drive((4, 2, 5, 8, 9)).flatten(0, 1).contiguous(memory_format=layout).unflatten(0, (4, 2))
    state = start(ATan(), (2, 5, 8, 9))
    equals_the_definition(x, (state[0].contiguous(memory_format=layout),), ("v_th",), pool=pool)


def test_rows_that_are_not_dense():
    equals_the_definition(drive((7, 3, 6)).transpose(0, 2))
    x, w = drive((6, 3, 205)), drive((6, 205, 3), seed=1).transpose(1, 2)  # a gradient in another order
    found = []
    for way in (reference, fused):
        leaf = x.clone().requires_grad_()
        s, _ = way.integrate_and_fire(leaf, None, **SETTINGS)
        found.append(torch.autograd.grad(s, leaf, w)[0])
    close(found[1], found[0], 2e-5)


@pytest.mark.parametrize("surrogate", [ATan(), STDB()], ids=cases.short)
def test_a_block_may_be_split(surrogate):
    x, settings = drive(), SETTINGS | {"surrogate": surrogate}
    whole, last = fused.integrate_and_fire(x, None, **settings)
    state, out = None, []
    for block in x.split([1, 3, 2]):
        part, state = fused.integrate_and_fire(block, state, **settings)
        out.append(part)
    assert_active(whole)
    assert torch.equal(torch.cat(out), whole)
    assert all(torch.equal(a, b) for a, b in zip(state, last, strict=True))


def test_a_current_that_is_not_finite_leaves_nan():
    x = drive()
    x[2, 0, 7], x[2, 1, 7], x[5, 2, 7] = torch.nan, torch.inf, -torch.inf
    wanted, (v,) = reference.integrate_and_fire(x, None, **SETTINGS)
    found, (last,) = fused.integrate_and_fire(x, None, **SETTINGS)
    assert torch.equal(found, wanted)
    assert last[:, 7].isnan().all() and last.isnan().sum() == 3
    torch.testing.assert_close(last, v, rtol=0, atol=0, equal_nan=True)


def test_numbers_may_lie_on_the_device():
    """Then nobody waits for them: what a learned leak needs."""
    kind = Kind(False, False, True, 0, F32, F32, trace(ATan(), False))
    plain = Numbers(0.7, 0.6, 0.5, 0.1, 1.0, -0.5, 0.0, 0.0, 2.0)
    decay, gain = torch.tensor(0.7, device=DEVICE), torch.tensor([0.6], device=DEVICE)
    x, g = drive(), drive(seed=1)
    found = []
    for numbers in (plain, plain._replace(decay=decay, gain=gain)):
        s, v, *_ = cuda.forward(kind, numbers, len(x), x, None, None)
        found.append((s, v, *(t for t in cuda.backward(kind, numbers, x, None, None, g, None) if t is not None)))
    assert_active(found[0][0])
    assert len(found[0]) == 4 and all(torch.equal(a, b) for a, b in zip(*found, strict=True))


COMPILE = """
import re
import torch, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from spikewright.kernels import cuda
from spikewright.kernels.formula import trace
from spikewright.surrogate import S2NN, STDB, Polynomial

ABSENT = {"age0", "age_last", "ages"}
for surrogate in (None, Polynomial(), S2NN(), STDB()):
    timed = surrogate is not None and surrogate.timed
    module = cuda._module(None if surrogate is None else trace(surrogate, False))
    for kernel in (module.forward, module.backward):
        flags = {"CONSTANT": timed, "STRICT": timed, "TIMED": timed, "WIDTH": cuda.WIDTH}
        flags |= {} if timed else dict.fromkeys(ABSENT & set(kernel.arg_names))
        types = {"steps": "i32", "neurons": "i32", "sums": "*fp64"} | dict.fromkeys(["x", "dx", "s", "g"], "*bf16")
        types = {n: "constexpr" if n in flags else types.get(n, "*fp32") for n in kernel.arg_names}
        source = ASTSource(kernel, types, {(kernel.arg_names.index(n),): value for n, value in flags.items()})
        ptx = triton.compile(source, GPUTarget("cuda", 80, 32), {"enable_fp_fusion": False}).asm["ptx"]
        assert "mul" in ptx and not re.search(r"\\bfma\\.", ptx)
print("compiled")
"""


@pytest.mark.skipif(GPU, reason="the tests above have compiled the kernels")
def test_the_kernels_compile_and_keep_products_and_sums_apart(tmp_path):
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | {"TRITON_CACHE_DIR": str(tmp_path)}
    env["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run([sys.executable, "-c", COMPILE], env=env, capture_output=True, text=True)
    assert done.stdout.strip() == "compiled", done.stderr[-2000:]
