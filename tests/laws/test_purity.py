"""Nothing a caller owns is changed: inputs, other models, the global generators; and nothing is kept back."""

import gc
import random
import threading
import warnings
import weakref

import cases
import numpy as np
import pytest
import torch
from cases import F32, F64, assert_active, network
from torch import Tensor, nn

from spikewright.clock import Clock
from spikewright.errors import ConfigError
from spikewright.model_file import load_model
from spikewright.neurons import LIF


def held_tensors(part, path="", seen=None):
    """Tensors reachable through the attributes of a module or dataclass, parameters and buffers left out."""
    seen = set() if seen is None else seen
    if id(part) in seen:
        return
    seen.add(id(part))
    if isinstance(part, Tensor):
        yield path
    elif isinstance(part, dict):
        for key, value in part.items():
            yield from held_tensors(value, f"{path}[{key}]", seen)
    elif isinstance(part, (list, tuple, set)):
        for value in part:
            yield from held_tensors(value, f"{path}[]", seen)
    elif hasattr(part, "__dict__") and not isinstance(part, type) and not callable(getattr(part, "__code__", None)):
        for key, value in vars(part).items():
            if not (isinstance(part, nn.Module) and key in ("_parameters", "_buffers")):
                yield from held_tensors(value, f"{path}.{key}", seen)


def shape_of(part):
    return {name: sorted(vars(m)) for name, m in part.named_modules()}


@pytest.mark.parametrize("name", cases.NETWORKS)
def test_a_forward_leaves_no_tensor_and_no_attribute_in_any_module(name):
    snn = network(name)
    x = cases.images(snn.encode, 3, snn.steps)
    before = shape_of(snn)
    for training in (False, True):
        snn.train(training)
        assert_active(snn.run(x).out)
        snn.scores(x, chunk=2)
        stream = snn.stream()
        stream(x)
        snn.predict(x)
        assert shape_of(snn) == before
        assert not list(held_tensors(snn))
    assert Clock._running.get() is None


@pytest.mark.parametrize("case", cases.temporal_cases(), ids=repr)
def test_a_temporal_module_changes_neither_itself_nor_its_input_nor_the_state_it_is_handed(case):
    module = case.make()
    x = cases.drive(module, (10, 2, 5))
    given = x.clone()
    with torch.no_grad():
        first, state = cases.run(module, x)
        assert_active(cases.fired(case, module, x, first))
        kept = [t.clone() for t in cases.tensors(state)]
        out, _ = cases.run(module, x, state)
        kept_out = out.clone()
        cases.run(module, 2 * x, state)
    assert torch.equal(x, given) and torch.equal(out, kept_out)
    assert all(torch.equal(a, b) for a, b in zip(kept, cases.tensors(state), strict=True))
    assert not list(held_tensors(module))
    assert torch.equal(cases.run(module, x)[0], first)


@pytest.mark.parametrize("group", [cases.encoder_cases, cases.readout_cases, cases.loss_cases])
def test_encoders_readouts_and_losses_hold_nothing_and_change_nothing(group):
    for case in group():
        part = case.make()
        if group is cases.encoder_cases:
            given = [cases.images(part, 3, 6, F32)]
            act = lambda x: part.run(x, 0, 6, 6, 1)  # noqa: B023, E731
        elif group is cases.readout_cases:
            given = [cases.run_of(6, 3, 4)[0].out]
            act = lambda out: part.run(out)[0]  # noqa: B023, E731
        else:
            run, target = cases.run_of(6, 3, 4)
            given = [*run, target]
            act = lambda out, scores, target: part(cases.Run(out, scores), target)  # noqa: B023, E731
        before = [t.clone() for t in given]
        one, two = act(*given), act(*given)
        assert torch.equal(one, two)
        assert all(torch.equal(a, b) for a, b in zip(before, given, strict=True))
        assert not list(held_tensors(part)), case


def layouts(x):
    """The same values in other memory: read-only, transposed, with gaps, channels last, expanded."""
    array = x.numpy().copy()
    array.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield "read-only", torch.from_numpy(array)
    yield "transposed", x.transpose(0, -1).contiguous().transpose(0, -1)
    wide = torch.zeros(*x.shape[:-1], 2 * x.shape[-1], dtype=x.dtype)
    wide[..., ::2] = x
    yield "gaps", wide[..., ::2]
    if x.dim() == 4:
        yield "channels last", x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("case", cases.encoder_cases(), ids=repr)
def test_any_memory_layout_gives_the_same_and_is_left_as_it_was(case):
    snn = network("conv", 6, case.make())
    x = cases.images(snn.encode, 4, 6)
    wanted = snn.run(x).out
    assert_active(wanted)
    for name, other in layouts(x):
        assert torch.equal(other, x)
        assert torch.equal(snn.run(other).out, wanted), name
        snn.scores(other, chunk=1)
        snn.predict(other)
        assert torch.equal(other, x), name
    one = x[:1]
    assert torch.equal(snn.run(one.expand(3, *one.shape[1:])).out, snn.run(one).out.expand(-1, 3, -1))


