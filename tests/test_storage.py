"""Storage under kills, full disks, damage, hostile files and races."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import random
import resource
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from spikewright.errors import BusyError, ConfigError, ModelFileError, ResourceError, SpikewrightError
from spikewright.storage import (
    Checkpoints,
    RunFolder,
    atomic,
    load_pair,
    load_tensors,
    pair,
    read_json,
    save_pair,
    save_tensors,
    write_atomic,
    write_json,
)

FILES = ("tensors.safetensors", "state.json", "SHA256SUMS")


@pytest.fixture(autouse=True)
def no_fault() -> Iterator[None]:
    yield
    atomic._fault = None


def tensors(seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {"w": torch.randn(7, 5, generator=draw), "n": torch.tensor(seed), "s": torch.rand(9, generator=draw) < 0.5}


def bits(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.dtype, tensor.shape, tensor.contiguous().flatten().view(torch.uint8).tolist()


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(bits(a[k]) == bits(b[k]) for k in a)


def one_line(error: BaseException) -> str:
    assert str(error) and "\n" not in str(error)
    return str(error)


def temporaries(folder: Path) -> list[str]:
    return [str(p) for p in folder.rglob(".tmp-*")]


def in_child(action: Callable[[], Any]) -> int:
    """Run `action` in a fork; minus the signal that ended it, or its exit code (an error's own, 99 for a bug)."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            action()
            code = 0
        except SpikewrightError as error:
            code = error.code
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def phases(action: Callable[[], Any]) -> list[str]:
    seen: list[str] = []
    atomic._fault = seen.append
    action()
    atomic._fault = None
    return seen


def at(index: int, do: Callable[[], Any]) -> Callable[[str], None]:
    """A fault that calls `do` at the phase with this index."""
    count = iter(range(10_000))
    return lambda _: do() if next(count) == index else None


def killed(index: int, action: Callable[[], Any]) -> None:
    """Run `action` in a fork that kills itself at a phase; fails unless it did die of that."""

    def run() -> None:
        atomic._fault = at(index, lambda: os.kill(os.getpid(), signal.SIGKILL))
        action()

    ended = in_child(run)
    assert ended == -signal.SIGKILL


def no_space() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


# ------------------------------------------------------------------------------------------------------ single files


@pytest.mark.parametrize(
    "dtype",
    [
        torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8, torch.int16, torch.int32, torch.int64,
        torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn,
    ],
)  # fmt: skip
def test_tensors_round_trip_bit_exact(tmp_path: Path, dtype: torch.dtype) -> None:
    raw = torch.randint(0, 2 if dtype == torch.bool else 256, (96,), dtype=torch.uint8)
    grid = raw.view(dtype).reshape(6, -1)
    saved = {"größe.权重 ☃": grid, "t": grid.t(), "row": grid[1], "0-dim": grid[0, 0], "none": grid[:0], "again": grid}
    save_tensors(tmp_path / "t", saved)
    loaded = load_tensors(tmp_path / "t")
    assert same(saved, loaded)
    loaded["t"].zero_()
    assert bits(loaded["again"]) == bits(grid)


def test_nan_payloads_parameters_and_shared_memory_survive(tmp_path: Path) -> None:
    weird = torch.tensor([0x7FC00001, 0x7F800001, -1, 1, -(2**31)], dtype=torch.int32).view(torch.float32)
    parameter = torch.nn.Parameter(torch.rand(3))
    save_tensors(tmp_path / "t", {"weird": weird, "a": parameter, "b": parameter, "conj": torch.rand(2) * 1j})
    loaded = load_tensors(tmp_path / "t")
    assert bits(loaded["weird"]) == bits(weird)
    assert bits(loaded["a"]) == bits(loaded["b"]) == bits(parameter.detach())
    assert not loaded["a"].requires_grad


def test_what_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "j", {"old": 1})
    for bad in (float("nan"), float("inf"), {1, 2}, torch.ones(1), b"x"):
        with pytest.raises(ConfigError) as caught:
            write_json(tmp_path / "j", {"x": bad})
        assert "'" + str(tmp_path / "j") + "'" in one_line(caught.value)
    assert read_json(tmp_path / "j") == {"old": 1}
    for tensor in (torch.eye(2).to_sparse(), torch.empty(2, device="meta")):
        with pytest.raises(ConfigError) as caught:
            save_tensors(tmp_path / "t", {"w": tensor})
        one_line(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["j"]


def test_json_keeps_order_and_any_text(tmp_path: Path) -> None:
    obj = {"z": [1, 2.5, None, True], "a": {"ünï": "☃ \udcff \x1b[31m\n"}, "n": 2**70, "f": 0.1 + 0.2}
    write_json(tmp_path / "j", obj)
    assert read_json(tmp_path / "j") == obj and list(read_json(tmp_path / "j")) == list(obj)
    assert b"\x1b" not in (tmp_path / "j").read_bytes()


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[NaN]", b"[-Infinity]", b"\xff\xfe", b"[" * 200_000, b"{} x", b"9" * 5000, b'"\n"']
)
def test_damaged_json_is_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "j").write_bytes(data)
    with pytest.raises(ModelFileError) as caught:
        read_json(tmp_path / "j")
    assert str(tmp_path / "j") in one_line(caught.value)


