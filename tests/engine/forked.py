"""Training runs in forked children, which can be killed, signalled or made to fail at any chosen point.

The children are forked from a server process that has imported everything and never run autograd (which does not
survive a fork). A point is a phase of a write, as `storage.atomic.point` names it, or one of those added here: "step"
(loss about to be computed), "stepped" (weights updated, nothing saved), "validating", "testing". Runs are
deterministic, so a point is known by its place in the trace of an undisturbed run.
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch

import spikewright as sw
from spikewright import cli, provenance, recipes, storage, training
from spikewright.engine import trainer
from spikewright.measure import evaluation
from spikewright.storage import atomic

torch.set_num_threads(1)
torch.optim.SGD([torch.zeros(1, requires_grad=True)])  # imports much: once, in the server, not in every child
sw.load("digits")
_server = multiprocessing.get_context("forkserver")
_server.set_forkserver_preload([__name__])

UNTIMED = {"seconds", "images_per_second"}
MEMORY = {"peak_memory_mb", "train_peak_memory_mb"}
UNEQUAL = {
    "train_seconds",
    "train_images_per_second",
    "infer_images_per_second",
    "command",
    "conversion_seconds",
} | MEMORY
SMALL = {"limit": 60, "validation": 0.2, "progress": False, "checkpoint_minutes": 0.0}


@dataclass
class TwoPhase(recipes.Recipe):
    """A network of ReLUs, then spikes with its weights; batch norm, dropout and augmentation in both."""

    name, family, paper = "two-phase", "hybrid", "none"
    steps: int = 3
    epochs: int = 2
    lr: float = 5e-3

    def plan(self, data: sw.Dataset) -> Iterator[sw.training.Phase]:
        def body(neuron: torch.nn.Module) -> torch.nn.Module:
            parts = {"batch_norm": True, "spiking_output": False, "dropout": sw.HeldDropout}
            return sw.arch("4C3-P2-D0.2-12-10", data, neuron, **parts)

        augment = sw.Augment(crop=1, flip=True)
        ann = sw.SNN(body(torch.nn.ReLU()), steps=1)
        schedule = sw.optim.Cosine(warmup=0.5)
        yield sw.training.Fit(ann, epochs=1, batch=20, optimizer=sw.optim.SGD(0.05), schedule=schedule, augment=augment)
        snn = sw.SNN(body(sw.LIF(2.0, v_th=0.3)), self.steps)
        snn.load_state_dict(ann.state_dict())
        optimizer = sw.optim.AdamW(self.lr)
        yield sw.training.Fit(
            snn, epochs=self.epochs, batch=20, optimizer=optimizer, schedule=schedule, augment=augment
        )


@dataclass(frozen=True)
class Outcome:
    """How a child ended: its exit code (minus the signal that killed it), what it returned, what it printed."""

    code: int
    value: Any
    out: str
    err: str


def run(
    action: Callable[..., Any], *arguments: Any, at: int | None = None, do: str = "kill", **options: Any
) -> Outcome:
    """Call `action` in a child that does `do` ("kill", "full" or a signal's name) at point number `at`."""
    _serve()
    receive, send = _server.Pipe(duplex=False)
    process = _server.Process(target=_child, args=(send, at, do, action, arguments, options))
    process.start()
    send.close()
    try:
        code, value, out, err = receive.recv() if receive.poll(120) else (None, None, "", "nothing after 120 s")
    except EOFError:
        code, value, out, err = None, None, "", ""
    process.join(10)
    if process.is_alive():
        process.kill()
        process.join()
    if code is None:  # a child that came to its end says its code itself: the server sometimes loses it, and says 255
        code = process.exitcode or 0
    return Outcome(code, value, out, err)


_serving = threading.Lock()


def _serve() -> None:
    """Start the server; it knows where this module is from PYTHONPATH only."""
    with _serving:  # tests call from several threads, and the environment is one
        before = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), before]))
        try:
            forkserver.ensure_running()
        finally:
            del os.environ["PYTHONPATH"]
            if before is not None:
                os.environ["PYTHONPATH"] = before


