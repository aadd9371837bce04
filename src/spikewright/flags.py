"""The command line's flags: what each command takes, and how words become values."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, TypeVar

from spikewright.errors import ConfigError, unknown

__all__ = [
    "CompareOptions",
    "ConvertOptions",
    "EncodeOptions",
    "EvaluateOptions",
    "ListOptions",
    "NeuronOptions",
    "ResumeOptions",
    "RunOptions",
    "numbers",
    "operands",
    "parse",
    "peek",
]

T = TypeVar("T")


@dataclass
class ResumeOptions:
    """Flags of `train --resume RUN`."""

    resume: Path | None = None
    """Go on with this run where it stopped, with the settings it began with."""
    checkpoint_minutes: float = 2.0
    """Save a checkpoint this often (and after every epoch)."""
    record: Path | None = None
    """Also write the figures to this JSON file (RESULTS.md is made from such records)."""
    goal: float | None = None
    """Accuracy in % that the record is held against."""
    note: str = ""
    """What the record should say of itself: fewer epochs than the paper's, for instance."""
    quiet: bool = False
    """No progress."""


@dataclass
class RunOptions(ResumeOptions):
    """Flags of `train` that are not the recipe's own."""

    data: str = "digits"
    """Data set by name (spikewright datasets), or a folder of class folders."""
    data_dir: Path | None = None
    """Where to look for the data first."""
    out: Path | None = None
    """Run folder; by default runs/METHOD-DATA-TIME."""
    limit: int | None = None
    """Train on the first N samples of the shuffled training set."""
    test_limit: int | None = None
    """Test on N samples, drawn by the seed; the record then says so."""
    seed: int = 0
    """Everything random is a function of it."""
    validation: float = 0.1
    """Fraction of the training set held out to choose the epoch."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto takes a GPU if there is one."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """bf16 computes matrix products in bfloat16; auto does so where the device has units for it, but tests networks
    from local learning and conversion in float32."""
    memory: Literal["normal", "low"] = "normal"
    """low computes activations again in the backward pass instead of keeping them."""
    dry_run: bool = False
    """Tell what memory the training would take, and train nothing."""
    take_over: bool = False
    """Use a run folder that a process which has died left locked."""


@dataclass
class EvaluateOptions:
    """Flags of `evaluate`."""

    steps: str | None = None
    """Time steps to run, one number or several with commas: 1,2,4,8."""
    data: str | None = None
    """Another data set than the run's."""
    data_dir: Path | None = None
    """Where to look for the data first."""
    limit: int | None = None
    """Only the first N test samples."""
    energy: str = "45nm"
    """Cost table: 45nm, 45nm-int32 or 45nm-int8."""
    precision: Literal["auto", "float32", "bf16"] | None = None
    """Of matrix products; the run's own by default."""
    json: bool = False
    """Print JSON."""


@dataclass
class CompareOptions:
    """Flags of `compare`."""

    data: str = "digits"
    """Data set that recipes are trained on."""
    data_dir: Path | None = None
    """Where to look for the data first."""
    epochs: int | None = None
    """Epochs for every recipe; each one's own by default."""
    limit: int | None = None
    """Train on the first N samples of the shuffled training set."""
    seed: int = 0
    """Seed of every run."""
    out: Path = Path("runs")
    """Where new runs and comparison.png go."""
    json: bool = False
    """Print JSON instead of the table."""


@dataclass
class ConvertOptions:
    """Flags of `convert` that are not the recipe's own."""

    weights: Path | None = None
    """Weights of the model, a .safetensors file; without it the model is taken as its function makes it."""
    method: str = "rueckauer"
    """Conversion recipe (spikewright methods)."""
    data: str = "digits"
    """Data set to calibrate on (its training part) and to test with."""
    data_dir: Path | None = None
    """Where to look for the data first."""
    out: Path | None = None
    """Folder for the SNN, conversion.json and summary.json; by default runs/METHOD-DATA-TIME."""
    seed: int = 0
    """Of the choice of calibration samples, and of random encoders."""
    test: int | None = None
    """Test with the first N samples only; 0 for no test."""
    json: bool = False
    """Print conversion.json."""
    quiet: bool = False
    """No progress."""