def test_reading_checks_kind_and_size_first(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path / "fifo", tmp_path, tmp_path / "absent", tmp_path / "absent" / "x", Path("/dev/zero")):
        for read in (read_json, load_tensors):
            with pytest.raises(ConfigError) as caught:
                read(path)
            assert str(path) in one_line(caught.value)
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModelFileError, match="holds 1099511627776 bytes"):
        read_json(tmp_path / "huge")
    with pytest.raises(ResourceError, match="memory"):
        load_tensors(tmp_path / "huge")
    with pytest.raises(ConfigError) as caught:
        read_json(tmp_path / "a\nb\x1b[31m")
    assert "\x1b" not in one_line(caught.value)


def test_hostile_safetensors_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t"

    def header(obj: Any, data: bytes = b"") -> bytes:
        text = json.dumps(obj).encode()
        return len(text).to_bytes(8, "little") + text + data

    def tensor(shape: list[int], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
        return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}

    hostile = [
        b"", b"\0" * 8, (1 << 40).to_bytes(8, "little") + b"{}", b"\xff" * 64, header([]), header({"w": 1}),
        header({"w": tensor([1 << 40], 0, 1 << 42)}), header({"w": tensor([2], 0, 8)}, b"1234"),
        header({"w": tensor([1 << 32, 1 << 32], 0, 0)}), header({"w": tensor([-1], 0, 4)}, b"1234"),
        header({"w": tensor([1], 0, 4, "PY")}, b"1234"), header({"w": tensor([1], 4, 0)}, b"1234"),
        header({"v": tensor([1], 0, 4), "w": tensor([1], 0, 4)}, b"1234"), header({"w": tensor([1], 0, 4)}, b"12345"),
        pickle.dumps({"w": [1.0]}),
    ]  # fmt: skip
    for data in hostile:
        path.write_bytes(data)
        with pytest.raises(ModelFileError) as caught:
            load_tensors(path)
        assert str(path) in one_line(caught.value)

    save_tensors(path, tensors(1))
    good, draw, refused = path.read_bytes(), random.Random(0), 0
    for _ in range(300):
        data = bytearray(good)
        where = draw.randrange(len(data))
        match draw.randrange(3):
            case 0:
                data[where] ^= 1 << draw.randrange(8)
            case 1:
                del data[where:]
            case 2:
                data[where:where] = draw.randbytes(draw.randrange(1, 20))
        path.write_bytes(data)
        try:
            load_tensors(path)
        except ModelFileError:
            refused += 1
    assert 200 <= refused < 300  # flips in the numbers themselves need a checksum


def test_write_atomic_killed_or_full_at_every_phase(tmp_path: Path) -> None:
    path = tmp_path / "f"
    steps = phases(lambda: write_atomic(tmp_path / "scratch", b"x"))
    assert steps == ["before-open", "opened", "half-written", "written", "synced", "renamed"]
    for index, phase in enumerate(steps):
        path.write_bytes(b"old")
        killed(index, lambda: write_atomic(path, b"new"))
        assert path.read_bytes() == (b"new" if phase == "renamed" else b"old")
        assert len(temporaries(tmp_path)) == (phase not in ("renamed", "before-open"))
        atomic.sweep(tmp_path)
        assert temporaries(tmp_path) == []

        path.write_bytes(b"old")
        atomic._fault = at(index, no_space)
        with pytest.raises(ResourceError) as caught:
            write_atomic(path, b"new")
        atomic._fault = None
        assert str(path) in one_line(caught.value) and "space" in str(caught.value)
        assert path.read_bytes() == (b"new" if phase == "renamed" else b"old")
        assert temporaries(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EDQUOT, ResourceError), (errno.EFBIG, ResourceError), (errno.EACCES, ResourceError),
     (errno.EROFS, ResourceError), (errno.ENOENT, ResourceError), (errno.EIO, ResourceError),
     (errno.ENOTDIR, ConfigError)],
)  # fmt: skip
def test_every_failure_of_the_system_has_its_class(tmp_path: Path, number: int, kind: type[SpikewrightError]) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number))

    atomic._fault = at(3, fail)
    with pytest.raises(SpikewrightError) as caught:
        Checkpoints(tmp_path).save(1, tensors(1), {})
    assert type(caught.value) is kind and os.strerror(number) in one_line(caught.value)
    assert temporaries(tmp_path) == []


