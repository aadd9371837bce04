"""Running the fused loops of `cuda_loops` on a GPU: one pair of Triton kernels for each kind of neuron.

Triton comes with official CUDA builds of torch. Where it is missing, or cannot compile for the GPU at hand, `prepare`
raises and the plain torch loops serve. Multiplications and additions stay apart (no fused multiply-add), so spikes and
membranes equal the reference to the last bit; gradients do to a few rounding errors.

The backward pass needs T x N float32 of scratch for the potentials while it runs (twice that for a timed surrogate),
which it writes and reads once: as much as one layer's float32 currents, and simpler than checkpoints.
"""

from __future__ import annotations

from functools import cache, lru_cache
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor

from spikewright.kernels import cuda_loops
from spikewright.kernels.formula import PARAMETERS, Formula, slope
from spikewright.kernels.generated import module_of
from spikewright.kernels.plan import Gradients, Kind, Numbers

__all__ = ["DTYPES", "POOLS", "backward", "forward", "prepare"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
POOLS = 0
WIDTH = 512  # neurons of a program: four a thread


@cache
def prepare(kind: Kind, gradients: bool) -> None:
    """Compile what the kind needs, or find it in Triton's cache, and run it once on next to nothing."""
    x = torch.zeros(2, WIDTH, dtype=kind.x, device="cuda" if torch.cuda.is_available() else "cpu")
    numbers = Numbers(0.5, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, *[1.0] * PARAMETERS)
    s, *_ = forward(kind, numbers, len(x), x, None, None)
    if gradients:
        backward(kind, numbers, x, None, None, s, None)


def forward(
    kind: Kind, numbers: Numbers, steps: int, x: Tensor, v0: Tensor | None, age0: Tensor | None, keep: bool = True
) -> tuple[Tensor, Tensor, Tensor | None, None]:
    """Run all steps: x [T, B, ...], or [1, B, ...] for a constant current, rows dense -> (spikes, membrane, age, None:
    not known whether all is finite). Membrane and age are always written, whether they are to be kept or not."""
    row = x[0]
    s = torch.empty_strided((steps, *row.shape), (row.numel(), *row.stride()), dtype=kind.s, device=x.device)
    v = torch.empty_like(row, dtype=torch.float32)
    age = torch.empty_like(v) if kind.timed else None
    _launch(_module(None).forward, kind, numbers, steps, x, v0, age0, s, v, age)
    return s, v, age, None


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
    steps, neurons = len(g), x[0].numel()
    dx = torch.empty_like(x)
    dv0 = torch.empty_like(v0) if v0 is not None else None
    shares = torch.empty(_programs(neurons), 4, dtype=torch.float64, device=x.device) if kind.sums else None
    potentials = torch.empty(steps, neurons, device=x.device)
    ages = torch.empty_like(potentials) if kind.timed else None
    kernel = _module(kind.formula).backward
    _launch(kernel, kind, numbers, steps, x, v0, age0, g, gv, dx, dv0, shares, potentials, ages)
    return Gradients(dx, dv0, None if shares is None else shares.sum(0))


def _launch(kernel: Any, kind: Kind, numbers: Numbers, steps: int, x: Tensor, *arrays: Tensor | None) -> None:
    neurons = x[0].numel()
    with torch.cuda.device_of(x):  # Triton launches on the current device
        kernel[_programs(neurons),](
            _packed(numbers, x.device),
            x,
            *arrays,
            steps,
            neurons,
            CONSTANT=len(x) == 1,
            STRICT=kind.strict,
            TIMED=kind.timed,
            WIDTH=WIDTH,
            enable_fp_fusion=False,
        )


def _programs(neurons: int) -> int:
    return -(-neurons // WIDTH)


def _packed(numbers: Numbers, device: torch.device) -> Tensor:
    """The numbers, side by side on the device. Those that are tensors are not waited for."""
    packed = _uploaded(tuple(0.0 if isinstance(n, Tensor) else n for n in numbers), device)
    learned = [i for i, n in enumerate(numbers) if isinstance(n, Tensor)]
    if learned:
        packed = packed.clone()
        for i in learned:
            packed[i] = numbers[i]
    return packed


@lru_cache(maxsize=1024)
def _uploaded(numbers: tuple[float, ...], device: torch.device) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float32, device=device)


@cache
def _module(formula: Formula | None) -> ModuleType:
    """The formula's own copy of `cuda_loops`, its functions made Triton's."""
    import triton

    own = ["import triton.language as tl", "", "", slope(formula, "triton")]
    module, _ = module_of(cuda_loops, "\n".join(own))
    for name, function in list(vars(module).items()):
        if isinstance(function, FunctionType) and function.__module__ == module.__name__:
            setattr(module, name, triton.jit(function, do_not_specialize=["steps"]))
    return module
