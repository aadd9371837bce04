"""The time loops. `reference` is the definition; a fused kernel takes its place wherever one serves, and equals it.

Set SPIKEWRIGHT_KERNELS=reference in the environment to run the definition everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from spikewright.kernels import fused, reference
from spikewright.kernels.reference import block_of, low_pass, raised

__all__ = ["block_of", "integrate_and_fire", "low_pass", "raised"]

P = ParamSpec("P")
R = TypeVar("R")


def _chosen(kernel: Callable[P, R | None], definition: Callable[P, R]) -> Callable[P, R]:
    """The kernel where it serves (None: it does not), else the definition."""

    @wraps(definition)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        done = kernel(*args, **kwargs)
        return definition(*args, **kwargs) if done is None else done

    return run


integrate_and_fire = _chosen(fused.integrate_and_fire, reference.integrate_and_fire)