def _child(send: Any, at: int | None, do: str, action: Callable[..., Any], arguments: Any, options: Any) -> None:
    code, value, files = 1, None, []
    for number in (1, 2):
        files.append(os.memfd_create(str(number)))
        os.dup2(files[-1], number)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    try:
        os.fsync = lambda file: None  # a kill loses nothing that was written
        evaluation.TIMED_SECONDS = 0.0
        provenance.commit = lambda: ""
        recipes._listed.found[TwoPhase.name] = TwoPhase
        trace = watched(at, do)
        value = action(*arguments, **options)
        value, code = (trace, 0) if value is None else (value, value if action is command else 0)
    except sw.errors.SpikewrightError as error:
        value, code = str(error), error.code
    except BaseException as error:
        value, code = f"{type(error).__name__}: {error}", 99
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    send.send((code, value, *(os.pread(file, 1 << 20, 0).decode() for file in files)))
    os._exit(code)


def watched(at: int | None, do: str) -> list[str]:
    """Trace the points from now on, and do what is to be done at number `at`."""
    trace: list[str] = []

    def fault(name: str) -> None:
        trace.append(name)
        if len(trace) - 1 != at:
            return
        if do == "full":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.kill(os.getpid(), signal.SIGKILL if do == "kill" else signal.Signals[do])

    atomic._fault = fault
    before(trainer.Trainee, "forward", "step")
    before(trainer.Trainer, "_maybe_save", "stepped")
    before(trainer.Trainer, "_accuracy", "validating")
    before(training, "evaluate", "testing")
    return trace


def before(owner: Any, name: str, point: str) -> None:
    call = getattr(owner, name)

    def pointed(*arguments: Any, **options: Any) -> Any:
        atomic.point(point)
        return call(*arguments, **options)

    setattr(owner, name, pointed)


# ---- actions


def train(out: Path, method: str, threads: int = 1, **settings: Any) -> None:
    torch.set_num_threads(threads)
    sw.train(method, "digits", out=out, **SMALL | settings)


def resume(out: Path) -> None:
    sw.resume(out, progress=False, checkpoint_minutes=0.0)


def resume_aloud(out: Path) -> None:
    sw.resume(out, checkpoint_minutes=0.0)


def fit(out: Path, summed: bool) -> None:
    """Plain gradient descent, which a factor on the gradient cannot hide from; the weights go to the file `out`."""
    torch.manual_seed(0)
    body = sw.arch("4C3-P2-12-10", (1, 8, 8), sw.LIF(2.0, v_th=0.1), spiking_output=True)
    snn = sw.SNN(body, 4, sw.encode.Bernoulli())
    loss = sw.losses.KernelSpikeMSE() if summed else sw.losses.RateMSE()
    optimizer = sw.optim.SGD(1e-3 if summed else 0.5)
    start = {f"start.{k}": v.clone() for k, v in snn.state_dict().items()}
    data = sw.load("digits").limited(60)
    settings = {"epochs": 2, "batch": 19, "validation": 0.1, "precision": "float32", "progress": False}
    sw.fit(snn, data, loss=loss, optimizer=optimizer, **settings)
    if os.environ.get("RANK", "0") == "0":
        storage.save_tensors(out, start | snn.state_dict())


def command(*words: str) -> int:
    return cli.main(list(words))


# ---- what is compared


def differences(one: Path, other: Path) -> list[str]:
    """In what two finished runs differ, clocks and memory aside."""
    found = [
        name for name in ("model.safetensors", "model.json") if (one / name).read_bytes() != (other / name).read_bytes()
    ]
    for name in ("config.json", "summary.json"):
        first, second = (json.loads((run / name).read_text()) for run in (one, other))
        keys = (first.keys() | second.keys()) - UNEQUAL
        found += [f"{name}: {key}" for key in sorted(keys) if first.get(key) != second.get(key)]
    lines = [_lines(run / "metrics.jsonl") for run in (one, other)]
    if lines[0] != lines[1]:
        found.append("metrics.jsonl")
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in UNTIMED} for line in lines]


def leftovers(run: Path) -> list[str]:
    """Files of a finished run that should not be there."""
    expected = {"config.json", "metrics.jsonl", "model.json", "model.safetensors", "summary.json"}
    if (run / "conversion.json").exists():  # what a conversion adds
        expected |= {"conversion.json", "ann"}
    return sorted({path.name for path in run.iterdir()} - expected)
