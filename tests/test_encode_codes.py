"""Phase, burst and population codes: known spikes, and what the decoders get back."""

import math

import pytest
import torch

from spikewright import encode
from spikewright.encode import (
    Bernoulli,
    Burst,
    BurstWeights,
    Direct,
    FiringPhase,
    LinearLatency,
    LogLatency,
    Poisson,
    Population,
    WeightedPhase,
)
from spikewright.errors import ConfigError

F64 = torch.float64


def whole(encoder, x, steps, seed=0):
    return encoder.run(x, 0, steps, steps, seed)


@pytest.mark.parametrize("level, bits", [(192, "11000000"), (100, "01100100"), (255, "11111111"), (1, "00000001")])
def test_weighted_spikes_are_the_bits(level, bits):
    spikes = whole(WeightedPhase(8), torch.tensor([[level / 256]], dtype=F64), 16)[:, 0, 0]
    assert "".join(str(int(s)) for s in spikes) == 2 * bits


def test_weighted_spikes_decode_to_the_value_rounded_down():
    x = torch.linspace(0, 1, 301, dtype=F64)[None]
    for weighted in (False, True):
        encoder = WeightedPhase(6, weighted)
        spikes = whole(encoder, x, 18)
        assert torch.equal(encoder.decode(spikes), torch.floor(x * 64).clamp(max=63) / 64)
    assert torch.equal(spikes[:6].sum(0), encoder.decode(spikes))  # the weights are in the spikes
    with pytest.raises(ConfigError, match="5 steps"):
        encoder.decode(spikes[:5])


def test_firing_phase_fires_once_a_period_and_decodes_within_half_a_step():
    x = torch.linspace(0.001, 1, 200, dtype=F64)[None]
    encoder = FiringPhase(10)
    spikes = whole(encoder, x, 40)
    assert (spikes.unflatten(0, (4, 10)).sum(1) == 1).all()
    assert (encoder.decode(spikes) - x).abs().max() <= 0.05 + 1e-6
    silent = whole(encoder, torch.zeros(1, 3, dtype=F64), 40)
    assert silent.sum() == 0 and encoder.decode(silent).tolist() == [[0, 0, 0]]


def test_a_burst_has_more_and_closer_spikes_the_stronger_the_input():
    x = torch.tensor([[0.0, 0.1, 0.5, 1.0]], dtype=F64)
    spikes = whole(Burst(5, 2, 10), x, 40)[:, 0]
    assert spikes.sum(0).tolist() == [0, 1, 3, 5]
    assert spikes[:, 3].nonzero()[:, 0].tolist() == [0, 2, 4, 6, 8]
    assert spikes[:, 2].nonzero()[:, 0].tolist() == [0, 6, 12]


def test_a_burst_decodes_within_its_resolution():
    x = torch.linspace(0.21, 1, 100, dtype=F64)[None]
    encoder = Burst(5, 2, 18)
    assert (encoder.decode(whole(encoder, x, 100)) - x).abs().max() <= 1 / 16 + 1e-9
    weak = torch.tensor([[0.15, 0.0]], dtype=F64)
    assert encoder.decode(whole(encoder, weak, 100)).tolist() == [[0.1, 0.0]]


def test_burst_weights_double_within_a_burst_and_carry_the_value():
    out = whole(BurstWeights(), torch.tensor([[1.0]], dtype=F64), 4)[:, 0, 0]
    assert out.tolist() == [0.125, 0.25, 0.5, 1.0]
    x = torch.linspace(0, 1, 50, dtype=F64)[None]
    encoder = BurstWeights()
    spikes = whole(encoder, x, 400)
    assert 0.1 < (spikes != 0).double().mean() < 0.95
    assert (encoder.decode(spikes) - x).abs().max() < 0.02


def test_gaussian_fields_stand_symmetric_about_the_range():
    encoder = Population(m=7, beta=1.5)
    mu = torch.tensor(encoder.centres, dtype=F64)
    assert torch.allclose(mu + mu.flip(0), torch.ones(7, dtype=F64))
    assert mu[0].item() == pytest.approx(-0.5 / 5) and mu.diff().tolist() == pytest.approx([0.2] * 6)
    a = encoder.activity(mu[None, 1:-1])  # values at the centres
    assert torch.allclose(a.view(5, 7)[range(5), range(1, 6)], torch.ones(5, dtype=F64))
    assert a.view(5, 7)[2, 2].item() == pytest.approx(math.exp(-0.5 * (0.2 * 1.5 * 5) ** 2))


def test_gaussian_fields_fire_the_nearest_first_and_the_far_ones_never():
    encoder = Population(m=6)
    x = torch.rand(4, 2, 3, generator=torch.Generator().manual_seed(0), dtype=F64)
    spikes = whole(encoder, x, 11)
    assert spikes.shape == (11, 4, 12, 3) and encoder.cells == 6
    t = encoder.first(spikes).unflatten(1, (2, 6))
    near = (x[:, :, None] - torch.tensor(encoder.centres, dtype=F64).view(-1, 1)).abs().argmin(2)
    assert torch.equal(t.gather(2, near[:, :, None])[:, :, 0], t.min(2).values)
    assert t.isinf().any() and (t[~t.isinf()] < 9).all()  # from step 9 of 10 on: never


def test_a_population_may_spread_its_times_over_a_window():
    encoder = Population(m=5, beta=1.5, cut=0.6, window=7.0)
    x = torch.rand(3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    away = 1 - encoder.activity(x)
    times = encoder.times(x, 20)
    assert times.isinf().any() and times.isfinite().any() and (times[times.isfinite()] % 1 != 0).any()
    torch.testing.assert_close(times, torch.where(away < 0.6, 7 * away, math.inf))


def test_gaussian_fields_decode_near_the_value():
    encoder = Population(m=12, beta=1.0)
    x = torch.linspace(0.05, 0.95, 40, dtype=F64)[None]
    assert (encoder.decode(whole(encoder, x, 101)) - x).abs().max() < 0.02


def test_rates_and_latencies_decode():
    x = torch.linspace(0.25, 1, 30, dtype=F64)[None]
    for encoder in (Bernoulli(0.8), Poisson(2.0)):
        assert (encoder.decode(whole(encoder, x, 4000)) - x).abs().max() < 0.06
    assert (LinearLatency().decode(whole(LinearLatency(), x, 101)) - x).abs().max() <= 0.011
    log = LogLatency(20.0)
    found = log.decode(whole(log, x, 200))  # the strongest value of a step, up to rounding
    assert (found >= x - 1e-9).all() and torch.equal(whole(log, found - 1e-9, 200), whole(log, x, 200))
    with pytest.raises(ConfigError, match="Direct has no decoder"):
        Direct().decode(x)


def test_schemes_have_names():
    assert isinstance(encode.scheme("population"), Population)
    with pytest.raises(ConfigError, match=r"'latnecy'.*latency"):
        encode.scheme("latnecy")


@pytest.mark.parametrize(
    "make, name",
    [
        (lambda: WeightedPhase(0), "bits"),
        (lambda: FiringPhase(1), "period"),
        (lambda: Burst(0), "most"),
        (lambda: Burst(t_max=1), "t_max"),
        (lambda: BurstWeights(-1.0), "v_th"),
        (lambda: BurstWeights(beta=0.5), "beta"),
        (lambda: Population(2), "m"),
        (lambda: Population(cut=0.0), "cut"),
    ],
)
def test_settings_out_of_range_are_named(make, name):
    with pytest.raises(ConfigError, match=rf"{name} is"):
        make()
