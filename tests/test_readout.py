"""Readouts against their definitions written out with plain loops."""

import math

import cases
import pytest
import torch
from cases import F64, assert_active

from spikewright import readout
from spikewright.errors import ConfigError
from spikewright.measure.trains import van_rossum
from spikewright.neurons import Euler, Exact, Factor
from spikewright.readout import (
    FirstSpike,
    FirstSpikeZ,
    LastMembrane,
    MaxMembrane,
    MeanMembrane,
    NearestTime,
    NearestTrain,
    Rate,
    Threshold,
    Vote,
)

STEPS, BATCH, OUTPUTS = 15, 3, 6


def outputs(spikes=True):
    x = torch.rand(STEPS, BATCH, OUTPUTS, generator=torch.Generator().manual_seed(0), dtype=F64)
    x = (x < 0.3).double() if spikes else x - 0.4
    if spikes:
        assert_active(x)
    return x


def membrane(train, leak):
    decay, gain = leak.coefficients()
    v, found = 0.0, []
    for i in train:
        v = decay * v + gain * i
        found.append(v)
    return found


def brute(read, train):
    """Scores after every step of one output's train, from the readout's own definition."""
    if isinstance(read, Rate):
        return [sum(train[: t + 1]) / (t + 1) for t in range(len(train))]
    v = membrane(train, read.leak)
    if isinstance(read, MeanMembrane):
        return [sum(v[: t + 1]) / (t + 1) for t in range(len(v))]
    if isinstance(read, MaxMembrane):
        return [max(v[: t + 1]) for t in range(len(v))]
    return v


PLAIN = [
    Rate(),
    *(
        kind(leak)
        for kind in (LastMembrane, MeanMembrane, MaxMembrane)
        for leak in (Factor(1.0), Euler(3.0), Exact(2.0))
    ),
]


@pytest.mark.parametrize("spikes", [True, False], ids=["spikes", "analog"])
@pytest.mark.parametrize("read", PLAIN, ids=repr)
def test_scores_are_the_definition(read, spikes):
    out = outputs(spikes)
    scores, _ = read.run(out)
    for b in range(BATCH):
        for c in range(OUTPUTS):
            assert scores[:, b, c].tolist() == pytest.approx(brute(read, out[:, b, c].tolist()), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 6])