def test_paths_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    for write in (
        lambda: write_json(tmp_path / "file" / "j", 1),
        lambda: write_json(tmp_path, 1),
        lambda: Checkpoints(tmp_path / "file").save(1, {}, {}),
        lambda: RunFolder(tmp_path / "file").__enter__(),
        lambda: save_pair(tmp_path / "file", "model", {}, {}),
        lambda: Checkpoints(tmp_path / "file").latest(),
    ):
        with pytest.raises(ConfigError) as caught:
            write()
        assert str(tmp_path) in one_line(caught.value)
    with pytest.raises(ResourceError):
        write_json(tmp_path / "vanished" / "j", 1)
    assert sorted(os.listdir(tmp_path)) == ["file"] and (tmp_path / "file").read_bytes() == b"x"


def test_folder_that_cannot_be_synced_is_tolerated_but_a_failing_disk_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, number = os.fsync, errno.EINVAL

    def fsync(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomic(tmp_path / "f", b"x")
    number = errno.EIO
    with pytest.raises(ResourceError):
        write_atomic(tmp_path / "f", b"y")


def test_everything_is_on_the_disk_before_it_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of flushes and renames, which a kill cannot show and a power cut would."""
    calls: list[str] = []
    fsync = os.fsync

    def record(rename: Callable[..., None]) -> Callable[..., None]:
        return lambda old, new: (calls.append(f"-> {Path(new).name}"), rename(old, new))[1]

    def synced(descriptor: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        calls.append("temp" if name.startswith(".tmp-") else name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", record(os.rename))
    monkeypatch.setattr(os, "replace", record(os.replace))
    write_atomic(tmp_path / "f", b"x")
    assert calls == ["temp", "-> f", tmp_path.name]
    calls.clear()
    Checkpoints(tmp_path / "c").save(1, {}, {})
    assert calls == [tmp_path.name, *FILES, "temp", "-> step-0000001", "c"]
    calls.clear()
    save_pair(tmp_path / "m", "model", {}, {})
    public = ["model.safetensors", "model.json"]
    assert calls == [*public, "temp", "-> .model.new", "m", *(f"-> {name}" for name in public), "m"]
    calls.clear()
    RunFolder(tmp_path).append_line("l", {})
    assert calls == ["l", tmp_path.name]


# ------------------------------------------------------------------------------------------------------- checkpoints


def three(folder: Path) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep=3)
    for step in (1, 2, 3):
        checkpoints.save(step, tensors(step), {"step": step, "order": [3, 1, 2]})
    return checkpoints


def reseal(folder: Path) -> None:
    """Make sums and size agree with what is in the folder, as somebody who forges a checkpoint would."""
    state = json.loads((folder / FILES[1]).read_bytes())
    state["tensors_bytes"] = (folder / FILES[0]).stat().st_size
    (folder / FILES[1]).write_text(json.dumps(state))
    lines = (f"{hashlib.sha256((folder / f).read_bytes()).hexdigest()}  {f}\n" for f in FILES[:2])
    (folder / FILES[2]).write_text("".join(lines))


def test_checkpoints_round_trip_and_expire(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "a" / "b")
    assert checkpoints.latest() is None
    state = {"rng": "äö", "best": None, "nested": {"x": [1, 2.5]}}
    for step in (0, 5, 12345678):
        path = checkpoints.save(step, tensors(step), state | {"step": step})
        assert path.is_dir() and sorted(os.listdir(path)) == sorted(FILES)
        found = checkpoints.latest()
        assert found is not None
        assert found[0] == step and same(found[1], tensors(step)) and found[2] == state | {"step": step}
    assert sorted(os.listdir(tmp_path / "a" / "b")) == ["step-0000005", "step-12345678"]
    assert json.loads((path / "state.json").read_bytes())["format"] == 1
    with pytest.raises(ConfigError):
        checkpoints.save(12345679, {}, {"nan": float("nan")})
    with pytest.raises(ConfigError):
        checkpoints.save(-1, {}, {})
    with pytest.raises(ConfigError):
        Checkpoints(tmp_path, keep=1)
    assert checkpoints.latest()[0] == 12345678  # type: ignore[index]


def test_a_step_saved_again_wins_and_nothing_is_written_over(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    for value in range(12):
        checkpoints.save(7, tensors(value), {"value": value})
        assert checkpoints.latest()[2] == {"value": value}  # type: ignore[index]
    assert sorted(os.listdir(tmp_path)) == ["step-0000007.10", "step-0000007.11"]


def test_checkpoint_killed_at_every_phase(tmp_path: Path) -> None:
    template = tmp_path / "template"
    for step in (1, 2):
        Checkpoints(template).save(step, tensors(step), {"step": step})

    def save(folder: Path, step: int) -> None:
        Checkpoints(folder).save(step, tensors(step), {"step": step})

    shutil.copytree(template, tmp_path / "scratch")
    steps = phases(lambda: save(tmp_path / "scratch", 3))
    assert len(steps) == 20 and steps.count("half-written") == 3 and steps[-1] == "set-aside"
    commit = steps.index("folder-renamed")
    for index in range(len(steps)):
        folder = tmp_path / f"{index}"
        shutil.copytree(template, folder)
        killed(index, lambda folder=folder: save(folder, 3))
        assert bool(temporaries(folder)) == (0 < index < commit or steps[index] == "set-aside")
        checkpoints = Checkpoints(folder)
        step, found, state = checkpoints.latest()  # type: ignore[misc]
        assert step == state["step"] == (3 if index >= commit else 2)
        assert same(found, tensors(step)) and checkpoints.damaged == []
        save(folder, 4)
        assert temporaries(folder) == []
        assert sorted(os.listdir(folder)) == [f"step-000000{step}", "step-0000004"]


def test_first_checkpoint_killed_at_every_phase_leaves_none_or_one(tmp_path: Path) -> None:
    def save(folder: Path) -> None:
        Checkpoints(folder).save(1, tensors(1), {})

    steps = phases(lambda: save(tmp_path / "scratch"))
    for index in range(len(steps)):
        folder = tmp_path / f"{index}"
        killed(index, lambda folder=folder: save(folder))
        assert (Checkpoints(folder).latest() is None) == (index < steps.index("folder-renamed"))


def test_checkpoint_disk_full_at_every_phase(tmp_path: Path) -> None:
    template = tmp_path / "template"
    for step in (1, 2):
        Checkpoints(template).save(step, tensors(step), {"step": step})
    shutil.copytree(template, tmp_path / "scratch")
    steps = phases(lambda: Checkpoints(tmp_path / "scratch").save(3, tensors(3), {}))
    for index in range(len(steps)):
        folder = tmp_path / f"{index}"
        shutil.copytree(template, folder)
        checkpoints = Checkpoints(folder)
        atomic._fault = at(index, no_space)
        with pytest.raises(ResourceError) as caught:
            checkpoints.save(3, tensors(3), {"step": 3})
        atomic._fault = None
        assert str(folder) in one_line(caught.value) and temporaries(folder) == []
        step, found, state = checkpoints.latest()  # type: ignore[misc]
        assert step == state["step"] == (3 if index >= steps.index("folder-renamed") else 2)
        assert same(found, tensors(step)) and checkpoints.damaged == []
        checkpoints.save(4, tensors(4), {})
        assert temporaries(folder) == [] and len(os.listdir(folder)) == 2


def test_file_size_limit_at_thirty_offsets(tmp_path: Path) -> None:
    """A limit set by the system itself makes the write fail part of the way through."""
    checkpoints, big = Checkpoints(tmp_path), {"w": torch.arange(20_000.0)}
    checkpoints.save(1, tensors(1), {})
    save_pair(tmp_path / "pair", "model", tensors(1), {})
    size = (checkpoints.save(2, big, {}) / FILES[0]).stat().st_size

    def limited(limit: int, action: Callable[[], Any]) -> int:
        def run() -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            action()

        return in_child(run)

    for limit in range(0, size, size // 29):
        assert limited(limit, lambda: checkpoints.save(3, big, {})) == ResourceError.code
        assert temporaries(tmp_path) == [] and len(os.listdir(tmp_path)) == 3
    assert checkpoints.latest()[0] == 2 and checkpoints.damaged == []  # type: ignore[index]
    assert limited(size // 2, lambda: save_pair(tmp_path / "pair", "model", big, {})) == ResourceError.code
    assert same(load_pair(tmp_path / "pair", "model")[0], tensors(1)) and temporaries(tmp_path) == []
    ended = limited(size, lambda: checkpoints.save(3, big, {}))
    assert ended == 0
    assert checkpoints.latest()[0] == 3  # type: ignore[index]


def flip(folder: Path) -> None:
    data = bytearray((folder / FILES[0]).read_bytes())
    data[-3] ^= 1
    (folder / FILES[0]).write_bytes(data)


def edit(name: str, change: Callable[[bytes], bytes]) -> Callable[[Path], Any]:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def instead(make: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def do(folder: Path) -> None:
        (folder / FILES[1]).unlink()
        make(folder / FILES[1])

    return do


def as_link(folder: Path) -> None:
    shutil.move(folder / FILES[0], folder.parent / "elsewhere")
    (folder / FILES[0]).symlink_to(folder.parent / "elsewhere")


def folder_as_link(folder: Path) -> None:
    shutil.move(folder, folder.parent / "elsewhere")
    folder.symlink_to(folder.parent / "elsewhere")


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "flip": flip,
    "flip in state": edit(FILES[1], lambda data: data.replace(b"3", b"2")),
    "flip in format": edit(FILES[1], lambda data: data.replace(b'"format": 1', b'"format": 3')),
    "truncate": edit(FILES[0], lambda data: data[:-1]),
    "truncate sums": edit(FILES[2], lambda data: data[:-2]),
    "insert": edit(FILES[0], lambda data: data[:20] + b"\0" + data[20:]),
    "append": edit(FILES[1], lambda data: data + b" "),
    "remove tensors": lambda folder: (folder / FILES[0]).unlink(),
    "remove state": lambda folder: (folder / FILES[1]).unlink(),
    "remove sums": lambda folder: (folder / FILES[2]).unlink(),
    "sums of another": lambda folder: shutil.copy(folder.parent / "step-0000002" / FILES[2], folder),
    "swapped sums": edit(FILES[2], lambda data: b"".join(data.splitlines(keepends=True)[::-1])),
    "one more sum": edit(FILES[2], lambda data: data + b"0" * 64 + b"  ../../etc/passwd\n"),
    "empty file": edit(FILES[0], lambda data: b""),
    "empty sums": edit(FILES[2], lambda data: b""),
    "directory in place": instead(Path.mkdir),
    "fifo in place": instead(os.mkfifo),
    "link in place": as_link,
    "folder is a link": folder_as_link,
    "folder is a file": lambda folder: (shutil.rmtree(folder), folder.write_bytes(b"")),
    "empty folder": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
    "another step's": lambda folder: shutil.copytree(folder.parent / "step-0000002", folder, dirs_exist_ok=True),
    "sparse terabyte": lambda folder: os.truncate(folder / FILES[0], 1 << 40),
    "state that is a list": lambda folder: ((folder / FILES[1]).write_text("[]"), _sums_only(folder)),
    "state without fields": lambda folder: ((folder / FILES[1]).write_text('{"format": 1}'), _sums_only(folder)),
}


def _sums_only(folder: Path) -> None:
    lines = (f"{hashlib.sha256((folder / f).read_bytes()).hexdigest()}  {f}\n" for f in FILES[:2])
    (folder / FILES[2]).write_text("".join(lines))


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_newest_falls_back_and_is_kept(tmp_path: Path, name: str) -> None:
    checkpoints = three(tmp_path)
    newest = tmp_path / "step-0000003"
    DAMAGE[name](newest)
    step, found, state = checkpoints.latest()  # type: ignore[misc]
    assert step == 2 and same(found, tensors(2)) and state["step"] == 2
    assert len(checkpoints.damaged) == 1 and "step-0000003" in checkpoints.damaged[0]
    assert "\n" not in checkpoints.damaged[0]
    for value in (3, 4, 5, 6):
        checkpoints.save(value, tensors(value), {})
    assert os.path.lexists(newest) and (tmp_path / "step-0000005").is_dir()
    assert not (tmp_path / "step-0000002").exists()
    assert checkpoints.latest()[0] == 6 and checkpoints.damaged == []  # type: ignore[index]


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    checkpoints, draw = three(tmp_path), random.Random(1)
    for name in FILES:
        path = tmp_path / "step-0000003" / name
        good = path.read_bytes()
        for _ in range(60):
            data = bytearray(good)
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            path.write_bytes(data)
            assert checkpoints.latest()[0] == 2  # type: ignore[index]
        path.write_bytes(good)
    assert checkpoints.latest()[0] == 3  # type: ignore[index]


def test_all_damaged_is_an_error_and_never_a_fresh_start(tmp_path: Path) -> None:
    checkpoints = three(tmp_path)
    for step, name in ((1, "flip"), (2, "remove sums"), (3, "empty folder")):
        DAMAGE[name](tmp_path / f"step-000000{step}")
    with pytest.raises(ModelFileError) as caught:
        checkpoints.latest()
    assert all(f"step-000000{step}" in one_line(caught.value) for step in (1, 2, 3))
    assert len(checkpoints.damaged) == 3 and caught.value.code == 4


def test_unknown_format_is_said_and_not_fallen_back_from(tmp_path: Path) -> None:
    checkpoints = three(tmp_path)
    state = tmp_path / "step-0000003" / FILES[1]
    state.write_bytes(state.read_bytes().replace(b'"format": 1', b'"format": 2'))
    _sums_only(state.parent)
    with pytest.raises(ModelFileError, match=r"format '2', expected 1"):
        checkpoints.latest()


class Payload:
    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.canary),)


def test_pickles_are_refused_and_never_run(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    payload = pickle.dumps(Payload(canary))
    pickle.loads(payload)
    assert canary.exists()  # it does bite where somebody unpickles it
    canary.rmdir()
    torch.save({"w": Payload(canary)}, tmp_path / "zip")
    checkpoints = three(tmp_path / "run")
    save_pair(tmp_path, "model", {}, {})
    for data in (payload, (tmp_path / "zip").read_bytes()):
        for folder in sorted((tmp_path / "run").iterdir()):
            (folder / FILES[0]).write_bytes(data)
            reseal(folder)
        with pytest.raises(ModelFileError, match="not a safetensors file"):
            checkpoints.latest()
        (tmp_path / "model.safetensors").write_bytes(data)
        head = read_json(tmp_path / "model.json")
        write_json(tmp_path / "model.json", head | {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)})
        with pytest.raises(ModelFileError, match="not a safetensors file"):
            load_pair(tmp_path, "model")
        (tmp_path / "model.json").write_bytes(data)
        with pytest.raises(ModelFileError, match="not JSON"):
            load_pair(tmp_path, "model")
        write_json(tmp_path / "model.json", head)
    assert not canary.exists()


def test_temporaries_of_the_living_stay(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        signal.pause()
    living, dead, other = tmp_path / f".tmp-{pid}-00000000", tmp_path / ".tmp-99999999-00000000", tmp_path / ".tmp-x"
    try:
        for path in (living, dead, tmp_path / f".tmp-{os.getpid()}-00000000"):
            (path / "deep").mkdir(parents=True)
        other.touch()
        Checkpoints(tmp_path).save(1, {}, {})
        assert sorted(os.listdir(tmp_path)) == sorted([living.name, other.name, "step-0000001"])
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    Checkpoints(tmp_path).save(2, {}, {})
    assert not living.exists()


# ------------------------------------------------------------------------------------------------------------- pairs


def test_pair_round_trip_leaves_the_two_public_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        load_pair(tmp_path / "m", "model")
    for seed in (1, 2):
        save_pair(tmp_path / "m", "model", tensors(seed), {"recipe": "ünï", "seed": seed, "shape": (1, 2), 3: None})
        found, meta = load_pair(tmp_path / "m", "model")
        assert same(found, tensors(seed))
        assert meta == {"recipe": "ünï", "seed": seed, "shape": [1, 2], "3": None}
        assert sorted(os.listdir(tmp_path / "m")) == ["model.json", "model.safetensors"]
    digest = hashlib.sha256((tmp_path / "m" / "model.safetensors").read_bytes()).hexdigest()
    assert json.loads((tmp_path / "m" / "model.json").read_bytes())["sha256"] == digest


@pytest.mark.parametrize("fault", ["kill", "full"])
def test_pair_killed_or_full_at_every_phase(tmp_path: Path, fault: str) -> None:
    def save(folder: Path, seed: int) -> None:
        save_pair(folder, "model", tensors(seed), {"seed": seed})

    template = tmp_path / "template"
    save(template, 1)
    shutil.copytree(template, tmp_path / "scratch")
    steps = phases(lambda: save(tmp_path / "scratch", 2))
    commit = steps.index("folder-renamed")
    assert steps[commit + 1 :] == ["committed", "moved model.safetensors", "moved model.json", "finished"]
    for index in range(len(steps)):
        folder = tmp_path / f"{index}"
        shutil.copytree(template, folder)
        if fault == "kill":
            killed(index, lambda folder=folder: save(folder, 2))
        else:
            atomic._fault = at(index, no_space)
            with pytest.raises(ResourceError):
                save(folder, 2)
            atomic._fault = None
            assert temporaries(folder) == []
        found, meta = load_pair(folder, "model")
        assert meta["seed"] == (2 if index >= commit else 1) and same(found, tensors(meta["seed"]))
        if fault == "kill" and commit <= index < len(steps) - 2:  # once more, at each phase of the save that follows
            again = phases(lambda folder=folder: save(shutil.copytree(folder, f"{folder}-count"), 3))
            for second in range(0, len(again), 2):
                twice = Path(f"{folder}-{second}")
                shutil.copytree(folder, twice)
                killed(second, lambda twice=twice: save(twice, 3))
                found, after = load_pair(twice, "model")
                assert after["seed"] in (2, 3) and same(found, tensors(after["seed"]))
        save(folder, 4)
        assert load_pair(folder, "model")[1]["seed"] == 4
        assert sorted(os.listdir(folder)) == ["model.json", "model.safetensors"]


def test_first_pair_killed_at_every_phase_leaves_none_or_one(tmp_path: Path) -> None:
    steps = phases(lambda: save_pair(tmp_path / "scratch", "model", tensors(1), {}))
    for index in range(len(steps)):
        folder = tmp_path / f"{index}"
        killed(index, lambda folder=folder: save_pair(folder, "model", tensors(1), {}))
        if index < steps.index("folder-renamed"):
            with pytest.raises(ConfigError):
                load_pair(folder, "model")
        else:
            assert same(load_pair(folder, "model")[0], tensors(1))


def test_damaged_pair_is_an_error(tmp_path: Path) -> None:
    save_pair(tmp_path, "model", tensors(1), {"v_th": 1.5, "name": "a"})
    draw = random.Random(2)
    for name in ("model.safetensors", "model.json"):
        path = tmp_path / name
        good, refused = path.read_bytes(), 0
        for _ in range(150):
            data = bytearray(good)
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
            path.write_bytes(data)
            try:
                found, meta = load_pair(tmp_path, "model")
            except ModelFileError as error:
                one_line(error)
                refused += 1
            else:  # another kind of white space between two fields
                assert name == "model.json" and same(found, tensors(1)) and meta == {"v_th": 1.5, "name": "a"}
        assert refused == 150 if name == "model.safetensors" else refused > 120
        path.write_bytes(good)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"model\.safetensors"):
        load_pair(tmp_path, "model")
    write_json(tmp_path / "model.json", {"format": 9})
    with pytest.raises(ModelFileError, match="format '9', expected 1"):
        load_pair(tmp_path, "model")


def test_pair_read_while_it_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_pair(tmp_path, "model", tensors(1), {"seed": 1})
    real, calls = pair.read_bytes, 0

    def read(path: Path, limit: int) -> bytes:
        nonlocal calls
        data, calls = real(path, limit), calls + 1
        if calls == 1:
            save_pair(tmp_path, "model", tensors(2), {"seed": 2})
        return data

    monkeypatch.setattr(pair, "read_bytes", read)
    found, meta = load_pair(tmp_path, "model")
    assert calls == 4 and meta == {"seed": 2} and same(found, tensors(2))


# -------------------------------------------------------------------------------------------------------- run folder


def race(folder: Path, count: int, take_over: bool) -> list[int]:
    """Start `count` processes on one folder at the same moment; the winner holds it until the others have ended."""
    go, hold = os.pipe(), os.pipe()
    children = set()
    for _ in range(count):
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                os.close(go[1])
                os.close(hold[1])
                os.read(go[0], 1)
                with RunFolder(folder, take_over) as run:
                    run.append_line("metrics.jsonl", {"pid": os.getpid()})
                    os.read(hold[0], 1)
                    code = 0
            except BusyError:
                code = 7
            finally:
                os._exit(code)
        children.add(pid)
    os.close(go[1])
    codes, deadline = [], time.monotonic() + 20
    while len(codes) < count - 1 and time.monotonic() < deadline:
        for pid in list(children):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                children.remove(pid)
                codes.append(os.waitstatus_to_exitcode(status))
        time.sleep(0.002)
    os.close(hold[1])
    codes += [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    os.close(go[0])
    os.close(hold[0])
    return sorted(codes)


def leave_lock(folder: Path) -> int:
    """Lock the folder in a process that is then killed; its pid."""
    ended = in_child(lambda: (RunFolder(folder).__enter__(), os.kill(os.getpid(), signal.SIGKILL)))
    assert ended == -signal.SIGKILL
    return int(read_json(folder / ".lock")["pid"])


@pytest.mark.parametrize("stale", [False, True])
def test_eight_at_once_and_one_proceeds(tmp_path: Path, stale: bool) -> None:
    for attempt in range(10):
        folder = tmp_path / f"{attempt}"
        if stale:
            leave_lock(folder)
        assert race(folder, 8, take_over=stale) == [0] + [7] * 7
        assert len(RunFolder(folder).read_lines("metrics.jsonl")) == 1
        assert os.listdir(folder) == ["metrics.jsonl"]


def test_live_lock_names_its_holder_and_is_never_taken(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as run:
        assert run.path == tmp_path / "run" and (run.path / ".lock").is_file()
        since = read_json(run.path / ".lock")["since"]
        for take_over in (False, True):
            with pytest.raises(BusyError) as caught:
                RunFolder(run.path, take_over).__enter__()
            text = one_line(caught.value)
            assert all(s in text for s in (str(os.getpid()), socket.gethostname(), since, "--out"))
            assert "--take-over" not in text
        assert in_child(lambda: RunFolder(run.path).__enter__()) == BusyError.code
        assert in_child(lambda: run.__exit__(None, None, None)) == 0  # a forked worker does not release it
        assert (run.path / ".lock").is_file()
    assert not run.path.exists()  # it was made here and nothing came of it
    with pytest.raises(KeyError), RunFolder(tmp_path):
        raise KeyError
    with RunFolder(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_folder_removed_by_another_while_it_is_being_locked(tmp_path: Path) -> None:
    atomic._fault = at(0, (tmp_path / "run").rmdir)
    with RunFolder(tmp_path / "run") as run:
        run.append_line("m", {"n": 1})
    assert os.listdir(tmp_path / "run") == ["m"]


def test_stale_lock_is_reported_and_taken_only_on_request(tmp_path: Path) -> None:
    pid = leave_lock(tmp_path)
    (tmp_path / f".tmp-{pid}-00000000").mkdir()
    with pytest.raises(BusyError) as caught:
        RunFolder(tmp_path).__enter__()
    text = one_line(caught.value)
    assert str(pid) in text and "no longer runs" in text and "--take-over" in text
    with RunFolder(tmp_path, take_over=True):
        assert read_json(tmp_path / ".lock")["pid"] == os.getpid()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "lock",
    [
        {"pid": 1, "host": "elsewhere", "since": "then", "started": "x"},
        {"pid": os.getpid(), "host": socket.gethostname(), "since": "then", "started": "a reused number"},
        {"pid": -1, "host": socket.gethostname(), "since": "then", "started": ""},
        {"pid": 10**30, "host": socket.gethostname(), "since": "\x1b[31m\n", "started": ""},
        [],
        None,
    ],
)
def test_other_locks_need_take_over(tmp_path: Path, lock: Any) -> None:
    (tmp_path / ".lock").write_text("" if lock is None else json.dumps(lock))
    with pytest.raises(BusyError) as caught:
        RunFolder(tmp_path).__enter__()
    assert "--take-over" in one_line(caught.value) and "\x1b" not in str(caught.value)
    with RunFolder(tmp_path, take_over=True):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
def test_a_zombie_holds_no_lock() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    os.kill(pid, 0)  # it is still there
    assert atomic.process_mark(pid) is None
    os.waitpid(pid, 0)
    assert atomic.process_mark(os.getpid()) not in (None, "")


def test_disk_full_while_locking_leaves_no_lock(tmp_path: Path) -> None:
    for index in range(5):
        atomic._fault = at(index, no_space)
        with pytest.raises(ResourceError):
            RunFolder(tmp_path / "run").__enter__()
        atomic._fault = None
        assert os.listdir(tmp_path / "run") == []


def test_lines_torn_and_truncated(tmp_path: Path) -> None:
    run, path = RunFolder(tmp_path), tmp_path / "m.jsonl"
    assert run.read_lines("m.jsonl") == []
    run.truncate_lines("m.jsonl", lambda _: True)
    assert not path.exists()
    lines = [{"step": step, "ü": "\n"} for step in range(5)]
    for line in lines:
        run.append_line("m.jsonl", line)
    whole = path.read_bytes()
    assert whole.count(b"\n") == 5 and run.read_lines("m.jsonl") == lines
    path.write_bytes(whole + b'{"step": 5')
    assert run.read_lines("m.jsonl") == lines
    run.truncate_lines("m.jsonl", lambda line: True)
    assert path.read_bytes() == whole
    path.write_bytes(whole + b'{"step": 5}')  # even one that parses: it was never finished
    run.append_line("m.jsonl", {"step": 6})
    assert run.read_lines("m.jsonl") == lines + [{"step": 6}]
    run.truncate_lines("m.jsonl", lambda line: line["step"] < 3)
    assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:3])
    with pytest.raises(ConfigError):
        run.append_line("m.jsonl", {"loss": float("nan")})
    for middle in (b"{torn\n", b"[1]\n", b"\n", b"\xff\n"):
        path.write_bytes(whole + middle + whole)
        for use in (run.read_lines, lambda name: run.truncate_lines(name, lambda _: True)):
            with pytest.raises(ModelFileError, match=r"m\.jsonl:6'"):
                use("m.jsonl")
    shutil.rmtree(tmp_path)
    with pytest.raises(ResourceError):
        run.append_line("m.jsonl", {})


def test_lines_killed_or_full_at_every_phase(tmp_path: Path) -> None:
    steps = phases(lambda: RunFolder(tmp_path).append_line("scratch", {"n": 0}))
    assert steps == ["before-line", "half-line", "line"]
    run = RunFolder(tmp_path)
    for index, phase in enumerate(steps):
        name = f"{index}.jsonl"
        run.append_line(name, {"n": 0})
        killed(index, lambda name=name: run.append_line(name, {"n": 1, "text": "x" * 100}))
        assert [line["n"] for line in run.read_lines(name)] == ([0, 1] if phase == "line" else [0])
        assert (run.path / name).read_bytes().endswith(b"\n") == (phase != "half-line")
        run.append_line(name, {"n": 2})
        before = (run.path / name).read_bytes()
        assert [line["n"] for line in run.read_lines(name)][-1] == 2 and before.endswith(b"\n")
        atomic._fault = at(index, no_space)
        with pytest.raises(ResourceError):
            run.append_line(name, {"n": 3})
        atomic._fault = None
        assert (run.path / name).read_bytes() == before


def test_line_over_the_file_size_limit_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.append_line("m", {"n": 0})
    before = (tmp_path / "m").read_bytes()
    line = {"n": 1, "text": "x" * 50}

    def limited(more: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + more, len(before) + more))
        run.append_line("m", line)

    size = len(json.dumps(line)) + 1
    for more in (0, 5, size // 2, size - 1):
        assert in_child(lambda more=more: limited(more)) == ResourceError.code
        assert (tmp_path / "m").read_bytes() == before
    ended = in_child(lambda: limited(size))
    assert ended == 0
    assert run.read_lines("m") == [{"n": 0}, line]
