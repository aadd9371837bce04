import io
import zipfile

import numpy as np
import pytest
import torch
from conftest import damages, recording_bytes

from spikewright.data import EventSplit, events, load
from spikewright.errors import ConfigError, DataError


def recording(seed, count=200):
    rng = np.random.default_rng(seed)
    x, y, p = rng.integers(0, 34, count), rng.integers(0, 34, count), rng.integers(0, 2, count)
    return x, y, p, np.sort(rng.integers(0, 300_000, count))


def split(seeds=range(5), **options):
    parts = [recording(seed, 50 + 40 * seed) for seed in seeds]
    x, y, p, t = (np.concatenate([part[i] for part in parts]) for i in range(4))
    offsets = np.concatenate(([0], np.cumsum([len(part[0]) for part in parts])))
    small = (v.astype(np.uint8) for v in (x, y, p))
    return EventSplit(*small, t.astype(np.int32), offsets, torch.arange(len(parts)), **options)


def by_loop(data, index, steps):
    x, y, p, t = data.events(index)
    frames = np.zeros((steps, 2, 34, 34), dtype=np.float32)
    first, last = int(t[0]), int(t[-1])
    for i in range(len(t)):
        frames[(int(t[i]) - first) * steps // (last - first + 1), p[i], y[i], x[i]] += 1
    return frames


@pytest.mark.parametrize("steps", [1, 3, 10, 301])
def test_binning_against_a_loop(steps, monkeypatch):
    data = split(steps=steps)
    assert data.shape == (steps, 2, 34, 34) and len(data) == 5
    order = torch.tensor([4, 0, 2, 2])
    frames = data.batch(order)
    assert frames.dtype == torch.float32 and frames.max() >= 1
    for row, index in enumerate(order.tolist()):
        assert (frames[row].numpy() == by_loop(data, index, steps)).all()
    monkeypatch.setattr(events, "CELLS", 1)  # one recording at a time: the same counts
    assert torch.equal(data.batch(order), frames)


def test_views_share_the_events():
    data = split(steps=4)
    part = data.subset(torch.tensor([3, 1]))
    assert part.labels.tolist() == [3, 1] and part.x is data.x
    assert torch.equal(part.batch(torch.tensor([1, 0])), data.batch(torch.tensor([1, 3])))
    finer = part.binned(8)
    assert finer.t is data.t and finer.shape[0] == 8 and part.shape[0] == 4
    assert torch.equal(finer.batch(torch.tensor([0])).sum(1), part.batch(torch.tensor([0])).sum(1))
    flags = data.binned(1, binary=True).batch(torch.arange(5))
    assert torch.equal(flags, (data.binned(1).batch(torch.arange(5)) > 0).float()) and 0 < flags.mean() < 1
    assert data.binned(1, True).with_steps(2).binary
    assert data.batch(torch.tensor([], dtype=torch.long)).shape == (0, 4, 2, 34, 34)


def test_recordings_without_events_are_empty_frames():
    none = np.zeros(0, np.uint8)
    data = EventSplit(none, none, none, none.astype(np.int32), np.array([0, 0, 0]), torch.tensor([0, 1]), steps=2)
    assert data.batch(torch.tensor([0, 1])).sum() == 0
    one = np.array([5], np.uint8)
    mixed = EventSplit(one, one, one * 0, one.astype(np.int32), np.array([0, 0, 1]), torch.tensor([0, 1]), steps=3)
    assert mixed.batch(torch.tensor([0, 1])).sum((1, 2, 3, 4)).tolist() == [0, 1]


@pytest.mark.parametrize("steps", [0, -1, 10_001, 2.0, True, None])
def test_steps_out_of_range(refused, steps):
    assert "steps" in refused(split, steps=steps, error=ConfigError)


def test_decoding():
    x, y, p, t = recording(1)
    t[-1] = 2**23 - 1
    found = events.decode(recording_bytes(x, y, p, t), "here")
    for a, b in zip(found, (x, y, p, t), strict=True):
        assert (a == b).all()
    assert [a.dtype for a in found] == [np.uint8, np.uint8, np.uint8, np.int32]
    marked = recording_bytes(np.insert(x, 7, 0), np.insert(y, 7, 240), np.insert(p, 7, 0), np.insert(t, 7, 0))
    for a, b in zip(events.decode(marked, "here"), found, strict=True):
        assert (a == b).all()
    shuffled = events.decode(recording_bytes(x[::-1], y[::-1], p[::-1], t[::-1]), "here")
    assert (shuffled[3] == t).all()


@pytest.mark.parametrize("raw", [b"", b"\0" * 4, b"\0" * 6, b"\x22\0\0\0\0", b"\0\x22\0\0\0", b"\0\xff\0\0\0"])
def test_decoding_refuses(refused, raw):
    assert "here" in refused(events.decode, raw, "here")


def members():
    return {f"{part}/{k}/{k:05}.bin": recording_bytes(*recording(k)) for part in ("Test", "Train") for k in range(10)}


def write_zip(path, content):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, raw in content.items():
            out.writestr(name, raw)


def test_every_layout_gives_the_same(tmp_path):
    content = members()
    for part in ("Train", "Test"):
        (tmp_path / "zips").mkdir(exist_ok=True)
        write_zip(tmp_path / "zips" / f"{part}.zip", {k: v for k, v in content.items() if k.startswith(part)})
    (tmp_path / "prefixed").mkdir()
    for part in ("Train", "Test"):
        inside = {f"N-MNIST/{k}": v for k, v in content.items() if k.startswith(part)}
        write_zip(tmp_path / "prefixed" / f"{part}.zip", {"readme.txt": b"x", **inside})
    for name, raw in content.items():
        path = tmp_path / "folders" / "NMNIST" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(raw)
    loaded = [load("nmnist", data_dir=tmp_path / kind, steps=6) for kind in ("zips", "prefixed", "folders")]
    assert len({data.checksum for data in loaded}) == 1
    for data in loaded:
        assert data.note.startswith("unverified") and data.shape == (2, 34, 34) and data.frames == 6
        assert data.train.labels.tolist() == list(range(10))
        assert torch.equal(data.train.batch(torch.arange(10)), loaded[0].train.batch(torch.arange(10)))
        assert torch.equal(data.test.batch(torch.arange(10)), data.train.batch(torch.arange(10)))
    (tmp_path / "folders/NMNIST/Test/3/00003.bin").write_bytes(recording_bytes(*recording(99)))
    assert load("nmnist", data_dir=tmp_path / "folders").checksum != loaded[0].checksum


def test_damaged_sets(tmp_path, refused):
    out = io.BytesIO()
    write_zip(out, members())
    for name, raw in damages(out.getvalue()):
        (tmp_path / "nmnist-small.zip").write_bytes(raw)
        assert refused(load, "nmnist", data_dir=tmp_path), name  # not the published subset, whatever the damage
    (tmp_path / "nmnist-small.zip").unlink()
    (tmp_path / "nmnist-small.zip").mkdir()
    assert "a directory" in refused(load, "nmnist", data_dir=tmp_path)


def test_damaged_folders(tmp_path, refused):
    for name, raw in members().items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(raw)
    victim = tmp_path / "Train/4/00004.bin"
    for raw in (b"", b"\0" * 7, b"\x50\0\0\0\0", bytes(2_000_000)):
        victim.write_bytes(raw)
        assert "00004.bin" in refused(load, "nmnist", data_dir=tmp_path)
    victim.unlink()
    victim.mkdir()
    assert "a directory" in refused(load, "nmnist", data_dir=tmp_path)
    victim.rmdir()
    for path in (tmp_path / "Test").glob("*/*"):
        path.unlink()
    assert "no recordings Test" in refused(load, "nmnist", data_dir=tmp_path)


def test_real_nmnist(real):
    data = load("nmnist", data_dir=real("nmnist-small"), steps=5)
    assert data.note == "subset of 1,000 training and 100 test recordings"
    assert torch.bincount(data.train.labels).tolist() == [97, 116, 99, 93, 105, 92, 94, 117, 87, 100]
    assert torch.bincount(data.test.labels).tolist() == [8, 14, 8, 11, 14, 7, 10, 15, 2, 11]
    lengths = np.concatenate([np.diff(part.offsets) for part in (data.train, data.test)])
    assert (lengths.min(), lengths.max(), round(lengths.mean())) == (1069, 7152, 4108)
    for index in (0, 500, 999):
        t = data.train.events(index)[3]
        assert (np.diff(t) >= 0).all() and 290_000 < t[-1] < 340_000
        assert (data.train.batch(torch.tensor([index]))[0].numpy() == by_loop(data.train, index, 5)).all()
    assert data.train.batch(torch.arange(64)).sum() == np.diff(data.train.offsets)[:64].sum()
    again = data.with_steps(12)
    assert again.frames == 12 and again.checksum == data.checksum and again.test.shape[0] == 12
    assert sum(again.mean) * 12 == pytest.approx(sum(data.mean) * 5)
    with pytest.raises(DataError, match="data_dir"):
        load("nmnist", data_dir=real("nmnist-small") / "absent")
