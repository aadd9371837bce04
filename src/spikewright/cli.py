"""The command line: it parses, calls the library and prints.

Results go to standard output, progress and messages to standard error. Exit codes: 0 done, 2 bad usage or
configuration, 3 bad data, 4 bad checkpoint or model file, 5 out of memory or disk, 6 numeric failure, 7 run folder
busy, 129/130/143 stopped by a signal (after saving), 1 a fault of ours.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from spikewright.errors import ConfigError, ModelFileError, SpikewrightError, unknown
from spikewright.flags import (
    CompareOptions,
    ConvertOptions,
    EncodeOptions,
    EvaluateOptions,
    ListOptions,
    NeuronOptions,
    ResumeOptions,
    RunOptions,
    numbers,
    operands,
    parse,
    peek,
)

__all__ = ["main"]

# ---- the commands


def train(words: list[str]) -> None:
    """train a network: spikewright train [METHOD] --data NAME [flags of the method]"""
    method, flags = operands(words, most=1)
    if (run := peek(flags, "--resume")) is not None:
        from spikewright.training import resume

        options = parse(ResumeOptions, flags, "train --resume RUN")
        resume(run, progress=not options.quiet, checkpoint_minutes=options.checkpoint_minutes)
        _close(Path(run), options)
        return
    from spikewright import recipes
    from spikewright.training import DEFAULT_METHOD

    name = method[0] if method else DEFAULT_METHOD
    if not method and "--help" not in flags and "-h" not in flags:
        print(f"no method named: training {name!r}, the default (spikewright methods lists all)", file=sys.stderr)
    kind = recipes.get(name)
    defaults = asdict(kind.for_data(peek(flags, "--data") or RunOptions.data))
    both: Any = dataclass(type(f"{kind.__name__}Flags", (RunOptions, kind), {"__doc__": kind.__doc__}))
    chosen = parse(both, flags, f"train {name}", default=both(**defaults))
    out = chosen.out or Path("runs") / f"{name}-{Path(chosen.data).name}-{datetime.now():%Y%m%d-%H%M%S}"
    settings = {f.name: getattr(chosen, f.name) for f in fields(kind)}
    if chosen.dry_run:
        _forecast(name, chosen, settings)
        return
    _train(name, chosen, out, settings)
    _close(out, chosen)


def _forecast(method: str, options: RunOptions, settings: dict[str, Any]) -> None:
    from spikewright.report import forecast_table
    from spikewright.training import forecast

    where = {name: getattr(options, name) for name in ("data_dir", "device", "precision", "memory")}
    _print(forecast_table(forecast(method, options.data, **where, **settings), options.memory))


def _train(method: str, options: RunOptions, out: Path, settings: dict[str, Any]) -> None:
    from spikewright.training import train as train_

    train_(
        method,
        options.data,
        out=out,
        data_dir=options.data_dir,
        limit=options.limit,
        test_limit=options.test_limit,
        seed=options.seed,
        validation=options.validation,
        device=options.device,
        precision=options.precision,
        memory=options.memory,
        progress=not options.quiet,
        take_over=options.take_over,
        checkpoint_minutes=options.checkpoint_minutes,
        **settings,
    )


def _close(out: Path, options: ResumeOptions) -> None:
    """The closing table, on the process that wrote the run."""
    from spikewright.report import closing_table, conversion_table, write_result
    from spikewright.storage import read_json

    if int(os.environ.get("RANK", "0")) != 0:
        return
    summary = read_json(out / "summary.json")
    if (out / "conversion.json").exists():
        _print(conversion_table(read_json(out / "conversion.json")))
    _print(closing_table(summary))
    print(_plain(f"run folder: {out}"), file=sys.stderr)
    if options.record is not None:
        notes = [note for note in (options.note, summary["note"]) if note]
        write_result(summary | {"goal": options.goal, "note": "; ".join(notes)}, options.record)


def evaluate(words: list[str]) -> None:
    """accuracy, spikes, operations and energy of a trained run: spikewright evaluate RUN --steps 1,2,4,8"""
    (run,), flags = operands(words, least=1, most=1, what="a run folder")
    options = parse(EvaluateOptions, flags, "evaluate RUN")
    import torch

    from spikewright import data, measure, model_file
    from spikewright.report import comparison_table
    from spikewright.storage import read_json

    folder = Path(run)
    snn = model_file.load_model(folder)
    config = read_json(folder / "config.json") if (folder / "config.json").exists() else {}
    if not isinstance(config, dict) or not isinstance(config.get("data", ""), str):
        raise ModelFileError(f"{folder / 'config.json'} is not a run's configuration: restore it from a copy")
    name = options.data or config.get("data")
    if name is None:
        raise ConfigError(f"{folder} has no config.json that names its data: say --data NAME")
    if options.limit is not None and options.limit < 1:
        raise ConfigError(f"--limit is {options.limit}, expected at least 1 test sample")
    steps = numbers(options.steps, "--steps") if options.steps else [snn.steps]
    found = data.load(name, data_dir=options.data_dir or config.get("data_dir"))
    summary = read_json(folder / "summary.json") if (folder / "summary.json").exists() else {}
    precision = options.precision or (summary.get("precision") if isinstance(summary, dict) else None) or "float32"
    rows = []
    for t in steps:
        split = found.with_steps(t).test
        split = split.subset(torch.arange(len(split))[: options.limit])
        figures = measure.evaluate(snn, split, steps=t, table=options.energy, precision=precision).to_json()
        said = {"method": config.get("method", folder.name), "dataset": name, "test_accuracy": figures["accuracy"]}
        rows.append(said | figures)
    _show(rows, options.json, comparison_table)


def compare(words: list[str]) -> None:
    """runs or recipes side by side: spikewright compare stbp tssl-bp runs/mine --data digits"""
    given, flags = operands(words, least=2, what="runs or recipes")
    options = parse(CompareOptions, flags, "compare METHOD-OR-RUN ...")
    from spikewright import recipes
    from spikewright.report import comparison_table
    from spikewright.storage import read_json

    settings = {} if options.epochs is None else {"epochs": options.epochs}
    finished = {word for word in given if (Path(word) / "summary.json").exists()}
    plans = {word: recipes.get(word).for_data(options.data, **settings) for word in given if word not in finished}
    runs = []
    for word in given:
        if word in finished:
            runs.append(Path(word))
            continue
        out = options.out / f"{word}-{Path(options.data).name}-{datetime.now():%Y%m%d-%H%M%S}"
        common = {
            f.name: getattr(options, f.name) for f in fields(options) if f.name in ("data", "data_dir", "limit", "seed")
        }
        print(f"training {word} ...", file=sys.stderr)
        _train(word, RunOptions(**common), out, asdict(plans[word]))
        runs.append(out)
    from spikewright.report.figures import comparison_png  # loads matplotlib

    summaries = [read_json(run / "summary.json") for run in runs]
    options.out.mkdir(parents=True, exist_ok=True)
    comparison_png(summaries, options.out / "comparison.png")
    _show(summaries, options.json, comparison_table)
    print(f"figure: {options.out / 'comparison.png'}", file=sys.stderr)


def convert(words: list[str]) -> None:
    """a torch model of your own to an SNN: spikewright convert MODEL.py:make --weights FILE.safetensors --data NAME"""
    (model,), flags = operands(words, least=1, most=1, what="MODEL.py:FUNCTION")
    from spikewright import recipes
    from spikewright.conversion import methods, run_conversion

    name = peek(flags, "--method") or ConvertOptions.method
    if name not in methods():
        recipes.get(name)  # says what is close
        raise ConfigError(f"recipe {name!r} does not convert a given ANN; these do: {', '.join(methods())}")
    kind = recipes.get(name)
    own = [f for f in fields(kind) if f.name not in ("arch", "epochs", "batch", "lr", "ann")]
    both: Any = dataclass(type("ConvertFlags", (ConvertOptions, kind), {"__doc__": kind.__doc__}))
    chosen = parse(both, flags, f"convert {model or 'MODEL.py:FUNCTION'}", default=both(**asdict(kind())))
    out = chosen.out or Path("runs") / f"{name}-{Path(chosen.data).name}-{datetime.now():%Y%m%d-%H%M%S}"
    settings = {f.name: getattr(chosen, f.name) for f in own}
    run_conversion(model, chosen, out, settings)
    if chosen.json:
        print((out / "conversion.json").read_text())
    else:
        _close(out, ResumeOptions())


def experiment(words: list[str]) -> None:
    """a paper's table run again, theirs beside ours: spikewright experiment NAME (without a name: what there is)"""
    from spikewright import experiments
    from spikewright.report import experiment_table

    given, flags = operands(words, most=1, what="an experiment")
    if not given or not given[0]:
        _list(flags, "experiment", experiments.listing, ("name", "paper", "about"))
        return
    kind = experiments.get(given[0])
    chosen = parse(kind, flags, f"experiment {kind.name}")
    rows = chosen.run()
    _print(experiment_table([asdict(row) for row in rows], kind.paper))
    if chosen.curves:
        from spikewright.report.figures import curves_png  # loads matplotlib

        curves_png(chosen.curves, chosen.folder / "experiment.png", chosen.axes)
    print(_plain(f"folder: {chosen.folder}"), file=sys.stderr)