@pytest.mark.parametrize("case", [c for c in cases.temporal_cases() if c.name != "HeldDropout"][::4], ids=repr)
def test_a_temporal_module_takes_any_memory_layout(case):
    module = case.make()
    x = cases.drive(module, (10, 4, 3, 5), F64)
    module = module.double()
    wanted = cases.run(module, x)[0]
    assert_active(cases.fired(case, module, x, wanted))
    for name, other in layouts(x):
        assert torch.equal(cases.run(module, other)[0], wanted), name
        assert torch.equal(other, x), name
    still = x[:1].expand(10, *x.shape[1:])
    assert torch.equal(cases.run(module, still)[0], cases.run(module, still.contiguous())[0])


def test_predict_leaves_arrays_and_modes_alone_and_warns_of_nothing():
    snn = network("conv", dtype=F32).train()
    snn.body[1].eval()
    modes = [m.training for m in snn.modules()]
    image = np.random.default_rng(0).random((3, 1, 8, 8), dtype=np.float32)
    pixels = (image * 255).astype(np.uint8)
    for array in (image, pixels):
        before = array.copy()
        array.setflags(write=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            classes = snn.predict(array)
        assert torch.equal(classes, snn.predict(torch.tensor(before)))
        assert np.array_equal(array, before)
    assert [m.training for m in snn.modules()] == modes


def generators():
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()


@pytest.mark.parametrize("name", cases.NETWORKS)
def test_the_global_generators_are_left_alone(name, tmp_path):
    custom = name == "skip"
    for case in cases.encoder_cases():
        snn = network(name, 4, case.make())
        x = cases.images(snn.encode, 2, 4)
        before = generators()
        snn(x)
        snn.train()(x)
        snn.eval().scores(x, chunk=2)
        snn.predict(x)
        if case.name == "Poisson":
            snn.save(tmp_path / name)
            load_model(tmp_path / name, snn.body if custom else None)
        assert generators() == before


def test_two_models_never_meet():
    one, two = network("conv"), network("conv", seed=2)
    x, y = cases.images(one.encode, 3, 6), cases.images(one.encode, 5, 6, seed=9)
    wanted = [one.scores(x), two.scores(y)]
    assert not torch.equal(wanted[0][:, 0], wanted[1][:, 0])
    streams = [one.stream(), two.stream(), one.stream()]
    found = [[], [], []]
    for _ in range(6):
        for stream, image, into in zip(streams, (x, y, y[:3]), found, strict=True):
            into.append(stream(image))
    assert torch.equal(torch.stack(found[0]), wanted[0])
    assert torch.equal(torch.stack(found[1]), wanted[1])
    torch.testing.assert_close(torch.stack(found[2]), one.scores(y[:3]), rtol=1e-12, atol=1e-12)


def test_a_network_inside_a_network_keeps_its_own_clock():
    inner = network("conv", 3)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.act, self.inner = LIF(), [inner]

        def forward(self, x):
            return self.act(x.flatten(1)[:, :10] + self.inner[0](x))

    snn = cases.SNN(Outer(), 4)
    x = 3 * cases.images(snn.encode, 2, 4)
    out = snn.run(x).out
    assert_active(out)
    current = (x.flatten(1)[:, :10] + inner(x)).expand(4, 2, 10)
    assert torch.equal(out, LIF().run(current)[0])


def test_an_error_in_the_body_leaves_no_clock_running():
    class Broken(nn.Module):
        def forward(self, x):
            raise KeyError("mine")

    snn = cases.SNN(Broken(), 4)
    with pytest.raises(KeyError):
        snn(torch.rand(2, 3))
    with pytest.raises(ConfigError, match="outside an SNN"):
        LIF()(torch.rand(2, 3))


def test_threads_do_not_meet():
    snn = network("conv", 5)
    x = cases.images(snn.encode, 6, 5)
    wanted = [snn.scores(x[: n + 1]) for n in range(6)]
    found = [None] * 6

    def act(n):
        for _ in range(5):
            found[n] = snn.scores(x[: n + 1], chunk=1)

    threads = [threading.Thread(target=act, args=(n,)) for n in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert_active(wanted[-1])
    for a, b in zip(wanted, found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_models_built_used_and_dropped_are_freed():
    names, alive = list(cases.NETWORKS), []
    gc.collect()
    for i in range(200):
        snn = network(names[i % len(names)], 2)
        run = snn.run(cases.images(snn.encode, 1, 2))
        run.scores.sum().backward()
        snn.stream()(cases.images(snn.encode, 1, 2))
        alive.append(weakref.ref(snn))
        del snn, run
    gc.collect()
    assert sum(r() is not None for r in alive) == 0
