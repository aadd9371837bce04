"""Time rides in the batch dimension: between layers every tensor is [T*B, ...], time-major.

Only `Temporal` modules (neurons, synapse filters, ...) see time. During a forward of their `SNN` they ask the running
`Clock` for the number of steps and for the state to start from; state never lives in a module.
"""

from __future__ import annotations

from collections import Counter
from contextvars import ContextVar, Token
from types import TracebackType
from typing import Any

from torch import Tensor, nn

from spikewright.errors import ConfigError, NumericError

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

    A module that is called several times in one forward (one activation shared by two places) keeps one state a call.
    """

    _running: ContextVar[Clock | None] = ContextVar("clock", default=None)

    def __init__(self, steps: int, state: dict[StateKey, State] | None = None, root: nn.Module | None = None):
        self.steps = steps
        self.root = root
        self.left: dict[StateKey, State] = {}
        self._start = state or {}
        self._calls: Counter[nn.Module] = Counter()
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

    def advance(self, module: Temporal, x: Tensor) -> Tensor:
        """Run `module` over this block: x [T*B, ...] -> [T*B, ...]."""
        if x.shape[0] % self.steps:
            raise ConfigError(
                f"{type(module).__name__} got a leading dimension of {x.shape[0]}, which is no multiple of the "
                f"{self.steps} steps folded into it: a body must keep the batch dimension as it came"
            )
        key = (module, self._calls[module])
        self._calls[module] += 1
        if not finite(x):
            raise NumericError(f"the current into layer {self._name(module)} is NaN or infinite: {_REMEDY}")
        block = x.reshape(self.steps, x.shape[0] // self.steps, *x.shape[1:])
        out, self.left[key] = module.run(block, self._start.get(key))
        return out.flatten(0, 1)

    def _name(self, module: nn.Module) -> str:
        named = self.root.named_modules() if self.root is not None else ()
        return f"{next((n for n, m in named if m is module), '?')!r} ({type(module).__name__})"

    def began(self, module: Temporal) -> State:
        """The state that the latest call of `module` started from; None is rest."""
        return self._start.get((module, self._calls[module] - 1))

    def check(self) -> None:
        """Raise NumericError naming the first temporal module whose state is NaN or infinite.

        A NaN membrane never crosses its threshold: the neuron only goes quiet and the outputs stay finite, so currents
        and states are looked at, not only outputs.
        """
        for (module, _), state in self.left.items():
            if not all(finite(t) for t in _tensors(state) if t.is_floating_point()):
                raise NumericError(f"the membrane of layer {self._name(module)} is NaN or infinite: {_REMEDY}")


def finite(x: Tensor) -> bool:
    """Whether all of x is finite; one pass over memory when it is (a sum keeps NaN and infinity)."""
    return bool(x.detach().sum().isfinite()) or bool(x.isfinite().all())


def _tensors(state: State) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    return [t for part in state or () for t in _tensors(part)]


class Temporal(nn.Module):
    """A module that sees time. Subclasses write `run`; everything else comes from the clock.

    `spikes` says whether what it hands on are spikes (for counting operations and for `arch`).
    """

    spikes = False

    def run(self, current: Tensor, state: State = None) -> tuple[Tensor, State]:
        """Pure function over a block of steps: (current [T, B, ...], state) -> (out [T, B, ...], state).

        `state=None` is rest. Any split of the steps into blocks that hand the state on gives the same bits.
        """
        raise NotImplementedError

    def spikes_in(self, out: Tensor, state: State = None) -> Tensor | None:
        """The spikes behind a block it handed on: (out [T, B, ...], the state before it) -> [T, B, ...] or None."""
        return out if self.spikes else None

    def forward(self, x: Tensor) -> Tensor:
        """x [T*B, ...] -> [T*B, ...] inside the forward of an `SNN`."""
        return Clock.running(self).advance(self, x)