@pytest.mark.parametrize("then", PLAIN[::3], ids=repr)
def test_a_vote_is_the_mean_of_neighbouring_outputs(size, then):
    out = outputs()
    scores, _ = Vote(size, then).run(out)
    assert scores.shape == (STEPS, BATCH, OUTPUTS // size)
    for b in range(BATCH):
        for c in range(OUTPUTS // size):
            group = out[:, b, c * size : (c + 1) * size].mean(-1)
            assert scores[:, b, c].tolist() == pytest.approx(brute(then, group.tolist()), rel=1e-12)


@pytest.mark.parametrize("case", cases.readout_cases(), ids=repr)
def test_stopping_early_gives_the_scores_there(case):
    read, out = case.make(), outputs()
    whole, _ = read.run(out)
    for t in range(1, STEPS + 1):
        torch.testing.assert_close(read.run(out[:t])[0], whole[:t], rtol=1e-12, atol=1e-12)


def test_the_table_covers_every_readout():
    others = {Vote, NearestTrain, Threshold, FirstSpike, FirstSpikeZ, NearestTime}  # tested on their own
    others |= {readout.Recent, readout.NHot, readout.SpikingSoftmax, readout.Leading}
    assert {type(r) for r in PLAIN} | others == set(cases.listed(cases.readout.Readout))


@pytest.mark.parametrize("read", [FirstSpike(2.0), FirstSpikeZ(4.0), NearestTime((3.0, 9.0))], ids=repr)
def test_the_first_spikes_decide_in_a_raster_and_in_times(read):
    spikes = outputs()
    times = torch.full((BATCH, OUTPUTS), math.inf, dtype=F64)
    for t in range(STEPS):
        times = torch.where((spikes[t] != 0) & times.isinf(), float(t), times)
    scores, _ = read.run(spikes)
    assert torch.equal(scores, read.at(times, 0, STEPS))
    for t in range(STEPS):
        for b in range(BATCH):
            seen = [x if x <= t else t + 1.0 for x in times[b].tolist()]
            if isinstance(read, NearestTime):
                wanted = [-sum((x - c) ** 2 for x in seen) for c in read.times]
            elif isinstance(read, FirstSpikeZ):
                wanted = [-math.exp(x / 4) for x in seen]
            else:
                wanted = [-x / 2 for x in seen]
            assert scores[t, b].tolist() == pytest.approx(wanted)


def test_before_the_first_spike_all_outputs_are_equal():
    scores = FirstSpike().at(torch.tensor([[5.5, math.inf]]), 0, 8)
    assert (scores[:5, 0, 0] == scores[:5, 0, 1]).all() and (scores[5:, 0, 0] > scores[5:, 0, 1]).all()


def test_after_the_last_step_late_times_may_decide():
    times = torch.tensor([[8.5, 8.2, 9.0], [8.5, 3.0, 8.1]])  # the first sample silent for all of 8 steps
    plain, late = FirstSpike().at(times, 0, 8, 8), FirstSpike(late=True).at(times, 0, 8, 8)
    assert torch.equal(plain[:-1], late[:-1]) and (plain[-1, 0] == plain[-1, 0, 0]).all()
    assert late[-1].argmax(-1).tolist() == [1, 1] and late[-1, 0, 1] < -8
    assert torch.equal(FirstSpike(late=True).at(times, 0, 8, 20), FirstSpike().at(times, 0, 8, 20))  # not yet the end


def test_membranes_may_stay_below_zero():
    scores, _ = MaxMembrane().run(-torch.ones(3, 1, 2))
    assert (scores == -1).all()


def test_a_vote_says_which_numbers_do_not_fit():
    with pytest.raises(ConfigError, match=r"6 outputs.*group size 4"):
        Vote(4).run(outputs())


def test_membrane_readouts_want_a_body_without_neuron_at_its_end():
    assert Rate().spikes and Vote(2).spikes
    assert not LastMembrane().spikes and not MaxMembrane().spikes and not MeanMembrane().spikes


def test_recent_is_the_mean_of_the_last_outputs():
    out = torch.rand(9, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    scores, _ = readout.Recent(4).run(out)
    for t in range(9):
        torch.testing.assert_close(scores[t], out[max(0, t - 3) : t + 1].mean(0))
    torch.testing.assert_close(readout.Recent(1).run(out)[0], out)


def test_n_hot_words_are_matched_by_agreement():
    read = readout.NHot(4, disjoint=True, seed=3)
    words = read.words(14)
    assert words.shape == (4, 14) and (words.sum(1) == 3).all() and words.sum(0).max() == 1
    scores, _ = read.run(words[None])
    assert scores[0].argmax(-1).tolist() == [0, 1, 2, 3]
    assert torch.equal(scores[0].diagonal(), torch.full((4,), 14.0))  # agreements less disagreements
    assert torch.equal(scores[0][0, 1:], torch.full((3,), 14.0 - 2 * 6))
    overlapping = readout.NHot(10).words(40)
    assert (overlapping.sum(1) == 4).all() and overlapping.sum(0).max() > 1
    assert not torch.equal(overlapping, readout.NHot(10, seed=1).words(40))
    with pytest.raises(ConfigError, match="fewer"):
        readout.NHot(10).words(9)


def test_steady_outputs_are_judged_as_those_of_an_ann():
    out = torch.rand(5, 10, generator=torch.Generator().manual_seed(0))
    for read in (readout.Rate(), readout.Recent(3), readout.MeanMembrane(), readout.SpikingSoftmax()):
        assert torch.equal(read.steady(out).argmax(-1), out.argmax(-1)), read
    assert torch.equal(readout.NHot(5).steady(out), readout.NHot(5).run(out[None])[0][0])


def test_the_nearest_train_is_the_closed_form_of_the_distance_so_far():
    trains = (((2, 9), (), (4,), (5,), (), (1,)), ((0,), (7, 11), (), (3, 8), (6,), ()))
    out = outputs()
    scores, _ = NearestTrain(trains, tau=4.0).run(out)
    assert scores.shape == (STEPS, BATCH, 2)
    for t in range(STEPS):
        for b in range(BATCH):
            for c, train in enumerate(trains):
                wanted = sum(
                    van_rossum(out[: t + 1, b, k].nonzero()[:, 0], [s for s in times if s <= t], 4.0)
                    for k, times in enumerate(train)
                )
                assert -scores[t, b, c].item() == pytest.approx(wanted, rel=1e-12, abs=1e-12)


def test_a_train_out_of_reach_is_none_of_them():
    out = torch.zeros(20, 3, 1, dtype=F64)
    out[[4, 12], 0] = 1  # the train itself
    out[[4, 13], 1] = 1  # one spike a step late
    out[4, 2] = 1  # one spike missing
    scores, _ = NearestTrain((((4, 12),),), tau=10.0, reach=0.49).run(out)
    assert scores[-1].argmax(-1).tolist() == [0, 0, 1]
    assert scores[-1, 0, 0] == 0 and scores[-1, 2, 0].item() == pytest.approx(-0.5)


def test_a_threshold_is_crossed_once_and_for_all():
    out = torch.tensor([0.2, 1.3, 0.4])[:, None, None].repeat(1, 2, 1)
    out[:, 1] -= 0.5
    scores, _ = Threshold(1.0).run(out)
    assert scores.argmax(-1).tolist() == [[0, 0], [1, 0], [1, 0]]


def test_a_nearest_train_says_which_numbers_do_not_fit():
    with pytest.raises(ConfigError, match=r"6 outputs.*trains 2"):
        NearestTrain((((1,), (2,)),)).run(outputs())
