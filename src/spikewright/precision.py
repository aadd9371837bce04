"""How precisely to compute: float32, or bfloat16 matrix products between float32 membranes."""

from __future__ import annotations

from functools import cache

import torch

from spikewright.errors import ConfigError

__all__ = ["PRECISIONS", "autocast", "autocast_dtype", "resolved"]

PRECISIONS = ("auto", "float32", "bf16")
UNITS = ("amx-bf16", "avx512bf16")  # what LLVM calls a processor's units for bfloat16 products


def resolved(precision: str, device: torch.device) -> str:
    """ "float32" or "bf16": `auto` takes bf16 where the device multiplies it in hardware."""
    if precision not in PRECISIONS:
        raise ConfigError(f"precision is {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "float32"


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context to run a network in: spikes are exact in bfloat16, weights and analog values are rounded to it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=resolved(precision, device) == "bf16")


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The dtype that layers hand on under a running autocast; None without one."""
    if not torch.amp.is_autocast_available(device.type) or not torch.is_autocast_enabled(device.type):
        return None
    return torch.get_autocast_dtype(device.type)


@cache
def _cpu_has_bf16() -> bool:
    from llvmlite.binding import get_host_cpu_features

    try:
        features = get_host_cpu_features()
    except RuntimeError:  # a processor that LLVM cannot look at
        return False
    return any(features.get(unit, False) for unit in UNITS)
