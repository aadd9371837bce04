"""Encoders: counts of the random ones against their distributions, spike times of the others against their formulas."""

import math

import numpy as np
import pytest
import torch
from cases import F32, F64, assert_active
from scipy import stats

from spikewright.encode import Bernoulli, Direct, Frames, LinearLatency, LogLatency, Poisson
from spikewright.errors import DataError

SEEDS = range(20)
LEVELS = torch.linspace(0.02, 0.98, 25)  # the probabilities or means looked at
STEPS, REPEATS = 40, 40


def drawn(encoder, seed):
    """[STEPS, REPEATS, 25] draws: samples differ in a pixel of their own, so each has noise of its own."""
    mark = torch.linspace(0, 1, REPEATS)[:, None]
    x = torch.cat([LEVELS.expand(REPEATS, -1), mark], 1)
    return encoder.run(x, 0, STEPS, STEPS, seed)[..., :-1]


def least_p(statistic_of, degrees):
    return min(stats.chi2.sf(statistic_of(seed), degrees) for seed in SEEDS)


@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_bernoulli_counts_are_binomial(gain):
    n, p = STEPS * REPEATS, (gain * LEVELS).double()

    def statistic(seed):
        spikes = drawn(Bernoulli(gain), seed)
        assert_active(spikes)
        assert set(spikes.unique().tolist()) == {0.0, 1.0}
        return ((spikes.double().sum((0, 1)) - n * p) ** 2 / (n * p * (1 - p))).sum().item()

    assert least_p(statistic, len(p)) >= 1e-4


def test_bernoulli_stays_within_four_sigma_for_one_sample():
    p = 0.3
    spikes = Bernoulli().run(torch.full((1, 2000), p), 0, 100, 100, 3)
    assert (spikes.mean(0) - p).abs().max() < 4.8 * math.sqrt(p * (1 - p) / 100)
    assert abs(spikes.mean().item() - p) < 4 * math.sqrt(p * (1 - p) / 200_000)
    assert spikes.sum(0).var().item() == pytest.approx(p * (1 - p) * 100, rel=0.15)


def test_bernoulli_ends_of_the_range_are_certain():
    x = torch.tensor([[0.0, 1.0, 0.5]])
    spikes = Bernoulli().run(x, 0, 500, 500)
    assert spikes[:, 0, 0].sum() == 0 and spikes[:, 0, 1].sum() == 500
    assert_active(spikes[..., 2])


def test_signed_bernoulli_fires_the_sign():
    x = torch.tensor([[-1.0, -0.5, 0.0, 0.5, 1.0]])
    spikes = Bernoulli(signed=True).run(x, 0, 400, 400)[:, 0]
    assert set(spikes[:, 1].unique().tolist()) == {-1.0, 0.0}
    assert spikes.mean(0).tolist() == pytest.approx([-1, -0.5, 0, 0.5, 1], abs=0.1)
    with pytest.raises(DataError):
        Bernoulli().run(x, 0, 4, 4)


@pytest.mark.parametrize("rate", [1.0, 4.0, 16.0])
def test_poisson_counts_have_mean_and_variance_of_a_poisson_variable(rate):
    n, mean = STEPS * REPEATS, (rate * LEVELS).double()

    def statistic(seed):
        counts = drawn(Poisson(rate), seed).double()
        assert (counts != 0).any() and (counts == 0).any()
        assert torch.equal(counts, counts.round()) and counts.min() == 0
        return ((counts.sum((0, 1)) - n * mean) ** 2 / (n * mean)).sum().item()

    assert least_p(statistic, len(mean)) >= 1e-4
    counts = torch.cat([drawn(Poisson(rate), seed) for seed in range(5)], 1).double()
    fano = counts.var((0, 1)) / counts.mean((0, 1))
    assert (fano - 1).abs().max() < 6 * math.sqrt(2 / (5 * n)) + 6 / math.sqrt(5 * n * mean.min().item())
    assert fano.mean().item() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("mean", [0.1, 0.7, 3.0, 12.0])
