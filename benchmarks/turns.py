"""Turns: every row works in a process of its own, and only one works at a time, A B C A B C ...

A process each keeps one library's allocator, thread pool and imports from colouring another's figures; turns spread
whatever else the machine does over all rows alike, and make ratios within a round meaningful.
"""

from __future__ import annotations

import gc
import logging
import multiprocessing
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from libraries import Job

SPAWN = multiprocessing.get_context("spawn")  # a fresh interpreter on every system
TURN = 0.5  # seconds of work in a turn, or one step where that takes longer
WARM_UP = 2  # rounds before the first that counts


class RowError(Exception):
    """What stopped a row; the others go on."""


class Worker:
    """A fresh process that holds `make(*arguments)` and does with it what it is asked to, when it is asked."""

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        self._pipe, other = SPAWN.Pipe()
        self._process = SPAWN.Process(target=_serve, args=(other, make, arguments), daemon=True)
        self._process.start()
        other.close()

    def ask(self, order: Callable[[Any], Any]) -> Any:
        """`order(make(*arguments))`, worked out over there."""
        try:
            self._pipe.send(order)
            done, answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise RowError(f"the process ended with exit code {self._process.exitcode}") from None
        if not done:
            raise RowError(answer)
        return answer

    def close(self) -> None:
        self._pipe.close()
        self._process.join()


def fresh(function: Callable[..., Any], *arguments: Any) -> Any:
    """`function(*arguments)`, called in a process that has done nothing before."""
    worker = Worker(function, *arguments)
    try:
        return worker.ask(_itself)
    finally:
        worker.close()


@dataclass
class Measured:
    """What came out, row by row: a cost for every round (seconds or bytes), and how often its neurons fired."""

    costs: dict[str, list[float]]
    rates: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)

    def drop(self, row: str, why: str) -> None:
        del self.costs[row]
        self.failed[row] = why
        print(f"\n{row} left out: {why}", file=sys.stderr)


def in_turns(rows: Sequence[str], rounds: int, cost: Callable[[str], float], warm_up: int = WARM_UP) -> Measured:
    """`cost(row)` of every row once a round; a row that fails is left out."""
    measured = Measured({row: [] for row in rows})
    for number in range(-warm_up, rounds):
        for row in list(measured.costs):
            try:
                found = cost(row)
            except RowError as error:
                measured.drop(row, str(error))
                continue
            if number >= 0:
                measured.costs[row].append(found)
        print("·", end="" if number < rounds - 1 else "\n", file=sys.stderr, flush=True)
    return measured


def time_steps(rows: Sequence[str], rounds: int, make: Callable[..., Job], *arguments: Any) -> Measured:
    """Seconds a step of `make(row, *arguments)`, every row in a process that lives through all rounds."""
    workers = {row: Worker(make, row, *arguments) for row in rows}
    rates: dict[str, float | None] = {}

    def cost(row: str) -> float:
        if row not in rates:  # before the first step
            rates[row] = workers[row].ask(_rate)
            if rates[row] == 0:
                raise RowError("no neuron of the last layer fired, so its figures would mean nothing")
        return workers[row].ask(_turn)

    measured = in_turns(rows, rounds, cost)
    measured.rates = {row: rate for row in measured.costs if (rate := rates[row]) is not None}
    for worker in workers.values():
        worker.close()
    return measured


def _serve(pipe: Connection, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    try:
        order = pipe.recv()  # nothing is made before the first turn
        made = make(*arguments)
        gc.collect()
        gc.freeze()  # what the imports left need not be looked through again and again
        while True:
            pipe.send((True, order(made)))
            order = pipe.recv()
    except EOFError:  # the parent has no more questions
        pass
    except Exception as error:
        text = str(error).strip().splitlines()
        pipe.send((False, f"{type(error).__name__}: {text[0] if text else ''}"[:300]))


def _turn(job: Job) -> float:
    """Mean seconds of an item. The first finds the caches cold and counts only if it fills the turn alone."""
    gc.collect()
    seconds: list[float] = []
    end = time.perf_counter() + TURN
    while not seconds or time.perf_counter() < end:
        start = time.perf_counter()
        job.step()
        seconds.append(time.perf_counter() - start)
    return (sum(later) / len(later) if (later := seconds[1:]) else seconds[0]) / job.items


def _rate(job: Job) -> float | None:
    return job.rate() if job.rate else None


def _itself(answer: Any) -> Any:
    return answer
