import pytest
import torch
from torch.nn import functional

from spikewright.data import Augment
from spikewright.errors import ConfigError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def by_loop(x, crop, flip, source):
    shift = (
        torch.randint(0, 2 * crop + 1, (2, len(x), 1), generator=source) if crop else torch.zeros(2, len(x), 1).long()
    )
    mirrored = torch.rand((len(x), 1), generator=source) < 0.5 if flip else torch.zeros(len(x), 1).bool()
    out = torch.empty_like(x)
    for b in range(len(x)):
        wide = functional.pad(x[b], (crop,) * 4)
        top, left = int(shift[0, b]), int(shift[1, b])
        piece = wide[..., top : top + x.shape[-2], left : left + x.shape[-1]]
        out[b] = piece.flip(-1) if mirrored[b] else piece
    return out


@pytest.mark.parametrize("shape", [(50, 3, 8, 6), (50, 4, 2, 5, 7), (1, 1, 1, 1)])
@pytest.mark.parametrize("crop, flip", [(0, True), (2, False), (4, True), (9, True)])
def test_against_a_loop(shape, crop, flip):
    x = torch.rand(shape, generator=generator(9))
    before = x.clone()
    found = Augment(crop, flip)(x, generator(1))
    assert torch.equal(found, by_loop(x, crop, flip, generator(1)))
    assert torch.equal(x, before) and found.data_ptr() != x.data_ptr()
    if len(x) > 1:
        moved = (found != x).flatten(1).any(1).float().mean()
        assert 0.3 < moved <= 1 and (crop > 2 or moved < 1)


@pytest.mark.parametrize("shape", [(40, 3, 8, 6), (40, 4, 3, 5, 7)])
@pytest.mark.parametrize("side, fill", [(1, ()), (4, (0.5, 2.0, 3.0)), (5, ()), (30, ())])
def test_cutout_against_a_loop(shape, side, fill):
    x = torch.rand(shape, generator=generator(9)) + 1
    found, source = Augment(cutout=side, fill=fill)(x, generator(1)), generator(1)
    tops, lefts = (torch.randint(0, size, (len(x), 1), generator=source) - side // 2 for size in shape[-2:])
    wanted = x.clone()
    for b in range(len(x)):
        top, left = int(tops[b]), int(lefts[b])
        for k, value in enumerate(fill or (0.0,) * 3):
            wanted[b, ..., k, max(top, 0) : top + side, max(left, 0) : left + side] = value
    assert torch.equal(found, wanted) and (found != x).flatten(1).any(1).all() and x.min() >= 1
    again = Augment(2, True, side, fill)(x, generator(1))
    assert torch.equal(again, Augment(cutout=side, fill=fill)(*moved_first(x)))


def moved_first(x):
    source = generator(1)
    return Augment(2, True)(x, source), source


def test_frames_of_a_sample_move_together():
    frame = torch.rand(20, 1, 2, 6, 6)
    found = Augment(3, True)(frame.expand(-1, 5, -1, -1, -1), generator())
    assert all(torch.equal(found[:, 0], found[:, k]) for k in range(5))
    assert (
        len({tuple(f.flatten().tolist()) for f in Augment(3, True)(frame[:1].expand(20, -1, -1, -1, -1), generator())})
        > 5
    )


def test_the_generator_decides_and_nothing_else():
    x, state = torch.rand(8, 1, 5, 5), torch.random.get_rng_state()
    assert torch.equal(Augment(2, True)(x, generator(3)), Augment(2, True)(x, generator(3)))
    assert not torch.equal(Augment(2, True)(x, generator(3)), Augment(2, True)(x, generator(4)))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert Augment()(x, generator()) is x
    assert Augment(2, True)(x[:0], generator()).shape == (0, 1, 5, 5)
    uneven = x.transpose(2, 3)
    assert torch.equal(Augment(1, True)(uneven, generator()), Augment(1, True)(uneven.contiguous(), generator()))


@pytest.mark.parametrize(
    "options", [{"crop": -1}, {"crop": 1.5}, {"crop": True}, {"flip": 1}, {"flip": None}, {"cutout": -1}]
)
def test_options(refused, options):
    refused(Augment, **options, error=ConfigError)


def test_cutout_needs_a_value_for_every_channel(refused):
    text = refused(Augment(cutout=2, fill=(0.5,)), torch.zeros(2, 3, 5, 5), generator(), error=ConfigError)
    assert "3 channels" in text


@pytest.mark.parametrize("shape", [(), (3,), (4, 5), (2, 5, 5), (1, 2, 3, 1, 5, 5)])
def test_shapes(refused, shape):
    assert "shape" in refused(Augment(1), torch.zeros(shape), generator(), error=ConfigError)