def neuron(words: list[str]) -> None:
    """one neuron under a constant current: spikewright neuron izhikevich --pattern RS --current 10"""
    (name,), flags = operands(words, least=1, most=1, what="a neuron")
    options = parse(NeuronOptions, flags, "neuron NAME")
    from spikewright.neurons import Izhikevich
    from spikewright.neurons.single import KINDS, simulate
    from spikewright.report.figures import trace_png

    if name not in KINDS:
        raise ConfigError(f"there is no neuron {name!r}; there are {', '.join(KINDS)}")
    kind = KINDS[name]
    h = kind.h if options.h is None else options.h
    current = kind.current if options.current is None else options.current
    if name == "izhikevich":
        made: Any = Izhikevich.pattern(options.pattern, h, options.half_step)
    else:
        made = kind.make(h)
    trace = simulate(made, current, options.duration, h)
    title = f"{name} {options.pattern}" if name == "izhikevich" else name
    trace_png(trace.v, trace.steps, h, f"{title}, current {current:g} {kind.unit}".rstrip(), options.out)
    times = [round(t, 6) for t in trace.times.tolist()]
    if options.json:
        print(json.dumps({"neuron": name, "current": current, "h": h, "spikes": len(times), "times_ms": times}))
    else:
        print(f"{title}: {len(times)} spikes in {options.duration:g} ms, in steps of {h:g} ms")
        print(" ".join(f"{t:.10g}" for t in times))
    print(_plain(f"figure: {options.out}"), file=sys.stderr)


