"""The fused operator, on whichever device has kernels for it: what it takes, and its rules for autograd."""

from __future__ import annotations

import os
import warnings
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from spikewright.kernels.formula import PARAMETERS, trace
from spikewright.kernels.plan import Kind, Numbers
from spikewright.kernels.reference import NEVER, pooled
from spikewright.surrogate import Surrogate
from spikewright.surrogate.base import first_only

if TYPE_CHECKING:
    from spikewright.neurons.parts import Reset
    from spikewright.surrogate import Learnable

__all__ = ["integrate_and_fire"]

ENGINES = {"cpu": "spikewright.kernels.cpu", "cuda": "spikewright.kernels.cuda"}


def integrate_and_fire(
    current: Tensor,
    state: tuple[Tensor, ...] | None,
    *,
    decay: float | Tensor,
    gain: float | Tensor,
    v_th: float | Tensor,
    v_init: float | Tensor,
    reset: Reset,
    surrogate: Surrogate | Learnable,
    strict: bool,
    pool: int = 0,
    dtype: torch.dtype | None = None,
    keep: bool = True,
) -> tuple[Tensor, Any] | None:
    """As `reference.integrate_and_fire`; None where no fused kernel serves these arguments."""
    numbers = (decay, gain, v_th)
    if not (
        _plain(current)
        and current.dim() >= 2
        and all(_scalar(n) for n in (*numbers, v_init))
        and not _needs_grad(v_init)
    ):
        return None
    engine, dtype = _engine(current.device.type), dtype or current.dtype
    after = reset.after_spike(v_th, decay) if _speaks_for_itself(reset) else None
    if engine is None or after is None or current.dtype not in engine.DTYPES or dtype not in engine.DTYPES:
        return None
    if not isinstance(surrogate, Surrogate) or type(surrogate).spike is not Surrogate.spike:
        return None
    formula = trace(surrogate, strict)
    if formula is None or len(formula.parameters) > PARAMETERS:
        return None
    row, steps = _rows(current), current.shape[0]
    first = row[0]
    if not _fits(state, first, surrogate.timed):
        return None
    pool_here = pool if 1 < pool <= engine.POOLS and _channels_last(first) and pool <= min(first.shape[-2:]) else 0
    kept, shift = after
    learned = any(map(_needs_grad, (*numbers, shift)))
    differentiable = torch.is_grad_enabled() and (learned or any(map(_needs_grad, (current, *(state or ())))))
    kind = Kind(strict, surrogate.timed, learned, pool_here, current.dtype, dtype, formula)
    if not _ready(engine, kind, differentiable):
        return None
    v0, age0 = (*(state or ()), None, None)[:2]
    fixed = (float(v_init), float(kept), float(not reset.detach), tuple(formula.values(surrogate)))
    told = _numbers((decay, gain, v_th, shift), fixed)
    if differentiable:
        s, v, age, fine = _IntegrateAndFire.apply(row, v0, age0, *numbers, shift, steps, engine, kind, told, keep)
    else:
        s, v, age, fine = engine.forward(kind, told, steps, row, v0, age0, keep)
    if pool != pool_here:
        s = pooled(s, pool)
    if v is None:
        return s, fine
    return s, (v,) if age is None else (v, age)


def _numbers(varied: tuple[Any, ...], fixed: tuple[float, float, float, tuple[float, ...]]) -> Numbers:
    """What a kernel is told: decay, gain, threshold, shift; first membrane, keep, attached, the surrogate's own."""
    decay, gain, v_th, shift = map(_number, varied)
    v_init, keep, attached, own = fixed
    return Numbers(decay, gain, v_th, v_init, keep, shift, attached, NEVER, *own)


