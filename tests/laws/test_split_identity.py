"""However the steps are cut into blocks that hand the state on, the result is the same."""

import random
from functools import partial

import cases
import pytest
import torch
from cases import F32, F64, assert_active, network

from spikewright import encode, readout

STEPS, BATCH = 8, 3


def cut(total: int, seed: int) -> list[int]:
    """Random block lengths that add up to `total`."""
    rng, left, found = random.Random(seed), total, []
    while left:
        found.append(rng.randint(1, min(left, 4)))
        left -= found[-1]
    return found


def in_blocks(run, x, blocks):
    """Outputs and last state of a run in blocks, with the state after every block."""
    out, state, states = [], None, []
    for block in x.split(blocks):
        part, state = run(block, state)
        out.append(part)
        states.append(state)
    return torch.cat(out), states


def same(a, b):
    a, b = cases.tensors(a), cases.tensors(b)
    assert len(a) == len(b)
    for left, right in zip(a, b, strict=True):
        assert left.dtype == right.dtype and torch.equal(left, right)


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize("case", cases.temporal_cases(), ids=repr)
def test_a_temporal_module_gives_the_same_bits_for_every_split(case, dtype):
    module = case.make()
    x = cases.drive(module, (STEPS, BATCH, 5), dtype)
    with torch.no_grad():
        run = partial(cases.run, module)
        whole, last = run(x)
        assert_active(cases.fired(case, module, x, whole))
        single, states = in_blocks(run, x, [1] * STEPS)
        assert torch.equal(whole, single)
        same(last, states[-1])
        for t in range(1, STEPS):
            out, two = in_blocks(run, x, [t, STEPS - t])
            assert torch.equal(whole, out)
            same(states[t - 1], two[0])
            same(last, two[1])
        for seed in range(3):
            out, many = in_blocks(run, x, cut(STEPS, seed))
            assert torch.equal(whole, out)
            same(last, many[-1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", cases.temporal_cases()[::5], ids=repr)
def test_the_same_in_half_precision(case, dtype):
    module = case.make()
    x = cases.drive(module, (STEPS, BATCH, 5), dtype)
    with torch.no_grad():
        run = partial(cases.run, module)
        whole, last = run(x)
        single, states = in_blocks(run, x, [1] * STEPS)
    assert torch.equal(whole, single)
    same(last, states[-1])


@pytest.mark.parametrize("dtype", cases.DTYPES, ids=str)
@pytest.mark.parametrize("case", cases.readout_cases(), ids=repr)
def test_a_readout_of_spikes_gives_the_same_scores_for_every_split(case, dtype):
    read = case.make()
    g = torch.Generator().manual_seed(0)
    out = (torch.rand(STEPS, BATCH, 6, generator=g) < 0.3).to(dtype)
    assert_active(out)
    whole, _ = read.run(out)
    for blocks in ([1] * STEPS, *([t, STEPS - t] for t in range(1, STEPS)), cut(STEPS, 0)):
        split, _ = in_blocks(read.run, out, blocks)
        assert torch.allclose(whole.double(), split.double(), rtol=2 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("case", cases.encoder_cases(), ids=repr)
def test_an_encoder_gives_the_same_bits_for_every_split(case):
    encoder = case.make()
    x = cases.images(encoder, BATCH, STEPS)
    whole = encoder.run(x, 0, STEPS, STEPS, seed=5)
    for blocks in ([1] * STEPS, *([t, STEPS - t] for t in range(1, STEPS)), cut(STEPS, 1)):
        parts, t = [], 0
        for n in blocks:
            parts.append(encoder.run(x, t, t + n, STEPS, seed=5))
            t += n
        assert torch.equal(whole, torch.cat(parts))
    if encoder.spikes and not isinstance(encoder, encode.Frames):
        assert_active(whole)


def ways(snn, x, steps):
    """The same sequence run in every way a user can: name -> (function, which steps' scores it returns)."""

    def stream(blocks):
        def act():
            stream, found, t = snn.stream(), [], 0
            for n in blocks:
                part = x[:, t : t + n] if isinstance(snn.encode, encode.Frames) else x
                found.append(stream(part, n))
                t += n
            assert stream.at == steps
            return torch.stack(found)

        return act

    found = {f"chunk={k}": (lambda k=k: snn.scores(x, chunk=k), slice(None)) for k in range(1, steps + 2)}
    found["stream"] = (stream([1] * steps), slice(None))
    for t in range(1, steps):
        found[f"stream-{t}"] = (stream([t, steps - t]), [t - 1, steps - 1])
    return found


@pytest.mark.parametrize("name", cases.NETWORKS)
def test_a_network_fires_the_same_spikes_in_chunks_and_streams(name):
    snn = network(name)
    x = cases.images(snn.encode, BATCH, snn.steps)
    whole = snn.run(x)
    wanted = cases.layers(snn, lambda: snn.run(x), BATCH)
    cases.assert_network_active(wanted, snn)
    for way, (act, steps) in ways(snn, x, snn.steps).items():
        scores = None

        def keep(act=act):
            nonlocal scores
            scores = act()

        found = cases.layers(snn, keep, BATCH)
        assert found.keys() == wanted.keys()
        for layer in wanted:
            spikes = snn.get_submodule(layer.split("#")[0]).spikes
            equal = torch.equal if spikes else lambda a, b: torch.allclose(a, b, rtol=1e-12, atol=1e-12)
            assert equal(wanted[layer], found[layer]), f"{way}: {layer}"
        torch.testing.assert_close(scores, whole.scores[steps].detach(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", cases.encoder_cases(), ids=repr)
def test_every_encoder_gives_the_same_spikes_in_chunks_and_streams(case):
    snn = network("conv", 7, case.make(), readout.MaxMembrane())
    x = cases.images(snn.encode, BATCH, snn.steps)
    wanted = snn.run(x)
    assert_active(wanted.out)
    for way, (act, steps) in ways(snn, x, snn.steps).items():
        assert torch.equal(act(), wanted.scores[steps].detach()), way


@pytest.mark.parametrize("case, read", cases.encoders_with_readouts())
def test_scores_after_t_steps_are_those_of_a_run_of_t_steps(case, read):
    encoder = case.make()
    whole = (encode.LinearLatency, encode.Population, encode.Burst, encode.RankOrder, encode.Frames)
    if isinstance(encoder, whole):
        pytest.skip("what it hands on depends on the number of steps")
    snn = network("conv", 6, encoder, read.make())
    x = cases.images(encoder, BATCH, 6)
    whole = snn.run(x)
    assert_active(whole.out)
    for t in range(1, 7):
        run = snn.run(x, steps=t)
        assert torch.equal(run.out, whole.out[:t])
        torch.testing.assert_close(run.scores, whole.scores[:t], rtol=1e-12, atol=1e-12)
        assert torch.equal(snn.scores(x, steps=t), run.scores)


def test_a_body_that_works_in_place_gets_a_copy_of_the_input():
    """With one step a block the input could reach the body itself; then every step would change it for the next."""

    class Centre(torch.nn.Module):
        def forward(self, x):
            return x.sub_(0.1)

    snn = network("conv")
    snn.body = torch.nn.Sequential(Centre(), *snn.body.children())
    x = cases.images(snn.encode, BATCH, snn.steps)
    before = x.clone()
    whole = snn.scores(x)
    assert torch.equal(snn.scores(x, chunk=1), whole)
    assert torch.equal(x, before)
