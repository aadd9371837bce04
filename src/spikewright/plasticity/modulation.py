"""Modulation, the third factor, and how fast a layer learns at which moment."""

from __future__ import annotations

import math
from dataclasses import dataclass

from spikewright.errors import ConfigError, whole

__all__ = ["ClassCorrect", "Constant", "ErrorShare", "Growth", "Modulation", "Reward"]


class Modulation:
    """Base of the third factors: what multiplies an update."""

    def __call__(self, decision: int = -1, label: int = -1, reward: float = 1.0) -> float:
        """The factor after a network answered `decision` (-1: nothing) to a sample of class `label`."""
        raise NotImplementedError


@dataclass(frozen=True)
class Constant(Modulation):
    """1: unsupervised."""

    def __call__(self, decision: int = -1, label: int = -1, reward: float = 1.0) -> float:
        return 1.0


@dataclass(frozen=True)
class Reward(Modulation):
    """The reward the surroundings give, times `gain`."""

    gain: float = 1.0

    def __call__(self, decision: int = -1, label: int = -1, reward: float = 1.0) -> float:
        return self.gain * reward


@dataclass(frozen=True)
class ClassCorrect(Modulation):
    """+1 if the decision was right, -1 if it was wrong, 0 in silence: reward and punishment (Mozafari 2019)."""

    def __call__(self, decision: int = -1, label: int = -1, reward: float = 1.0) -> float:
        return 0.0 if decision < 0 else 1.0 if decision == label else -1.0


@dataclass(frozen=True)
class Growth:
    """A rate that grows: times `factor` after every `every` images, until the amplitude reaches `top`; the ratio of the
    amplitudes stays. factor = 1 is a constant rate."""

    factor: float = 1.0
    every: int = 500
    top: float = 0.15

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor >= 1 and self.every >= 1 and 0 < self.top < math.inf):
            raise ConfigError(
                f"Growth: factor {self.factor}, every {self.every}, top {self.top}: expected at least 1, at least 1 "
                "image, and a finite amplitude above 0"
            )

    def rate(self, ltp: float, seen: int) -> float:
        """What multiplies both amplitudes of a rule with this ltp after `seen` images."""
        most = max(1.0, self.top / abs(ltp)) if ltp else 1.0
        steps = seen // self.every
        return most if steps * math.log(self.factor) > math.log(most) else min(self.factor**steps, most)


@dataclass(frozen=True)
class ErrorShare:
    """Reward by the share of wrong answers, punishment by that of right ones, in the block of images before: a layer
    that errs learns from its successes, one that succeeds from its errors. Silence counts as neither.

    Args:
        block: images a block (1000 in the released code).
    """

    block: int = 1000

    def __post_init__(self) -> None:
        whole("ErrorShare", "block", self.block)

    def rates(self, right: int, wrong: int, seen: int) -> tuple[float, float]:
        """(factor of the reward rule, of the punishment rule) after a block of `seen` images."""
        return (wrong / seen, right / seen) if seen else (1.0, 1.0)
