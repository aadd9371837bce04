"""Where a figure comes from: version, commit, hardware, command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

import torch

import spikewright

__all__ = ["command", "commit", "hardware", "stamp"]


def commit() -> str:
    """Commit of the source tree this package runs from, with "-dirty" if it was changed since; "" outside one."""
    here = Path(__file__).resolve().parent
    if not (here.parents[1] / ".git").exists():
        return ""

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, timeout=10)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        return git("rev-parse", "--short=10", "HEAD") + (
            "-dirty" if git("status", "--porcelain", "--", str(here)) else ""
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""


def hardware(device: torch.device) -> str:
    """The processor and, if used, the GPU in words."""
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    text = f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"
    return f"{torch.cuda.get_device_name(device)}; {text}" if device.type == "cuda" else text


def command() -> str:
    """The command line of this process, by its short name."""
    program = Path(sys.argv[0]).name
    return shlex.join(["spikewright" if program == "__main__.py" else program, *sys.argv[1:]])


def stamp(device: torch.device) -> dict[str, str]:
    """All of it, for a summary."""
    return {
        "version": spikewright.__version__,
        "torch": torch.__version__,
        "commit": commit(),
        "device": device.type,
        "hardware": hardware(device),
        "command": command(),
    }