@dataclass
class NeuronOptions:
    """Flags of `neuron`."""

    pattern: str = "RS"
    """Firing pattern (izhikevich): RS, IB, CH, FS, LTS, TC or RZ."""
    current: float | None = None
    """Constant current from the start; by default one that makes the neuron fire."""
    duration: float = 500.0
    """Milliseconds."""
    h: float | None = None
    """Length of a step, ms; by default the neuron's usual one."""
    half_step: bool = False
    """The first published integration (izhikevich), meant for --h 1."""
    out: Path = Path("neuron.png")
    """Where the trace is drawn."""
    json: bool = False
    """Print JSON."""


@dataclass
class EncodeOptions:
    """Flags of `encode`."""

    scheme: str = "latency"
    """How values become spikes; a wrong name lists them."""
    steps: int = 32
    """Time steps T."""
    size: int = 28
    """Scale the image's central square to this many pixels a side first."""
    seed: int = 0
    """Of the random schemes."""
    out: Path = Path("raster.png")
    """Where the raster is drawn."""
    json: bool = False
    """Print JSON."""


@dataclass
class ListOptions:
    """Flags of the listing commands."""

    json: bool = False
    """Print JSON."""


def operands(
    words: list[str], least: int = 0, most: int | None = None, what: str = "a method"
) -> tuple[list[str], list[str]]:
    """Leading words without dashes, and the flags after them."""
    count = next((i for i, w in enumerate(words) if w.startswith("-")), len(words))
    operands, flags = words[:count], words[count:]
    if "--help" in flags or "-h" in flags:
        return operands or [""] * least, flags
    if len(operands) < least:
        raise ConfigError(f"expected {what} before the flags, found {operands or 'nothing'}: see --help")
    if most is not None and len(operands) > most:
        raise ConfigError(f"expected {what} before the flags, found {len(operands)}: {', '.join(map(repr, operands))}")
    return operands, flags


def peek(flags: Sequence[str], name: str) -> str | None:
    """Value of one flag before the rest is parsed."""
    for i, word in enumerate(flags):
        if word == name and i + 1 < len(flags):
            return flags[i + 1]
        if word.startswith(f"{name}="):
            return word.split("=", 1)[1]
    return None


def parse(kind: type[T], flags: list[str], command: str, default: T | None = None) -> T:
    """Flags into a dataclass by tyro; a mistake becomes one ConfigError line."""
    import tyro

    known = sorted("--" + f.name.replace("_", "-") for f in fields(kind))  # type: ignore[arg-type]
    for word in flags:
        flag = word.split("=", 1)[0].replace("_", "-")
        bare = flag.replace("--no-", "--", 1)
        if word.startswith("--") and flag not in known and bare not in known and flag != "--help":
            raise unknown(f"flag of {command}", flag, known)
    caught = io.StringIO()
    help_wanted = "--help" in flags or "-h" in flags
    try:
        with contextlib.nullcontext() if help_wanted else contextlib.redirect_stderr(caught):
            extra = {} if default is None else {"default": default}
            return tyro.cli(kind, args=flags, prog=f"spikewright {command}", **extra)  # type: ignore[call-overload,no-any-return]
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise ConfigError(f"{command}: {_said(caught.getvalue())} (see --help)") from None


def _said(boxed: str) -> str:
    """What tyro said, out of its box: the message alone, on one line."""
    text = re.sub(r"[\u2500-\u257f]+", " ", re.sub(r"\x1b\[[0-9;]*m", "", boxed))
    text = " ".join(text.split())
    text = re.split(r" (?:Argument helptext|For full helptext|To see full help)", text)[0]
    return re.sub(r"^(?:Parsing error|Value error|Missing argument)?\s*(?:Error parsing (?:\w+Flags: )?)?", "", text)


def numbers(text: str, flag: str) -> list[int]:
    """Whole numbers of at least 1 with commas between them."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = []
    if not values or min(values) < 1:
        raise ConfigError(f"{flag} is {text!r}, expected whole numbers of at least 1 with commas, like 1,2,4,8")
    return values
