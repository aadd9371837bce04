"""Work in shares: all of it once, in order, whatever the number of threads; also in a forked process."""

from __future__ import annotations

import os

import pytest
import torch

from spikewright.shares import in_shares, shares
from spikewright.times.threads import ALONE, spread


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("size", [0, 1, 2, 7, 100])
@pytest.mark.parametrize("least", [0, 1, 3, 1000])
def test_shares_cover_all(threads, size, least):
    found = shares(size, least)
    assert [i for share in found for i in range(*share)] == list(range(size)) and 1 <= len(found) <= threads
    assert len(found) == 1 or min(b - a for a, b in found) >= least
    assert in_shares(lambda a, b: (a, b), size, least) == found


@pytest.mark.parametrize("tile", [0, 1, 4])
@pytest.mark.parametrize("work", [0, ALONE + 1])
def test_tiles_cover_all(threads, tile, work):
    seen = []
    spread(lambda part, a, b, mark: seen.append((part, a, b, mark)), 10, work, "m", tile=tile)
    assert sorted(i for _, a, b, _ in seen for i in range(a, b)) == list(range(10))
    assert len({part for part, *_ in seen}) == (threads if work else 1) and {mark for *_, mark in seen} == {"m"}
    assert all(b - a <= (tile or 10) for _, a, b, _ in seen)


def test_an_error_reaches_the_caller(threads):
    with pytest.raises(ZeroDivisionError):
        in_shares(lambda a, b: 1 // (9 - b), 9, 1)


def test_a_forked_process_has_threads_of_its_own():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        in_shares(lambda a, b: b - a, 8, 1)
        if (child := os.fork()) == 0:
            os._exit(0 if in_shares(lambda a, b: b - a, 8, 1) == [4, 4] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        torch.set_num_threads(before)
