"""What a sample gets does not depend on who shares its batch, and a second call gives the same."""

import cases
import pytest
import torch
from cases import assert_active, network

STEPS, BATCH = 6, 5


def assert_invariant(snn, x, exact=True):
    def equal(a, b):
        return torch.equal(a, b) if exact else torch.allclose(a, b, rtol=1e-12, atol=1e-12)

    with torch.no_grad():
        wanted = cases.layers(snn, lambda: snn.run(x), len(x))
        cases.assert_network_active(wanted, snn)
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        ways = {"shuffled": [order], "twice": [torch.arange(len(x))]}
        ways |= {f"batches of {n}": torch.arange(len(x)).split(n) for n in (1, 2, 3)}
        for way, parts in ways.items():
            for rows in parts:
                found = cases.layers(snn, lambda rows=rows: snn.run(x[rows]), len(rows))
                for layer, out in found.items():
                    spikes = snn.get_submodule(layer.split("#")[0]).spikes
                    same = equal if spikes else lambda a, b: torch.allclose(a, b, rtol=1e-12, atol=1e-12)
                    assert same(out, wanted[layer][:, rows]), f"{way}: {layer}"


@pytest.mark.parametrize("name", cases.NETWORKS)
def test_every_network(name):
    snn = network(name)
    assert_invariant(snn, cases.images(snn.encode, BATCH, snn.steps))


@pytest.mark.parametrize("case", cases.encoder_cases(), ids=repr)
def test_every_encoder(case):
    encoder = case.make()
    x = cases.images(encoder, BATCH, STEPS)
    if "signed" in case.name:
        x = 2 * x - 1
    assert_invariant(network("conv", STEPS, encoder), x)


@pytest.mark.parametrize("case, read", cases.encoders_with_readouts())
def test_scores_and_classes_with_every_encoder_and_readout(case, read):
    snn = network("conv", STEPS, case.make(), read.make())
    x = cases.images(snn.encode, BATCH, STEPS)
    assert_active(snn.run(x).out)
    whole = snn.scores(x)
    single = torch.cat([snn.scores(x[i : i + 1]) for i in range(BATCH)], 1)
    torch.testing.assert_close(single, whole, rtol=1e-12, atol=1e-12)
    classes = snn.predict(x)
    assert classes.dtype == torch.long and classes.shape == (BATCH,)
    for batch in (1, 2, 100):
        assert torch.equal(snn.predict(x, batch=batch), classes)
    assert torch.equal(snn.scores(x), whole)


@pytest.mark.parametrize("name", ["Bernoulli", "Poisson"])
def test_another_generator_state_gives_other_noise_and_the_same_state_the_same(name):
    encoder = next(c for c in cases.encoder_cases() if c.name == name).make()
    snn = network("conv", STEPS, encoder)
    x = cases.images(encoder, BATCH, STEPS)

    def out(seed):
        return snn.run(x, generator=torch.Generator().manual_seed(seed)).out

    assert_active(out(1))
    assert torch.equal(out(1), out(1))
    assert not torch.equal(out(1), out(2))
    g = torch.Generator().manual_seed(1)
    assert not torch.equal(snn.run(x, generator=g).out, snn.run(x, generator=g).out)
    assert torch.equal(
        snn.scores(x, generator=torch.Generator().manual_seed(1))[-1], snn(x, torch.Generator().manual_seed(1))
    )