def test_poisson_counts_follow_the_probabilities(mean):
    def p_value(seed):
        x = torch.cat([torch.full((60, 60), mean / 16), torch.linspace(0, 1, 60)[:, None]], 1)
        counts = Poisson(16.0).run(x, 0, 3, 3, seed)[..., :-1].flatten().numpy().astype(int)
        k = np.arange(0, 60)
        expected = stats.poisson.pmf(k, mean) * counts.size
        found = np.bincount(counts, minlength=60)[:60]
        big = expected >= 8
        f, e = np.append(found[big], found[~big].sum()), np.append(expected[big], expected[~big].sum())
        if e[-1] < 1:
            f, e = f[:-1], e[:-1]
        return stats.chi2.sf(((f - e) ** 2 / e).sum(), len(e) - 1)

    assert min(p_value(seed) for seed in SEEDS) >= 1e-4


def correlation(a, b):
    a, b = a.double().flatten(), b.double().flatten()
    return (((a - a.mean()) * (b - b.mean())).mean() / (a.std() * b.std())).abs().item() * math.sqrt(len(a))


@pytest.mark.parametrize("encoder", [Bernoulli(), Poisson(2.0)], ids=repr)
def test_pixels_steps_samples_and_seeds_are_independent(encoder):
    """Correlations in units of their standard error; a few thousand numbers each."""
    g = torch.Generator().manual_seed(0)
    x = torch.full((30, 1, 12, 12), 0.4)
    x[:, 0, 0, 0] = torch.rand(30, generator=g)
    out = encoder.run(x, 0, 20, 20, 1)[..., 1:, :]
    assert (out != 0).any() and (out == 0).any()
    lags = {
        "steps": (out[1:], out[:-1]),
        "steps two apart": (out[2:], out[:-2]),
        "columns": (out[..., 1:], out[..., :-1]),
        "rows": (out[..., 1:, :], out[..., :-1, :]),
        "samples": (out[:, 1:], out[:, :-1]),
        "seeds": (out, encoder.run(x, 0, 20, 20, 2)[..., 1:, :]),
        "distant seeds": (out, encoder.run(x, 0, 20, 20, 1 + 2**32)[..., 1:, :]),
    }
    for name, (a, b) in lags.items():
        assert correlation(a, b) < 4.5, name


@pytest.mark.parametrize("encoder", [Bernoulli(), Poisson(2.0)], ids=repr)
def test_no_two_samples_share_their_noise_and_equal_ones_do(encoder):
    x = torch.full((50, 200), 0.5)
    x[:, 0] = torch.linspace(0, 1, 50)
    out = encoder.run(x, 0, 6, 6)[..., 1:].transpose(0, 1).flatten(1)
    assert len({tuple(row) for row in out.tolist()}) == 50
    same = encoder.run(x[:1].expand(4, -1), 0, 6, 6)
    assert torch.equal(same, same[:, :1].expand(-1, 4, -1))
    assert (same != 0).any() and (same == 0).any()