def encode(words: list[str]) -> None:
    """the spikes an image becomes: spikewright encode IMAGE --scheme latency"""
    (path,), flags = operands(words, least=1, most=1, what="an image file")
    options = parse(EncodeOptions, flags, "encode IMAGE")
    from spikewright.data.folder import read_image
    from spikewright.encode import scheme
    from spikewright.report.figures import raster_png

    if options.steps < 1:
        raise ConfigError(f"--steps is {options.steps}, expected at least 1")
    encoder = scheme(options.scheme)
    image = read_image(Path(path), options.size)
    spikes = encoder.run(image[None], 0, options.steps, options.steps, options.seed)[:, 0].flatten(1)
    raster_png(spikes, image, options.scheme, options.out)
    fired = spikes != 0
    at = fired.any(1).nonzero()[:, 0]
    facts = {
        "scheme": options.scheme,
        "inputs": spikes.shape[1],
        "steps": options.steps,
        "spikes": int(fired.sum()),
        "silent_inputs": int((~fired.any(0)).sum()),
        "first_step": int(at[0]) if len(at) else None,
        "last_step": int(at[-1]) if len(at) else None,
    }
    print(json.dumps(facts) if options.json else "\n".join(f"{k.replace('_', ' '):<14} {v}" for k, v in facts.items()))
    print(_plain(f"figure: {options.out}"), file=sys.stderr)


