"""Recordings of an event camera, and the reader of N-MNIST.

A recording stays a list of events; frames are counted when a batch is made, so any number of steps costs no memory.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spikewright.data.archive import zip_members
from spikewright.data.dataset import digest
from spikewright.data.files import quoted, read_exactly, reason, regular_size, unpacked
from spikewright.data.split import Split
from spikewright.errors import DataError, whole

SENSOR = 34  # N-MNIST's pixels a side
OVERFLOW = 240  # the y of a mark the camera writes when its clock wraps
LARGEST = 1 << 20  # bytes of one recording; real ones have 36 kB
BUDGET = 4 << 30  # bytes of all recordings; the full set has 1.2 GB
CELLS = 1 << 22  # cells counted at a time, which bounds the memory of many steps
MEMBER = re.compile(r"(?:N-?MNIST/)?(Train|Test)/([0-9])/([0-9]{1,6})\.bin")
PARTS = ("Train", "Test")


class EventSplit(Split):
    """Recordings of two polarities, binned into frames `[T, 2, H, W]` as batches are made.

    The recording from its first to its last event is cut into `steps` windows of equal duration:
    `window = floor((t - t_first) * steps / (t_last - t_first + 1))`.

    Args:
        x, y, p: column, row and polarity (0 or 1) of all events of all recordings, uint8 or uint16 `[E]`.
        t: int32 `[E]`, microseconds, never going down within a recording.
        offsets: int64 `[R + 1]`; recording r is the events from `offsets[r]` up to `offsets[r + 1]`.
        labels: int64 `[N]`.
        rows: int64 `[N]`, the recording of each sample; None for all of them in order.
        sensor: height and width in pixels.
        steps: frames of one sample.
        binary: 1 where a pixel saw an event, in place of the number of events.
    """

    def __init__(
        self,
        x: np.ndarray,
        y: np.ndarray,
        p: np.ndarray,
        t: np.ndarray,
        offsets: np.ndarray,
        labels: Tensor,
        *,
        sensor: tuple[int, int] = (SENSOR, SENSOR),
        steps: int = 10,
        binary: bool = False,
        rows: np.ndarray | None = None,
    ) -> None:
        whole("", "steps", steps, 1, 10_000)
        self.x, self.y, self.p, self.t, self.offsets = x, y, p, t, offsets
        self.labels, self.sensor, self.steps, self.binary = labels, sensor, steps, binary
        self.rows = np.arange(len(labels)) if rows is None else rows
        self.shape = (steps, 2, *sensor)

    def events(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """`(x, y, p, t)` of one sample, views of the shared arrays."""
        part = slice(self.offsets[self.rows[index]], self.offsets[self.rows[index] + 1])
        return self.x[part], self.y[part], self.p[part], self.t[part]

    def batch(self, indices: Tensor) -> Tensor:
        frames = torch.empty((len(indices), *self.shape))
        rows = self.rows[indices.cpu().numpy()]
        step = max(1, CELLS // frames[:1].numel()) if len(rows) else 1
        for start in range(0, len(rows), step):
            frames[start : start + step] = self._count(rows[start : start + step])
        return frames.clamp_max_(1) if self.binary else frames

    def _count(self, rows: np.ndarray) -> Tensor:
        first, lengths = self.offsets[rows], self.offsets[rows + 1] - self.offsets[rows]
        ends = np.cumsum(lengths)
        sample = np.repeat(np.arange(len(rows)), lengths)
        event = np.arange(ends[-1]) + np.repeat(first - (ends - lengths), lengths)
        start, stop = np.zeros(len(rows), np.int64), np.zeros(len(rows), np.int64)
        some = lengths > 0  # a recording without events is a row of empty frames
        start[some], stop[some] = self.t[first[some]], self.t[first[some] + lengths[some] - 1]
        window = (self.t[event] - start[sample]) * self.steps // (stop - start + 1)[sample]
        height, width = self.sensor
        cell = ((sample * self.steps + window) * 2 + self.p[event]) * height + self.y[event]
        counts = np.bincount(cell * width + self.x[event], minlength=len(rows) * int(np.prod(self.shape)))
        return torch.from_numpy(counts.astype(np.float32)).reshape(len(rows), *self.shape)

    def subset(self, indices: Tensor) -> EventSplit:
        return self._view(self.labels[indices], self.steps, self.binary, self.rows[indices.cpu().numpy()])

    def binned(self, steps: int, binary: bool = False) -> EventSplit:
        """The same recordings, sharing their arrays, in that many frames."""
        return self._view(self.labels, steps, binary, self.rows)

    def with_steps(self, steps: int) -> EventSplit:
        return self.binned(steps, self.binary)

    def _view(self, labels: Tensor, steps: int, binary: bool, rows: np.ndarray) -> EventSplit:
        return EventSplit(
            self.x, self.y, self.p, self.t, self.offsets, labels,
            sensor=self.sensor, steps=steps, binary=binary, rows=rows,
        )  # fmt: skip


def decode(raw: bytes | bytearray, where: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """One N-MNIST recording: 5 bytes an event, x, y, then polarity (top bit) and 23 bits of microseconds.

    Overflow marks (y = 240) are left out, and events are put in the order of their times.

    Returns: `(x, y, p, t)`, uint8 three times and int32.
    Raises DataError: no events, a length that is not a multiple of 5, a coordinate off the sensor.
    """
    if not raw or len(raw) % 5:
        raise DataError(f"{where} has {len(raw):,} bytes, expected a multiple of 5 above 0; fetch or copy it again")
    records = np.frombuffer(raw, dtype=np.uint8).reshape(-1, 5)
    records = records[records[:, 1] != OVERFLOW]
    x, y, high = records[:, 0], records[:, 1], records[:, 2].astype(np.int32)
    worst = max(int(x.max(initial=0)), int(y.max(initial=0)))
    if worst >= SENSOR:
        raise DataError(f"{where} has an event at coordinate {worst}, expected 0..{SENSOR - 1}; fetch or copy it again")
    t = (high & 0x7F) << 16 | records[:, 3].astype(np.int32) << 8 | records[:, 4]
    p = (high >> 7).astype(np.uint8)
    if (np.diff(t) < 0).any():
        order = np.argsort(t, kind="stable")
        return x[order], y[order], p[order], t[order]
    return x.copy(), y.copy(), p, t


def zip_recordings(path: Path) -> Iterator[tuple[str, bytearray]]:
    """`("Train/<digit>/<number>.bin", bytes)` of each recording in a zip file, in order of name."""
    for name, raw in zip_members(path, MEMBER, LARGEST, BUDGET):
        yield "/".join(name.split("/")[-3:]), raw


def folder_recordings(folder: Path) -> Iterator[tuple[str, bytearray]]:
    """The same from the folders `Train/` and `Test/`, in order of name."""
    for part, digit in itertools.product(sorted(PARTS), "0123456789"):
        inside = folder / part / digit
        try:
            names = sorted(os.listdir(inside)) if inside.is_dir() else []
        except OSError as error:
            raise DataError(f"cannot read {quoted(inside)}: {reason(error)}; check its permissions") from None
        for name in names:
            if not MEMBER.fullmatch(f"{part}/{digit}/{name}"):
                continue
            size = regular_size(inside / name)
            if size > LARGEST:
                raise DataError(f"{quoted(inside / name)} has {size:,} bytes, expected at most {LARGEST:,}; replace it")
            with unpacked(inside / name, "a recording") as stream:
                yield f"{part}/{digit}/{name}", read_exactly(stream, size, quoted(inside / name))


def collect(
    recordings: Iterable[tuple[str, bytearray]], where: str, *, steps: int = 10, binary: bool = False
) -> tuple[EventSplit, EventSplit, str]:
    """Train and test split of named recordings, and the SHA-256 of all names and bytes.

    Raises DataError: a damaged recording (named), a part without recordings.
    """
    sums: list[str] = []
    found: dict[str, list[tuple[np.ndarray, ...]]] = {part: [] for part in PARTS}
    digits: dict[str, list[int]] = {part: [] for part in PARTS}
    for name, raw in recordings:
        part, digit, _ = name.split("/")
        found[part].append(decode(raw, f"{where}: {name!r}"))
        digits[part].append(int(digit))
        sums.append(f"{name} {hashlib.sha256(raw).hexdigest()}")
    splits = []
    for part in PARTS:
        if not found[part]:
            raise DataError(f"{where} holds no recordings {part}/<digit>/<number>.bin; put the published set there")
        lengths = np.array([len(recording[0]) for recording in found[part]], dtype=np.int64)
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        x, y, p, t = (np.concatenate([recording[i] for recording in found[part]]) for i in range(4))
        labels = torch.tensor(digits[part])
        splits.append(EventSplit(x, y, p, t, offsets, labels, steps=steps, binary=binary))
    return splits[0], splits[1], digest(sorted(sums))
