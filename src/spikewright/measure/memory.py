"""Memory: what a stretch of code allocates, and what the process holds."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

__all__ = ["Peak", "allocations", "peak_bytes", "peak_memory_mb", "resident_bytes"]


@dataclass
class Peak:
    """Most bytes of tensors that were alive at once, above those alive at the start."""

    bytes: int = 0


@contextmanager
def allocations(device: torch.device) -> Iterator[Peak]:
    """Watch torch's allocator of this device; the figure is there after the context."""
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak.bytes = torch.cuda.max_memory_allocated(device) - before
        return
    with _silent(), torch.autograd.profiler.profile(profile_memory=True) as profile:
        yield peak
    events = [e for e in profile.kineto_results.events() if e.name() == "[memory]"]  # type: ignore[union-attr]
    alive = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        peak.bytes = max(peak.bytes, alive)


def resident_bytes() -> int | None:
    """What the process holds in memory now; None where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError, AttributeError):
        return peak_bytes()


def peak_bytes() -> int | None:
    """The most the process has ever held; None where the system does not tell."""
    with suppress(OSError):  # rusage would count what the process that started this one held
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    kept = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kept if sys.platform == "darwin" else kept * 1024


def peak_memory_mb(device: torch.device) -> float | None:
    """The most so far, in 1e6 bytes: of the process, on a GPU of its allocator."""
    found = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_bytes()
    return None if found is None else found / 1e6


@contextmanager
def _silent() -> Iterator[None]:
    """Nothing on file descriptor 2: torch's profiler reports its comings and goings there."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
