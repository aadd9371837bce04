"""Numbers for people."""

import math

import pytest

from spikewright.report import format as f


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f.percent(0.9931), "99.31 %"),
        (f.percent(1), "100.00 %"),
        (f.percent(None), "-"),
        (f.percent(math.nan), "-"),
        (f.percent_of_paper(99.5), "99.50 %"),
        (f.count(12345, "SynOps"), "12.3 k SynOps"),
        (f.count(0, "SynOps"), "0 SynOps"),
        (f.count(999.6), "1 k"),
        (f.count(999_960), "1 M"),
        (f.count(0.25), "0.25"),
        (f.count(1.5e9), "1.5 G"),
        (f.count("many"), "-"),
        (f.energy(41), "41 nJ"),
        (f.energy(0.5), "500 pJ"),
        (f.energy(0), "0 nJ"),
        (f.energy(2300), "2.3 µJ"),
        (f.ratio(20, 80), "x 0.25"),
        (f.ratio(20, 0), "-"),
        (f.ratio(1, 1234), "x 0.00081"),
        (f.rate(1234.4), "1,234 images/s"),
        (f.rate(3.25), "3.25 images/s"),
        (f.duration(0.5), "0.5 s"),
        (f.duration(59.7), "1 min 00 s"),
        (f.duration(192), "3 min 12 s"),
        (f.duration(7500), "2 h 05 min"),
        (f.duration(192, short=True), "3.2 min"),
        (f.duration(3599, short=True), "1 h"),
        (f.memory(512), "512 MB"),
        (f.memory(1900), "1.9 GB"),
        (f.plain({"mnist": 99.42}), "mnist 99.42"),
        (f.plain((1, 28, 28)), "1x28x28"),
        (f.plain(["a", "b"]), "a, b"),
        (f.plain(True), "yes"),
        (f.plain(12345), "12,345"),
        (f.plain([]), "-"),
    ],
)
def test_numbers(text: str, expected: str) -> None:
    assert text == expected


def test_some_steps_of_a_curve() -> None:
    assert [t for t, _ in f.at_steps([0.1] * 5)] == [1, 2, 3, 4, 5]
    assert [t for t, _ in f.at_steps([0.1] * 20)] == [1, 2, 4, 8, 16, 20]
    assert f.at_steps(None) == [] and f.at_steps([None, 0.5]) == [(2, 0.5)]


def test_labels_tell_runs_apart() -> None:
    a = {"method": "stbp", "steps": 4}
    assert f.labels([a, {"method": "s4nn"}]) == ["stbp", "s4nn"]
    assert f.labels([a, a | {"steps": 10}, {"method": "s4nn"}]) == ["stbp, T = 4", "stbp, T = 10", "s4nn"]
    assert f.labels([a, a, {}]) == ["stbp", "stbp (2)", "run"]
    assert f.labels([{"method": "x", "seed": s, "dataset": "mnist"} for s in (0, 1)]) == ["x, seed 0", "x, seed 1"]
    three = f.labels([a | {"seed": 0}, a | {"seed": 0}, a | {"seed": 1}])
    assert three == ["stbp, seed 0", "stbp, seed 0 (2)", "stbp, seed 1"]