@pytest.mark.parametrize("encoder", [Bernoulli(), Poisson(2.0)], ids=repr)
def test_the_values_precision_does_not_change_the_noise(encoder):
    x = torch.rand(5, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(encoder.run(x, 0, 9, 9, 4).double(), encoder.run(x.double(), 0, 9, 9, 4))


def test_direct_is_the_value_at_every_step():
    x = torch.tensor([[0.5, -3.0]])
    assert torch.equal(Direct().run(x, 2, 5, 9), torch.stack([x] * 3))
    assert not Direct.spikes


def test_linear_latency_is_the_floor_of_its_formula():
    for steps in (1, 2, 5, 16, 100):
        x = torch.rand(4, 300, generator=torch.Generator().manual_seed(steps), dtype=F64)
        wanted = torch.floor((1 - x) * (steps - 1))
        spikes = LinearLatency().run(x, 0, steps, steps)
        assert torch.equal(spikes.sum(0), torch.ones_like(x))
        assert torch.equal(spikes.argmax(0), wanted.long())
    x = torch.tensor([[1.0, 0.75, 0.5, 0.25, 0.0]])
    assert LinearLatency(silent_zero=False).times(x, 5).tolist() == [[0, 1, 2, 3, 4]]
    assert LinearLatency().times(x, 5).tolist() == [[0, 1, 2, 3, math.inf]]
    assert LinearLatency().run(x, 0, 5, 5)[..., -1].sum() == 0


@pytest.mark.parametrize("dtype", [F32, F64], ids=str)
@pytest.mark.parametrize(
    "encoder", [LinearLatency(), LinearLatency(silent_zero=False), LogLatency(), LogLatency(40.0, 0.05)]
)
@pytest.mark.parametrize("steps", [1, 2, 7, 50])
def test_the_stronger_the_earlier_and_never_twice(encoder, dtype, steps):
    x = torch.linspace(0, 1, 1001, dtype=dtype)[None]
    times = encoder.times(x, steps)[0]
    assert (times[1:] <= times[:-1]).all()  # infinity for none
    fired = times[times < math.inf]
    assert len(fired) > 0 and fired.min() == 0 and fired.max() <= steps - 1
    assert torch.equal(fired, fired.floor())
    counts = encoder.run(x, 0, steps, steps).sum(0)[0]
    assert torch.equal(counts == 1, times < math.inf) and counts.max() == 1


@pytest.mark.parametrize("tau, theta", [(5.0, 0.2), (20.0, 0.1), (3.0, 0.5)])
def test_log_latency_is_the_first_spike_of_a_charging_membrane(tau, theta):
    """An LIF with RI = x, threshold theta, simulated on a grid of a thousandth of a step."""
    fine = 1000
    x = torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=F64) * 0.9 + 0.1
    v, time, decay = torch.zeros_like(x), torch.full_like(x, math.inf), math.exp(-1 / (tau * fine))
    for n in range(1, int(40 * fine)):
        v = x + (v - x) * decay
        time = torch.where((v >= theta) & time.isinf(), n / fine, time)
    first = tau * math.log(1 / (1 - theta))
    exact = time - first
    steps = 30
    found = LogLatency(tau, theta).times(x[None], steps)[0]
    clear = (exact - exact.round()).abs() > 2 / fine  # away from the edges between two steps
    clear &= (exact < steps - 0.01) | exact.isinf()
    assert clear.sum() > 100
    silent = x <= theta
    assert found[silent].isinf().all()
    late = clear & ~silent
    assert torch.equal(found[late], torch.where(exact < steps, exact.floor(), math.inf)[late])
    assert (found[late] < math.inf).any()


def test_log_latency_values():
    """t = 5 ln(x / (x - 0.2)), from the time of x = 1, 1.1157."""
    t = LogLatency(5.0, 0.2).times(torch.tensor([[1.0, 0.5, 0.3, 0.21, 0.2, 0.1, 0.0]], dtype=F64), 20)
    wanted = [0, math.floor(5 * math.log(5 / 3) - 1.1157), math.floor(5 * math.log(3) - 1.1157), 14]
    assert t[0, :4].tolist() == wanted
    assert t[0, 4:].isinf().all()
    assert LogLatency(5.0, 0.2).times(torch.tensor([[0.21]], dtype=F64), 14).isinf().all()


def test_frames_hands_on_each_frame_in_its_turn():
    x = torch.rand(3, 6, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    out = Frames().run(x, 1, 5, 6)
    assert torch.equal(out, torch.stack([x[:, t] for t in range(1, 5)]))
    assert torch.equal(Frames().stream(x[:, :2], 3, 5, 6), x[:, :2].transpose(0, 1))
