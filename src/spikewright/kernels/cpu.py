"""Running the fused loops of `cpu_loops` on the CPU: one compiled pair for each kind of neuron, on torch's own threads.

A kind's source is a copy of `cpu_loops` with its part written in, kept in the user's cache folder, where Numba's cache
finds its machine code again in the next process.
"""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
import torch
from torch import Tensor

from spikewright.kernels import cpu_loops, cpu_rows, machine
from spikewright.kernels.formula import Formula, slope
from spikewright.kernels.generated import module_of
from spikewright.kernels.memory import keep_memory
from spikewright.kernels.plan import Gradients, Kind, Numbers
from spikewright.kernels.team import run_on_team

__all__ = ["DTYPES", "POOLS", "backward", "forward", "prepare"]

DTYPES = (torch.float32, torch.bfloat16)
POOLS = 15  # the widest pool: the spikes of a window are counted in a byte
ALONE = 16_384  # neuron-steps below which waking the other threads costs more than they bring
WIDEST = 2048  # neurons in a tile
PAST = 1 << 25  # bytes written above which they go past the caches: these hold no more until somebody reads them
TILE_BYTES = 1 << 18  # of potentials in a tile of the backward pass: they should stay in the second-level cache

_scratch = threading.local()


def prepare(kind: Kind, gradients: bool) -> None:
    """Compile what the kind needs, or find it in the cache."""
    _forward(kind)
    if gradients:
        _backward(kind)


def forward(
    kind: Kind, numbers: Numbers, steps: int, x: Tensor, v0: Tensor | None, age0: Tensor | None, keep: bool = True
) -> tuple[Tensor, Tensor | None, Tensor | None, bool]:
    """Run all steps: x [T, B, ...], or [1, B, ...] for a constant current, rows dense -> (spikes, membrane, age,
    whether all membranes are finite); without `keep` no membrane and age are written."""
    row = x[0]
    s = _output(kind, steps, row)
    v = torch.empty_like(row, dtype=torch.float32) if keep else None
    age = torch.empty_like(row, dtype=torch.float32) if keep and kind.timed else None
    call = _call(kind, numbers, x, v0, age0, s)
    call.s, call.v, call.age = s.data_ptr(), _address(v), _address(age)
    call.past = s.nbytes >= PAST
    _run(_forward(kind), call, _tiled(call, kind, row.shape, WIDEST), 5)
    return s, v, age, call.strange == 0


def backward(
    kind: Kind,
    numbers: Numbers,
    x: Tensor,
    v0: Tensor | None,
    age0: Tensor | None,
    g: Tensor,
    gv: Tensor | None,
) -> Gradients:
    """Gradients of the current and the first membrane, and the sums for decay, gain, threshold and shift."""
    steps = g.shape[0]
    dx = torch.empty_like(x)
    dv0 = torch.empty_like(v0) if v0 is not None else None
    totals = torch.zeros(torch.get_num_threads(), 4, dtype=torch.float64) if kind.sums else None
    call = _call(kind, numbers, x, v0, age0, g)
    call.past = dx.nbytes >= PAST
    call.g, call.gv, call.dx, call.dv0, call.sums = g.data_ptr(), *map(_address, (gv, dx, dv0, totals))
    widest = min(WIDEST, max(64, TILE_BYTES // 4 // (steps + 1) // 64 * 64))
    lines = 11 + (steps + 1) * (2 if kind.timed else 1)
    _run(_backward(kind), call, _tiled(call, kind, x.shape[1:], widest), lines)
    return Gradients(dx, dv0, None if totals is None else totals.sum(0))


def _output(kind: Kind, steps: int, row: Tensor) -> Tensor:
    """Room for the spikes, laid out as a row of the current is."""
    if not kind.pool:
        return torch.empty_strided((steps, *row.shape), (row.numel(), *row.stride()), dtype=kind.s)
    samples, channels, height, width = row.shape
    rows = torch.empty(steps, samples, height // kind.pool, width // kind.pool, channels, dtype=kind.s)
    return rows.permute(0, 1, 4, 2, 3)


def _call(kind: Kind, numbers: Numbers, x: Tensor, v0: Tensor | None, age0: Tensor | None, s: Tensor) -> cpu_rows.Call:
    """One call of a compiled loop, but for the arrays that only one of them has; `s` stands for all of its shape."""
    call = cpu_rows.Call(**numbers._asdict())
    call.steps, call.neurons = s.shape[0], x.numel() // x.shape[0]
    call.s_step, call.x_step = s.numel() // s.shape[0], call.neurons if x.shape[0] > 1 else 0
    call.x_bytes, call.s_bytes, call.pool = x.element_size(), s.element_size(), kind.pool
    call.here, call.x, call.v0, call.age0 = ctypes.addressof(call), x.data_ptr(), _address(v0), _address(age0)
    return call


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _tiled(call: cpu_rows.Call, kind: Kind, row: torch.Size, widest: int) -> int:
    """Cut the neurons into tiles of at most so many (a pooled band is as wide as it is); returns the width."""
    if pool := kind.pool:
        samples, call.channels, call.height, call.across = row
        call.width = max(64, (pool + call.height % pool) * call.across * call.channels)  # blocks may run over a line
        call.tiles = samples * (call.height // pool)
    else:
        share = -(-call.neurons // (2 * torch.get_num_threads()))  # some tiles for every thread
        call.width = min(widest, max(64, -(-share // 64) * 64))
        call.tiles = -(-call.neurons // call.width)
    width: int = call.width
    return width


def _run(function: Any, call: cpu_rows.Call, width: int, lines: int) -> None:
    """Call a compiled loop in which every thread has so many lines of scratch, each as wide as a tile."""
    threads = torch.get_num_threads() if call.neurons * call.steps > ALONE else 1
    call.per_thread = lines * width + machine.BLOCK  # the last line may be run over
    call.scratch = _room(threads * call.per_thread).data_ptr()
    run_on_team(function.address, call.here, threads)


def _room(count: int) -> Tensor:
    """Scratch floats, kept from call to call."""
    kept: Tensor | None = getattr(_scratch, "room", None)
    if kept is None or kept.numel() < count:
        kept = _scratch.room = torch.empty(count)
    return kept


# ---- from a kind to machine code


def _forward(kind: Kind) -> Any:
    return _compiled("forward", kind.strict, kind.timed, False, None)


def _backward(kind: Kind) -> Any:
    return _compiled("backward", kind.strict, kind.timed, kind.sums, kind.formula)


@cache
def _compiled(name: str, strict: bool, timed: bool, sums: bool, formula: Formula | None) -> Any:
    """A loop's machine code, out of Numba's cache if it is there."""
    module, cached = _module(strict, timed, sums, formula)
    return numba.cfunc(cpu_rows.SIGNATURE, cache=cached)(getattr(module, name))


def _module(strict: bool, timed: bool, sums: bool, formula: Formula | None) -> tuple[ModuleType, bool]:
    """A kind's own copy of `cpu_loops`, and whether it lies where its machine code can be kept."""
    own = "\n".join(
        [
            f"STRICT, TIMED, SUMS = {strict}, {timed}, {sums}",
            "",
            "",
            '@njit(error_model="numpy")',  # 1 / 0 is infinite, as in torch
            slope(formula, "numba"),
        ]
    )
    depends = [Path(str(part.__file__)).read_text() for part in (cpu_rows, machine)]
    return module_of(cpu_loops, own, *depends, numba.__version__)


keep_memory()
