"""Time rides in the batch dimension: between layers every tensor is [T*B, ...], time-major.

Only `Temporal` modules (neurons, synapse filters, ...) see time. During a forward of their `SNN` they ask the running
`Clock` for the number of steps and for the state to start from; state never lives in a module.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from spikewright.errors import ConfigError, NumericError
from spikewright.noise import seeded

__all__ = ["Clock", "Temporal", "finite"]

State = Any  # a tensor or a (nested) tuple of tensors; None is rest
StateKey = tuple[nn.Module, int]
_REMEDY = "look for NaN in the weights or the input, or lower the learning rate"


class Clock:
    """The block of steps a forward covers, with the state every temporal module starts from and leaves behind.

    Args:
        steps: number of steps T in this block.
        state: what an earlier block left (`clock.left`), or None to start from rest.
        root: the body whose layers' names messages use.
        keep: whether there will be another block, so that `left` is wanted.
        keys: gives one number a sample [B], from which each module that draws at random gets its own.

    A module that is called several times in one forward (one activation shared by two places) keeps one state a call.
    """

    _running: ContextVar[Clock | None] = ContextVar("clock", default=None)

    def __init__(
        self,
        steps: int,
        state: dict[StateKey, State] | None = None,
        root: nn.Module | None = None,
        keep: bool = True,
        keys: Callable[[], Tensor] | None = None,
    ):
        self.steps = steps
        self.root = root
        self.left: dict[StateKey, State] = {}
        self._start = state or {}
        self._keep = keep
        self._calls: Counter[nn.Module] = Counter()
        self._keys, self._draws = keys, 0
        self._finite: list[tuple[nn.Module, bool | Tensor]] = []
        self._token: Token[Clock | None] | None = None

    def __enter__(self) -> Clock:
        self._token = Clock._running.set(self)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._token is not None:
            Clock._running.reset(self._token)

    @staticmethod
    def running(asker: nn.Module) -> Clock:
        """The clock of the forward in progress; ConfigError names the asker when there is none."""
        clock = Clock._running.get()
        if clock is None:
            raise ConfigError(
                f"{type(asker).__name__} was called outside an SNN, so it does not know the number of steps: wrap the "
                "network in sw.SNN(body, steps=T), or call .run(current[T, B, ...]) on the module itself"
            )
        return clock

    def fold(self, module: nn.Module, x: Tensor) -> Tensor:
        """x [T*B, ...] as a block [T, B, ...]."""
        if x.shape[0] % self.steps:
            raise ConfigError(
                f"{type(module).__name__} got a leading dimension of {x.shape[0]}, which is no multiple of the "
                f"{self.steps} steps folded into it: a body must keep the batch dimension as it came"
            )
        return x.unflatten(0, (self.steps, x.shape[0] // self.steps))

    def advance(self, module: Temporal, block: Tensor, **how: Any) -> Tensor:
        """Run `module` over this block of steps: [T, B, ...] -> [T, B, ...]; `how` goes to its `run`."""
        key = (module, self._calls[module])
        self._calls[module] += 1
        if module.draws and key not in self._start:  # later blocks find what they need in the state
            self._draws += 1
            how["keys"] = None if self._keys is None else seeded(self._keys(), self._draws)
        if module.forgets:
            how["keep"] = self._keep
        out, state = module.run(block, self._start.get(key), **how)
        if isinstance(state, bool):
            self._finite.append((module, state))
        for part in _tensors(state):
            if part.is_floating_point():  # a GPU is not asked to stop and answer for every layer
                self._finite.append((module, part.isfinite().all() if part.is_cuda else finite(part)))
        if self._keep:
            self.left[key] = state
        return out

    def saw(self, module: nn.Module, fine: bool) -> None:
        """Note whether all numbers that `module` works with are finite, for `check`."""
        self._finite.append((module, fine))

    def _name(self, module: nn.Module) -> str:
        named = self.root.named_modules() if self.root is not None else ()
        return f"{next((n for n, m in named if m is module), '?')!r} ({type(module).__name__})"

    def began(self, module: Temporal) -> State:
        """The state that the latest call of `module` started from; None is rest."""
        return self._start.get((module, self._calls[module] - 1))

    def check(self) -> None:
        """Raise NumericError naming the first temporal module whose current or state was NaN or infinite.

        A NaN membrane never crosses its threshold: the neuron only goes quiet and the outputs stay finite, so the
        states are looked at, in which such a current leaves its mark.
        """
        on_gpu = [fine for _, fine in self._finite if isinstance(fine, Tensor)]
        if on_gpu and len(on_gpu) == len(self._finite) and bool(torch.stack(on_gpu).all()):
            return
        for module, fine in self._finite:
            if not fine:
                raise NumericError(f"the current or state of layer {self._name(module)} is NaN or infinite: {_REMEDY}")


def finite(x: Tensor) -> bool:
    """Whether all of x is finite; one pass over memory when it is (a sum keeps NaN and infinity)."""
    return math.isfinite(x.detach().sum()) or bool(x.isfinite().all())


def _tensors(state: State) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    return [t for part in state for t in _tensors(part)] if isinstance(state, tuple) else []


class Temporal(nn.Module):
    """A module that sees time. Subclasses write `run`; everything else comes from the clock.

    `spikes` says whether what it hands on are spikes (for counting operations and for `arch`); `pools` whether `run`
    takes `pool=k`, to hand on means over windows of k x k spikes; `forgets` whether it takes `keep=False`, when it may
    hand back whether its last state is finite instead of that state; `draws` whether it takes `keys=`, numbers [B]
    that make what it draws at random its own, a function of the seed, the sample and its place in the network;
    `state_differentiable` whether gradients flow through a state handed in.
    """

    spikes = False
    pools = False
    forgets = False
    draws = False
    state_differentiable = True

    def run(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Pure function over a block of steps: (current [T, B, ...], state) -> (out [T, B, ...], state).

        `state=None` is rest. Any split of the steps into blocks that hand the state on gives the same bits. A current
        that is NaN or infinite leaves NaN or infinity in the state, where the clock looks for it.
        """
        raise NotImplementedError

    def spikes_in(self, out: Tensor, state: State = None) -> Tensor | None:
        """The spikes behind a block it handed on: (out [T, B, ...], the state before it) -> [T, B, ...] or None."""
        return out if self.spikes else None

    def forward(self, x: Tensor) -> Tensor:
        """x [T*B, ...] -> [T*B, ...] inside the forward of an `SNN`."""
        clock = Clock.running(self)
        return clock.advance(self, clock.fold(self, x)).flatten(0, 1)