def methods(words: list[str]) -> None:
    """the recipes there are, with what their papers report and what our records reached"""
    from spikewright import recipes
    from spikewright.report import recorded

    def rows() -> list[dict[str, Any]]:
        reached = recorded()
        return [row | {"reached": reached.get(row["name"], {})} for row in recipes.listing()]

    _list(words, "methods", rows, ("name", "family", "paper", "reports", "reached", "about"))


def datasets(words: list[str]) -> None:
    """the data sets there are, and where they come from"""
    from spikewright import data

    _list(words, "datasets", data.describe, ("name", "train", "test", "shape", "found", "fetch"))


def archs(words: list[str]) -> None:
    """the named architectures there are"""
    from spikewright.arch import describe

    _list(words, "archs", describe, ("name", "description", "input", "parameters", "paper"))


COMMANDS: dict[str, Callable[[list[str]], None]] = {
    c.__name__: c for c in (train, evaluate, compare, convert, experiment, neuron, encode, methods, datasets, archs)
}


# ---- parsing and printing


def _list(words: list[str], command: str, rows: Callable[[], Any], columns: Sequence[str]) -> None:
    _, flags = operands(words, most=0, what="no word")
    options = parse(ListOptions, flags, command)
    from spikewright.report import listing_table

    _show(rows(), options.json, lambda found: listing_table(found, columns))


def _show(rows: Any, as_json: bool, table: Callable[[Any], Any]) -> None:
    if as_json:
        print(json.dumps(rows, indent=2, allow_nan=False))
    else:
        _print(table(rows))


def _print(table: Any) -> None:
    from rich.console import Console

    wide = None if sys.stdout.isatty() else 140
    Console(width=wide).print(table)


def _plain(text: str) -> str:
    """Text on one line, with control characters escaped: a terminal must not obey the name of a file."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in " ".join(text.split()))


def _usage() -> str:
    lines = [f"  {name:<10} {(f.__doc__ or '').splitlines()[0]}" for name, f in COMMANDS.items()]
    return "\n".join(
        [
            "spikewright: train spiking neural networks for classification, and see what each method costs",
            "",
            "usage: spikewright COMMAND ... [--help] [--debug]",
            "",
            *lines,
            "",
            "start with: spikewright train --data digits",
        ]
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [w for w in words if w != "--debug"]
    try:
        return _dispatch(words)
    except SystemExit as stop:
        return int(stop.code or 0)
    except BaseException as error:
        if debug and not isinstance(error, KeyboardInterrupt):
            raise
        code, line = _verdict(error)
        print(_plain(f"error: {line}"), file=sys.stderr)
        return code


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        print(_usage())
        return 0
    if words[0] == "--version":
        import spikewright

        print(f"spikewright {spikewright.__version__}")
        return 0
    if words[0] not in COMMANDS:
        raise unknown("command", words[0], COMMANDS)
    COMMANDS[words[0]](words[1:])
    return 0


def _verdict(error: BaseException) -> tuple[int, str]:
    """Exit code and one line for whatever came up."""
    if isinstance(error, SpikewrightError):
        return error.code, str(error)
    if type(error).__name__ == "Interrupted":
        number = getattr(error, "number", 2)
        return 128 + number, f"{error}: saved; go on with spikewright train --resume RUN"
    if isinstance(error, KeyboardInterrupt):
        return 130, "interrupted (a run that has begun goes on with spikewright train --resume RUN)"
    if isinstance(error, BrokenPipeError):
        return 141, "the reader of this output went away"
    text = str(error)
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "can't allocate memory" in text:
        return 5, "out of memory: lower --batch or --steps"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return 5, f"the disk is full ({error.filename}): make room and go on with --resume"
    if isinstance(error, OSError):
        return 2, f"{str(error.filename)!r:.200}: {error.strerror or error}; check the path and its permissions"
    return 1, f"a fault of spikewright's own, {type(error).__name__}: {text}; --debug shows where"
