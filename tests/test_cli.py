"""The command line: what it prints, the one line and the exit code for everything that can go wrong."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

import spikewright as sw
from spikewright import cli, data, recipes
from spikewright.arch import names as arch_names
from spikewright.errors import ConfigError
from spikewright.measure import evaluation
from spikewright.storage import Checkpoints, RunFolder, atomic

TINY = ["--limit", "60", "--batch", "20", "--arch", "4C3-P2-20-10", "--steps", "3", "--quiet"]
QUICK = [*TINY, "--epochs", "1"]


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evaluation, "TIMED_SECONDS", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("SPIKEWRIGHT_DATA", raising=False)


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    def main(*words: Any) -> Said:
        capsys.readouterr()
        code = cli.main([str(word) for word in words])
        return Said(code, *capsys.readouterr())

    return main


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    before, evaluation.TIMED_SECONDS = evaluation.TIMED_SECONDS, 0.0
    assert cli.main(["train", "surrogate", *QUICK, "--out", str(folder)]) == 0
    evaluation.TIMED_SECONDS = before
    return folder


def one_line(said: Said, code: int, *parts: str) -> str:
    """The only thing printed is one clean line that says these things."""
    assert (said.code, said.out) == (code, ""), said
    assert said.err.startswith("error: ") and said.err.endswith("\n"), said.err
    line = said.err[:-1]
    assert line.isprintable(), repr(line)
    assert "Traceback" not in line and not any("\u2500" <= c <= "\u257f" for c in line)
    assert len(line) > 20
    for part in parts:
        assert part in line, (part, line)
    return line


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ------------------------------------------------------------------------------------------------ help and listings


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_the_usage_names_every_command(call: Any, words: list[str]) -> None:
    said = call(*words)
    assert said.code == 0 and said.err == ""
    assert all(name in said.out for name in cli.COMMANDS)


def test_the_version(call: Any) -> None:
    assert call("--version") == (0, f"spikewright {sw.__version__}\n", "")


@pytest.mark.parametrize("command", cli.COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_has_help(call: Any, command: str, flag: str) -> None:
    said = call(command, flag)
    assert said.code == 0 and command in said.out and "--" in said.out


@pytest.mark.parametrize(("method", "flag", "told"), [
    ("tssl-bp", "--tau-m", "Membrane time constant"), ("stbp", "--leak", "Leak factor k"),
    ("surrogate", "--epochs", "Passes over the training set"), ("surrogate", "--out", "Run folder"),
])  # fmt: skip
def test_help_of_a_method_has_its_fields_and_their_sentences(call: Any, method: str, flag: str, told: str) -> None:
    said = call("train", method, "--help")
    assert said.code == 0
    assert flag in said.out and told in " ".join(said.out.split())


@pytest.mark.parametrize(
    ("command", "names"), [("methods", recipes.names()), ("datasets", data.names()), ("archs", arch_names())]
)
def test_listings_hold_what_is_registered(call: Any, command: str, names: list[str]) -> None:
    plain, as_json = call(command), call(command, "--json")
    assert plain.code == as_json.code == 0 and plain.err == as_json.err == ""
    assert names and all(name in plain.out for name in names)
    assert {row["name"] for row in json.loads(as_json.out)} == set(names)


# --------------------------------------------------------------------------------------------------------- training


def test_training_without_a_method_says_which_and_prints_the_figures(call: Any, tmp_path: Path) -> None:
    said = call("train", *QUICK, "--out", "mine", "--record", "record.json", "--goal", "90")
    assert said.code == 0, said
    assert "'surrogate'" in said.err.splitlines()[0] and "default" in said.err.splitlines()[0]
    assert "run folder: mine" in said.err
    summary = json.loads(Path("mine/summary.json").read_text())
    assert f"{100 * summary['test_accuracy']:.2f}" in said.out
    record = json.loads(Path("record.json").read_text())
    assert record["test_accuracy"] == summary["test_accuracy"] and record["goal"] == 90.0
    config = json.loads(Path("mine/config.json").read_text())
    assert config["settings"]["steps"] == 3 and config["settings"]["epochs"] == 1 and config["limit"] == 60


def test_a_run_tested_on_a_part_of_the_test_set_says_so_and_is_evaluated_on_all_of_it(call: Any) -> None:
    said = call("train", *QUICK, "--test-limit", "50", "--out", "part", "--record", "record.json")
    assert said.code == 0, said
    summary, record = (json.loads(Path(name).read_text()) for name in ("part/summary.json", "record.json"))
    assert summary["samples"] == 50
    assert "50 of 360 test samples" in record["note"] and "60 of 1,437 training samples" in record["note"]
    assert json.loads(Path("part/config.json").read_text())["test_limit"] == 50
    (row,) = json.loads(call("evaluate", "part", "--json").out)
    assert row["samples"] == 360


def test_flags_come_from_the_fields_and_reach_the_recipe(call: Any) -> None:
    assert call("train", "tssl-bp", *QUICK, "--tau-m", "4.5", "--tau_s=2.5", "--seed", "7", "--out", "r").code == 0
    config = json.loads(Path("r/config.json").read_text())
    assert (config["settings"]["tau_m"], config["settings"]["tau_s"], config["seed"]) == (4.5, 2.5, 7)


def test_presets_of_the_data_set_are_the_defaults(call: Any) -> None:
    preset = recipes.get("tssl-bp").presets["nmnist"]
    said = call("train", "tssl-bp", "--data", "nmnist", "--help")
    assert preset["arch"] in said.out and preset["arch"] not in call("train", "tssl-bp", "--help").out


def test_without_out_a_run_folder_is_made_under_runs(call: Any) -> None:
    assert call("train", "stbp", *QUICK).code == 0
    (made,) = Path("runs").iterdir()
    assert made.name.startswith("stbp-digits-") and (made / "summary.json").exists()


# ------------------------------------------------------------------------------------------------- evaluate, compare


def test_evaluate_at_other_steps_without_training(call: Any, run: Path) -> None:
    said = call("evaluate", run, "--steps", "1,2,4", "--limit", "100", "--json")
    assert said.code == 0 and said.err == ""
    rows = json.loads(said.out)
    assert [row["steps"] for row in rows] == [1, 2, 4]
    assert all(row["samples"] == 100 and len(row["accuracy_by_step"]) == row["steps"] for row in rows)
    assert rows[1]["accuracy_by_step"][0] == rows[0]["accuracy"]
    plain = call("evaluate", run, "--steps", "1,2,4", "--limit", "100")
    assert plain.code == 0 and f"{100 * rows[2]['accuracy']:.2f}" in plain.out


def test_evaluate_gives_the_figures_of_the_summary(call: Any, run: Path) -> None:
    (row,) = json.loads(call("evaluate", run, "--json").out)
    summary = json.loads((run / "summary.json").read_text())
    for name in ("accuracy_by_step", "synops_per_image", "energy_nj_per_image", "spikes_per_image", "params"):
        assert row[name] == summary[name], name


def test_compare_runs_and_recipes(call: Any, run: Path) -> None:
    said = call("compare", run, "stbp", "--epochs", "1", "--limit", "60", "--out", "side", "--json")
    assert said.code == 0
    assert [row["method"] for row in json.loads(said.out)] == ["surrogate", "stbp"]
    png = Path("side/comparison.png").read_bytes()
    assert png.startswith(b"\x89PNG\r\n\x1a\n") and len(png) > 5000
    (trained,) = [path for path in Path("side").iterdir() if path.is_dir()]
    table = call("compare", run, trained, "--out", "side")
    assert table.code == 0 and "stbp" in table.out and "surrogate" in table.out


def test_compare_looks_at_all_names_before_it_trains(call: Any, tmp_path: Path) -> None:
    one_line(call("compare", "stbp", "tssl-pb", "--limit", "60"), 2, "'tssl-pb'", "'tssl-bp'")
    assert files(tmp_path) == []


# ---------------------------------------------------------------------------------------------- what can go wrong: 2


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["trian"], ["unknown command 'trian'", "'train'"]),
        (["train", "tssl-pb"], ["unknown recipe 'tssl-pb'", "'tssl-bp'"]),
        (["train", "stbp", "tssl-bp"], ["found 2", "'tssl-bp'"]),
        (["train", "--data", "digit"], ["'digit'", "'digits'"]),
        (["train", "stbp", "--epoch", "3"], ["'--epoch'", "--epochs"]),
        (["train", "stbp", "--tau-m", "3"], ["'--tau-m'", "train stbp"]),
        (["train", "--epochs", "abc"], ["--epochs", "abc"]),
        (["train", "--epochs"], ["--epochs"]),
        (["train", "--resume"], ["--resume"]),
        (["train", "--precision", "float8"], ["--precision", "float8"]),
        (["train", "stbp", "--schedule", "never"], ["--schedule", "never"]),
        (["train", *QUICK, "--steps", "0"], ["steps is 0", "at least 1"]),
        (["train", *QUICK, "--epochs", "0"], ["epochs is 0", "at least 1"]),
        (["train", *QUICK, "--batch", "-1"], ["batch is -1"]),
        (["train", *QUICK, "--limit", "0"], ["limit is 0", "at least 1"]),
        (["train", *QUICK, "--test-limit", "0"], ["test_limit is 0", "at least 1"]),
        (["train", *QUICK, "--lr", "nan"], ["lr is nan", "finite"]),
        (["train", *QUICK, "--lr", "-1"], ["lr is -1", "above 0"]),
        (["train", *QUICK, "--tau", "0.5"], ["tau is 0.5"]),
        (["train", "stbp", *QUICK, "--leak", "2"], ["leak"]),
        (["train", *QUICK, "--arch", "4C3-Q7-10"], ["'4C3-Q7-10'", "'Q7'", "token 2"]),
        (["train", *QUICK, "--arch", "nonet-5"], ["'nonet-5'"]),
        (["train", *QUICK, "--device", "cuda"], ["device"]),
        (["train", *QUICK, "--validation", "1"], ["validation is 1"]),
        (["train", *QUICK, "--checkpoint-minutes", "nan"], ["checkpoint_minutes is nan"]),
        (["evaluate"], ["run folder"]),
        (["evaluate", "no-run"], ["no-run"]),
        (["compare", "stbp"], ["runs or recipes"]),
        (["compare", "stbp", "stbq", "--epochs", "1"], ["'stbq'"]),
        (["methods", "all"], ["'all'"]),
        (["methods", "--yaml"], ["'--yaml'", "--json"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_bad_usage_is_code_2(call: Any, tmp_path: Path, words: list[str], parts: list[str]) -> None:
    if torch.cuda.is_available() and "cuda" in words:
        pytest.skip("there is a GPU here")
    if words[:1] == ["train"] and len(words) > 1 and words[1].startswith("-"):
        words = ["train", "surrogate", *words[1:]]
    one_line(call(*words), 2, *parts)
    assert files(tmp_path) == []


@pytest.mark.parametrize("flags", [
    ["--steps", "0"], ["--steps", "1,x"], ["--steps", "-1,2"], ["--steps", ","], ["--energy", "3nm"], ["--limit", "0"],
    ["--limit", "-3"], ["--data", "digit"],
])  # fmt: skip
def test_bad_flags_of_evaluate_are_code_2(call: Any, run: Path, flags: list[str]) -> None:
    one_line(call("evaluate", run, *flags), 2, flags[1])


def test_an_existing_run_is_kept(call: Any, run: Path) -> None:
    before = {path: path.read_bytes() for path in run.iterdir()}
    one_line(call("train", "surrogate", *QUICK, "--out", run), 2, "already holds a run", "--resume")
    assert {path: path.read_bytes() for path in run.iterdir()} == before


def test_a_finished_run_is_not_resumed(call: Any, run: Path) -> None:
    one_line(call("train", "--resume", run), 2, "finished")


def test_an_out_that_cannot_be_a_folder(call: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    one_line(call("train", "surrogate", *QUICK, "--out", "file/run"), 2, "file/run")
    one_line(call("train", "surrogate", *QUICK, "--out", "file"), 2, "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_bad_data_is_code_3(call: Any, tmp_path: Path) -> None:
    one_line(call("train", "surrogate", "--data-dir", "nowhere"), 3, "nowhere")
    (tmp_path / "images").mkdir()
    one_line(call("train", "surrogate", "--data", "images"), 3, "images")


# ---------------------------------------------------------------------------------------------- what can go wrong: 4


def test_a_run_that_is_none_is_code_4(call: Any, tmp_path: Path) -> None:
    one_line(call("train", "--resume", "no-run"), 4, "no-run", "config.json")
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
@pytest.mark.parametrize("how", ["flip", "cut", "empty", "gone"])
def test_a_damaged_model_is_code_4(call: Any, run: Path, tmp_path: Path, name: str, how: str) -> None:
    for path in run.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    content = bytearray((run / name).read_bytes())
    content[len(content) // 2] ^= 4
    if how == "gone":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes({"flip": bytes(content), "cut": bytes(content[:-9]), "empty": b""}[how])
    said = call("evaluate", tmp_path)
    one_line(said, 4, name)


@pytest.mark.parametrize("text", ["[]", "null", "{", '{"data": 3}'])
def test_a_damaged_configuration_is_code_4(call: Any, run: Path, tmp_path: Path, text: str) -> None:
    for name in ("model.safetensors", "model.json"):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    (tmp_path / "config.json").write_text(text)
    one_line(call("evaluate", tmp_path), 4, "config.json")
    one_line(call("train", "--resume", tmp_path), 4, "config.json")


# ------------------------------------------------------------------------------------------- what can go wrong: 5, 6, 7


@pytest.mark.parametrize("place", [0, 6, 12, 30, 60])
def test_a_full_disk_is_code_5_and_leaves_nothing_half_written(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: int
) -> None:
    count = iter(range(10_000))

    def full(phase: str) -> None:
        if next(count) >= place:
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr(atomic, "_fault", full)
    one_line(call("train", "surrogate", *QUICK, "--out", "run", "--checkpoint-minutes", "0"), 5, "space")
    monkeypatch.setattr(atomic, "_fault", None)
    assert not list(tmp_path.rglob(".tmp-*")) and not (tmp_path / "run" / ".lock").exists()
    for path in tmp_path.rglob("*.json"):
        json.loads(path.read_text())
    if (tmp_path / "run" / "checkpoint").exists():
        Checkpoints(tmp_path / "run" / "checkpoint").latest()


def test_an_out_that_cannot_be_written_is_code_5(call: Any, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        if not Path("/proc/self").exists():
            pytest.skip("nothing is read-only to root here")
        one_line(call("train", "surrogate", *QUICK, "--out", "/proc/no/run"), 5, "/proc/no/run")
        return
    tmp_path.chmod(0o555)
    one_line(call("train", "surrogate", *QUICK, "--out", "run"), 5, "run", "Permission denied")
    tmp_path.chmod(0o755)


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")])
def test_out_of_memory_is_code_5(call: Any, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(sw.training, "_run", fail)
    one_line(call("train", "surrogate", *QUICK), 5, "memory", "--batch")


def test_a_learning_rate_that_explodes_is_code_6(call: Any) -> None:
    one_line(call("train", "surrogate", *TINY, "--lr", "1e30", "--out", "run"), 6, "NaN or infinite", "epoch")
    assert not Path("run/summary.json").exists()


def test_a_folder_in_use_is_code_7(call: Any) -> None:
    with RunFolder(Path("run")):
        one_line(call("train", "surrogate", *QUICK, "--out", "run"), 7, "in use", str(os.getpid()))
        one_line(call("train", "surrogate", *QUICK, "--out", "run", "--take-over"), 7, "in use")
    assert files(Path("run")) == []


def test_a_fault_of_our_own_is_code_1_and_says_so(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise LookupError("row\n\x1b[31m9")

    monkeypatch.setattr(recipes, "listing", fail)
    one_line(call("methods"), 1, "LookupError", "--debug")


def test_debug_shows_the_traceback(call: Any) -> None:
    with pytest.raises(ConfigError, match="unknown recipe"):
        call("train", "no-such", "--debug")


# --------------------------------------------------------------------------------------------------- hostile strings

HOSTILE = [
    "__import__('os').system('touch canary')", "{__import__('os').system('touch canary')}", "$(touch canary)",
    "`touch canary`", "; touch canary", "| touch canary", "&& touch canary", "\ntouch canary\n",
    "!!python/object/apply:os.system ['touch canary']", "{0.__class__.__mro__}", "%s%s%n", "{}", "{{7*7}}",
    "${jndi:ldap://localhost/a}", "../../../../etc/passwd", "/etc/passwd", "/dev/zero", "..", ".", "~root", "file:///etc",
    "os.system", "spikewright.cli", "backprop.stbp", "recipes/backprop/stbp.py", "stbp\x00", "stbp ", " stbp", "STBP",
    "stbp;tssl-bp", "lambda: 0", "eval('1')", "exec('open(\"canary\",\"w\")')", "'; DROP TABLE runs; --", "<script>",
    "\x1b[2J", "\x1b]0;owned\x07", "\u202ereversed", "a" * 5000, "9" * 400, "\udcff", "[red]markup[/red]",
]  # fmt: skip


@pytest.mark.parametrize("slot", ["command", "recipe", "data", "arch", "flag", "value", "run", "steps"])
def test_hostile_strings_are_refused_and_nothing_runs(
    call: Any, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, slot: str
) -> None:
    monkeypatch.setattr(os, "system", lambda words: pytest.fail(f"ran {words!r}"))
    monkeypatch.setattr(os, "popen", lambda words: pytest.fail(f"ran {words!r}"))
    for text in HOSTILE:
        words = {
            "command": [text],
            "recipe": ["train", text],
            "data": ["train", "surrogate", *QUICK, "--data", text],
            "arch": ["train", "surrogate", *QUICK, "--out", "out", f"--arch={text}"],
            "flag": ["train", "surrogate", f"--{text}"],
            "value": ["train", "surrogate", f"--epochs={text}"],
            "run": ["evaluate", text],
            "steps": ["evaluate", run, f"--steps={text}"],
        }[slot]
        if (slot, text) in {("steps", "9" * 400), ("run", "stbp\x00")}:
            continue  # a number; what no command line can hold
        said = call(*words)
        assert said.code in (2, 3, 4), (text, said)
        one_line(said, said.code)
        assert len(said.err) < 12_000
    assert files(tmp_path) == []


@pytest.mark.parametrize("name", ["\x1b[31mred\x1b[0m", "bell\x07", "two\nlines", "\x9b31m", "\u2028", "\udcfe"])
def test_names_of_folders_never_reach_the_terminal_raw(call: Any, name: str, tmp_path: Path) -> None:
    said = call("train", "surrogate", *QUICK, "--out", name)
    assert said.code == 0 and (tmp_path / name / "summary.json").exists()
    assert all(line.isprintable() for line in said.err.splitlines()), said.err
    one_line(call("train", "surrogate", *QUICK, "--out", name), 2)
    one_line(call("train", "--resume", name), 2)


# ------------------------------------------------------------------------------------------------ real processes


class Started(NamedTuple):
    process: subprocess.Popen[str]
    folder: Path


def start(folder: Path, *words: str, **options: Any) -> Started:
    command = [sys.executable, "-m", "spikewright", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True}
    environment = os.environ | {"XDG_CACHE_HOME": str(folder), "OMP_NUM_THREADS": "1", **options.pop("env", {})}
    return Started(subprocess.Popen(command, cwd=folder, env=environment, **pipes, **options), folder)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Started]]:
    """All the real processes, started together."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("done", "usage", "busy", "full")}
    small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))  # noqa: E731
    with RunFolder(folders["busy"] / "run"):
        started = {
            "done": start(folders["done"], "methods", "--json"),
            "usage": start(folders["usage"], "train", "no-such"),
            "busy": start(folders["busy"], "train", "surrogate", *QUICK, "--out", "run"),
            "full": start(folders["full"], "train", "surrogate", *QUICK, "--out", "run", preexec_fn=small),
        }
        yield started
    for process, _ in started.values():
        process.kill()
        process.communicate()


def ended(started: Started) -> Said:
    out, err = started.process.communicate(timeout=120)
    return Said(started.process.returncode, out, err)


@pytest.mark.parametrize(
    ("name", "code", "part"), [("usage", 2, "'no-such'"), ("busy", 7, "in use"), ("full", 5, "space")]
)
def test_exit_codes_of_processes(processes: dict[str, Started], name: str, code: int, part: str) -> None:
    one_line(ended(processes[name]), code, part)


def test_a_process_that_is_done_ends_with_0(processes: dict[str, Started]) -> None:
    said = ended(processes["done"])
    assert said.code == 0 and said.err == "" and json.loads(said.out)