class _IntegrateAndFire(torch.autograd.Function):
    """(current, v, age, decay, gain, v_th, shift) -> (spikes, v, age, whether v is finite). Keeps the current and the
    first state."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        v0: Tensor | None,
        age0: Tensor | None,
        decay: Any,
        gain: Any,
        v_th: Any,
        shift: Any,
        steps: int,
        engine: Any,
        kind: Kind,
        numbers: Numbers,
        keep: bool,
    ) -> tuple[Tensor, Tensor | None, Tensor | None, bool | None]:
        s, v, age, fine = engine.forward(kind, numbers, steps, x, v0, age0, keep)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, v0, age0)
        ctx.like = [n if isinstance(n, Tensor) else None for n in (decay, gain, v_th, shift)]
        ctx.call = engine, kind, numbers
        ctx.layout = s.shape, s.stride()
        if age is not None:
            ctx.mark_non_differentiable(age)
        return s, v, age, fine

    @staticmethod
    def backward(ctx: Any, g: Tensor | None, gv: Tensor | None, *_: Any) -> tuple[Any, ...]:
        with torch.no_grad():
            found = _IntegrateAndFire._gradients(ctx, g, gv)
        if torch.is_grad_enabled():  # as the reference: a second derivative raises, whatever it is taken by
            for anchor in filter(_needs_grad, (*ctx.saved_tensors, *ctx.like, g, gv)):
                found = [first_only(part, anchor) if isinstance(part, Tensor) else part for part in found]
        return (*found, None, None, None, None, None)

    @staticmethod
    def _gradients(ctx: Any, g: Tensor | None, gv: Tensor | None) -> list[Tensor | None]:
        x, v0, age0 = ctx.saved_tensors
        engine, kind, numbers = ctx.call
        shape, strides = ctx.layout
        if g is None:
            g = torch.empty_strided(shape, strides, dtype=kind.s, device=x.device).zero_()
        elif g.stride() != strides or g.dtype != kind.s:
            g = torch.empty_strided(shape, strides, dtype=kind.s, device=x.device).copy_(g)
        if gv is not None:
            gv = torch.empty_like(x[0], dtype=torch.float32).copy_(gv)
        wanted = ctx.needs_input_grad[3:7]
        gradients = engine.backward(kind, numbers, x, v0, age0, g, gv)
        sums: list[Tensor | None] = [None] * 4
        if gradients.sums is not None:
            sums = [
                total.to(like).reshape(like.shape) if needed else None
                for needed, total, like in zip(wanted, gradients.sums, ctx.like, strict=True)
            ]
        return [gradients.x, gradients.v0, None, *sums]


# ---- what fits


def _plain(x: Any) -> bool:
    """An ordinary tensor: no subclass, not inside vmap or forward-mode differentiation, not being compiled."""
    return (
        not torch.compiler.is_compiling()  # first, or the compiler stumbles over what follows
        and not torch.jit.is_tracing()
        and type(x) in (Tensor, torch.nn.Parameter)
        and not torch._C._functorch.is_functorch_wrapped_tensor(x)
        and torch.autograd.forward_ad.unpack_dual(x).tangent is None
        and x.numel() > 0
    )


def _scalar(value: Any) -> bool:
    return isinstance(value, (int, float)) or (
        isinstance(value, Tensor) and value.numel() == 1 and value.dtype == torch.float32 and _plain(value)
    )


def _speaks_for_itself(reset: Reset) -> bool:
    """Whether `after_spike` is of the class that defines `__call__` or of one below it."""
    return next("after_spike" in vars(c) for c in type(reset).__mro__ if {"after_spike", "__call__"} & vars(c).keys())


def _number(value: float | Tensor) -> float | Tensor:
    """A tensor on a GPU stays there: to ask for its value would wait for all work before it."""
    if isinstance(value, Tensor):
        return value.detach() if value.is_cuda else value.item()
    return float(value)


def _needs_grad(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _rows(current: Tensor) -> Tensor:
    """The current as dense rows, one a step: [T, B, ...], or [1, B, ...] where all steps read the same memory."""
    row = current[0].detach()
    if not (row.is_contiguous() or _channels_last(row)):
        return current.contiguous()
    steps = current.shape[0]
    if steps == 1:
        return current  # not a slice of it, whose gradient would lose the order of channels
    if current.stride(0) == 0:
        if not _needs_grad(current):
            return current[:1]
        base = current._base  # the gradient goes straight to what was expanded, not through T rows of zeros
        if (
            base is not None
            and base.shape == row.shape
            and base.stride() == row.stride()
            and base.data_ptr() == row.data_ptr()
            and _expands(current, base)
        ):
            return base[None]
        return current.contiguous()
    return current if current.stride(0) == row.numel() else current.contiguous()


def _expands(current: Tensor, base: Tensor) -> bool:
    """Whether autograd, too, has nothing but one `expand` between the two."""
    step = current.grad_fn
    if step is None or step.name() != "ExpandBackward0":
        return False
    before, number = step.next_functions[0]
    if base.grad_fn is None:
        return getattr(before, "variable", None) is base
    return before is base.grad_fn and number == base.output_nr


def _channels_last(row: Tensor) -> bool:
    return row.dim() == 4 and row.is_contiguous(memory_format=torch.channels_last)


def _fits(state: tuple[Tensor, ...] | None, row: Tensor, timed: bool) -> bool:
    """Whether the state can be read in the order of the rows."""
    return state is None or (
        len(state) == 1 + timed
        and all(
            _plain(part) and part.dtype == torch.float32 and part.shape == row.shape and _strides(part) == _strides(row)
            for part in state
        )
    )


def _strides(x: Tensor) -> list[int]:
    """Of the dimensions where they matter."""
    return [stride for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1]


# ---- what there is


@cache
def _engine(device: str) -> Any:
    """The module with this device's kernels; None where there is none or it cannot be loaded."""
    if device not in ENGINES or os.environ.get("SPIKEWRIGHT_KERNELS") == "reference":
        return None
    try:
        return import_module(ENGINES[device])
    except Exception as error:
        return _do_without(device, error)


_without: set[tuple[str, Kind]] = set()  # kinds that could not be built


def _ready(engine: Any, kind: Kind, differentiable: bool) -> bool:
    if (engine.__name__, kind) in _without:
        return False
    try:
        engine.prepare(kind, differentiable)
    except Exception as error:
        if all(name != engine.__name__ for name, _ in _without):  # once is enough: the next cause is likely the same
            _do_without(engine.__name__, error)
        _without.add((engine.__name__, kind))
        return False
    return True


def _do_without(what: str, error: Exception) -> None:
    warnings.warn(
        f"the fused kernels for {what.rpartition('.')[2]} cannot be used ({type(error).__name__}: "
        f"{str(error).strip().splitlines()[0] if str(error).strip() else 'no reason given'}); the plain torch loops "
        "serve in their place, with the same results and several times slower",
        RuntimeWarning,
        stacklevel=2,
    )
