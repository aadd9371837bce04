"""Image fronts against plain convolutions and the sheet's numbers; rank order against sorting by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import conv2d

from spikewright.encode import RankOrder
from spikewright.errors import ConfigError, DataError
from spikewright.fronts import DoG, LoG

F64 = torch.float64
IMPULSE = torch.zeros(1, 1, 21, 21, dtype=F64)
IMPULSE[0, 0, 10, 10] = 1


def images(batch=3, size=20, channels=1):
    return torch.rand(batch, channels, size, size, generator=torch.Generator().manual_seed(0), dtype=F64)


def square(sigma, radius):
    r = torch.arange(-radius, radius + 1, dtype=F64)
    return torch.exp(-(r[:, None] ** 2 + r**2) / (2 * sigma**2)) / (2 * math.pi * sigma**2)


def test_a_log_kernel_is_the_sheets():
    rows = {0.471404521: [-0.00398, -0.10555, 0.59913, -0.10555, -0.00398], 1.099943882: [-0.02045, 0.05918, 0.19431]}
    both = LoG(threshold=0.0)(IMPULSE)[0]
    signed = both[:3] - both[3:]
    assert signed[0, 10, 8:13].tolist() == pytest.approx(rows[0.471404521], abs=2e-5)
    assert signed[1, 10, 8:11].tolist() == pytest.approx(rows[1.099943882], abs=2e-5)
    assert signed[2, 10, 7:11].tolist() == pytest.approx([-0.00937, 0.00517, 0.03189, 0.04675], abs=2e-5)
    assert signed.sum((1, 2)).abs().max() < 1e-12


def test_log_is_the_rectified_difference_of_two_convolutions():
    x, found = images(), LoG(threshold=0.02)(images())
    for i, sigma in enumerate(LoG().sigmas):
        narrow, wide = (k / k.sum() for k in (square(sigma / 2**0.5, 3), square(sigma * 2**0.5, 3)))
        d = conv2d(x, (narrow - wide)[None, None], padding=3)[:, 0]
        for channel, sign in ((i, 1), (i + 3, -1)):
            expected = torch.where(sign * d > 0.02, sign * d, 0)
            torch.testing.assert_close(found[:, channel], expected, rtol=0, atol=1e-12)
            assert 0.02 < (expected > 0).double().mean() < 0.98


def test_a_dog_kernel_is_the_sheets():
    kernel = DoG(threshold=-0.0, surround=0)
    found = DoG(((7, 1.0, 2.0),), 0.0, 0)(IMPULSE)[0, 0, 10, 7:14].tolist()
    row = [-0.1217, -0.0482, 0.5020, 1.0, 0.5020, -0.0482, -0.1217]
    assert found == pytest.approx([max(v, 0) for v in row], abs=5e-5)
    assert kernel.filters[1] == (7, 2.0, 1.0)


def test_dog_is_a_convolution_a_threshold_and_a_division_by_the_surroundings():
    front, x = DoG(((3, 1.0, 0.5), (7, 1.0, 2.0), (13, 4.0, 2.0)), 0.1, 4), images()
    for channel, (size, a, b) in enumerate(front.filters):
        k = square(a, size // 2) - square(b, size // 2)
        k = k - k.mean()
        d = conv2d(x, (k / k.max())[None, None], padding=size // 2)
        d = torch.where(d < 0.1, 0, d)
        mean = conv2d(d, torch.ones(1, 1, 9, 9, dtype=F64) / 81, padding=4)
        torch.testing.assert_close(front(x)[:, channel : channel + 1], d / (mean + 1e-12), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("front", [LoG(), DoG()], ids=["log", "dog"])
def test_a_front_gives_the_same_bits_alone_and_mirrored(front):
    x = images(9).float()
    whole = front(x)
    assert torch.equal(whole, torch.cat([front(x[i : i + 1]) for i in range(9)]))
    assert torch.equal(front(x.flip(3)), whole.flip(3)) and torch.equal(front(x.flip(2)), whole.flip(2))
    assert whole.min() == 0 and whole.max() > 0 and not front(torch.full((1, 1, 9, 9), 0.0)).any()


def test_colours_are_averaged():
    assert torch.equal(LoG()(images(channels=3)), LoG()(images(channels=3).mean(1, keepdim=True)))
    with pytest.raises(DataError, match="images"):
        LoG()(torch.rand(2, 5))


@pytest.mark.parametrize("even", [False, True])
def test_ranks_are_those_of_a_sort_by_hand(even):
    x = images(4, 5, 2)
    x[0][x[0] < 0.3] = 0
    x[1] = (x[1] * 4).floor() / 4  # ties
    x[2] = 0
    x[3].view(-1)[3:] = 0  # fewer values than steps
    found = RankOrder(even=even).times(x, 6)
    for values, times in zip(x.flatten(1), found.flatten(1), strict=True):
        order = sorted((i for i in range(50) if values[i] > 0), key=lambda i: (-values[i], i))
        expected = [math.inf] * 50
        for rank, i in enumerate(order):
            step = rank // max(1, len(order) // 6) if even else rank * 6 // len(order)
            expected[i] = step if step < 6 else math.inf
        assert times.tolist() == expected
    counts = torch.stack([(found[1] == t).sum() for t in range(6)])
    assert counts.max() - counts.min() <= (0 if even else 1) and counts.min() > 0


def test_the_strongest_fire_first_and_once():
    spikes = RankOrder(LoG()).run(images(), 0, 15, 15)
    assert spikes.shape == (15, 3, 6, 20, 20) and spikes.sum(0).max() == 1
    strength = (LoG()(images()) * spikes).flatten(2)
    late = [strength[t][spikes[t].flatten(1) > 0].min() for t in range(15)]
    assert spikes.sum() == (LoG()(images()) > 0).sum() and late[0] > late[-1] > 0


@pytest.mark.parametrize("make", [lambda: LoG(()), lambda: LoG(ratio=1.0), lambda: DoG(((4, 1, 2),)), lambda: DoG(())])
def test_a_front_out_of_range_is_refused(make):
    with pytest.raises(ConfigError):
        make()
