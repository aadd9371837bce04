"""How far apart two spike trains are, and the outputs of a network from the trains asked of it.

A train is a sequence of spike times in ascending order; units are the caller's, the same throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from torch import Tensor

__all__ = ["Match", "compared", "correlation", "hits", "matched", "van_rossum", "victor_purpura"]

Train = Sequence[float] | np.ndarray


class Match(NamedTuple):
    """The cheapest way to turn one train into another."""

    cost: float
    pairs: list[tuple[int, int]]  # (index in the first, index in the second): moved
    removed: list[int]  # of the first
    added: list[int]  # of the second


def matched(train: Train, target: Train, move: Callable[[np.ndarray], np.ndarray]) -> Match:
    """Edit `train` into `target`: removing or adding a spike costs 1, moving it `move(dt)` (Victor & Purpura 1996).

    By dynamic programming; of equally cheap ways the one that moves. Both trains in ascending order.
    """
    a, b = np.asarray(train, float), np.asarray(target, float)
    moving = move(np.abs(a[:, None] - b[None]))
    best = np.zeros((len(a) + 1, len(b) + 1))
    best[:, 0], best[0] = np.arange(len(a) + 1), np.arange(len(b) + 1)
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            best[i, j] = min(best[i - 1, j - 1] + moving[i - 1, j - 1], best[i - 1, j] + 1, best[i, j - 1] + 1)
    pairs, removed, added, i, j = [], [], [], len(a), len(b)
    while i or j:
        if i and j and best[i, j] == best[i - 1, j - 1] + moving[i - 1, j - 1]:
            i, j = i - 1, j - 1
            pairs.append((i, j))
        elif i and best[i, j] == best[i - 1, j] + 1:
            i -= 1
            removed.append(i)
        else:
            j -= 1
            added.append(j)
    return Match(float(best[-1, -1]), pairs[::-1], removed[::-1], added[::-1])


def victor_purpura(a: Train, b: Train, q: float) -> float:
    """Victor and Purpura's distance: 1 to add or remove a spike, q a unit of time to move it."""
    return matched(a, b, lambda dt: q * dt).cost


def van_rossum(a: Train, b: Train, tau: float) -> float:
    """(1 / tau) times the integral of (f - g)^2, f and g the trains filtered by exp(-t / tau): a lone spike costs 1/2.

    In closed form: 1/2 sum over all pairs of spikes of +-exp(-|dt| / tau), - for pairs across the trains.
    """
    times = np.concatenate([np.asarray(a, float), np.asarray(b, float)])
    sign = np.repeat([1.0, -1.0], [len(a), len(b)])
    return max(0.0, float(sign @ np.exp(-np.abs(times[:, None] - times) / tau) @ sign) / 2)


def correlation(a: Train, b: Train, sigma: float) -> float:
    """C: the normalised inner product of the trains filtered by Gaussians of width sigma (Schreiber et al. 2003).

    1 for equal trains, near 0 for trains that have nothing to do with each other; of two empty trains 1, of one 0.
    """
    if not len(a) or not len(b):
        return float(len(a) == len(b))

    def product(x: Train, y: Train) -> float:
        apart = np.asarray(x, float)[:, None] - np.asarray(y, float)
        return float(np.exp(-((apart / (2 * sigma)) ** 2)).sum())

    return product(a, b) / math.sqrt(product(a, a) * product(b, b))


def hits(train: Train, target: Train, tolerance: float) -> int:
    """Spikes of `target` that have a spike of `train` of their own within the tolerance: as many as can be paired."""
    found, i = 0, 0
    for wanted in target:
        while i < len(train) and train[i] < wanted - tolerance:
            i += 1
        if i < len(train) and train[i] <= wanted + tolerance:
            found, i = found + 1, i + 1
    return found


def compared(out: Tensor, desired: Tensor, tau: float) -> dict[str, float]:
    """Output spikes from desired ones, both [T, B, K], summed over the neurons of a sample, mean over samples.

    Args:
        tau: time constant of van Rossum's distance, steps. The others' constants are the usual ones beside it: Victor
            and Purpura's q = 1 / tau; Gaussians and tolerance of tau / 5 (2 ms at 10).

    Returns: van_rossum, victor_purpura; correlation, the mean over neurons of which spikes are desired;
        target_spikes_hit, a fraction; extra_spikes, those that hit no target.
    """
    samples, neurons = out.shape[1:]
    rossum = purpura = c = found = asked = fired = tuned = 0.0
    for b in range(samples):
        for k in range(neurons):
            train, target = (x[:, b, k].nonzero()[:, 0].numpy(force=True) for x in (out, desired))
            if not len(train) and not len(target):
                continue
            rossum += van_rossum(train, target, tau)
            purpura += victor_purpura(train, target, 1 / tau)
            found, asked, fired = found + hits(train, target, tau / 5), asked + len(target), fired + len(train)
            if len(target):
                c, tuned = c + correlation(train, target, tau / 5), tuned + 1
    return {
        "van_rossum": rossum / samples,
        "victor_purpura": purpura / samples,
        "correlation": c / max(tuned, 1),
        "target_spikes_hit": found / max(asked, 1),
        "extra_spikes": (fired - found) / samples,
    }
