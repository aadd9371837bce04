"""Experiments: the tables and figures of papers, run again and written beside the paper's own numbers.

One file an experiment, found by listing. An experiment is a dataclass whose fields are command-line flags; its `rows`
trains what it needs through recipes (each in a run folder below `out`, taken as it is when finished, resumed when
stopped) and yields the table's rows as they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from rich.console import Console

from spikewright.data import Dataset, load
from spikewright.errors import ConfigError
from spikewright.listed import Listed
from spikewright.storage import read_json, write_json
from spikewright.training import resume, train

__all__ = ["Experiment", "Row", "experiment", "get", "listing", "names"]


@dataclass(frozen=True)
class Row:
    """One line of a paper's table and ours beside it.

    Attributes:
        what: the line.
        paper: the paper's figure, None where it has none.
        ours: ours, None where it could not be had.
        unit: of both; "%" are percent, not fractions.
        note: what differs.
    """

    what: str
    paper: float | None = None
    ours: float | None = None
    unit: str = "%"
    note: str = ""


@dataclass
class Experiment:
    """Base of the experiments; the fields are flags.

    Class attributes, set by the `experiment` decorator:
        name: on the command line, from the file's name.
        paper: what is reproduced.
        axes: what its curves show, x and y.
    """

    name: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    axes: ClassVar[tuple[str, str]] = ("time steps", "accuracy, %")

    data: str = "mnist"
    """Data set by name (spikewright datasets), or a folder of class folders."""
    data_dir: Path | None = None
    """Where to look for the data first."""
    out: Path | None = None
    """Folder for the runs and experiment.json; by default runs/experiment-NAME-DATA. Runs in it are gone on with."""
    limit: int | None = None
    """Train on the first N samples of the shuffled training set."""
    test_limit: int | None = None
    """Test on N samples, drawn by the seed; the table then says that it is of a subset."""
    seed: int = 0
    """Seed of every run."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute."""
    precision: Literal["auto", "float32", "bf16"] = "float32"
    """Of matrix products."""
    record: Path | None = None
    """Also write the table to this JSON file."""
    note: str = ""
    """What the record should say of itself."""
    quiet: bool = False
    """No progress."""

    curves: dict[str, list[list[float]]] = field(default_factory=dict, init=False, repr=False)

    def rows(self, data: Dataset) -> Iterator[Row]:
        """The table, line by line; curves [[x, y], ...] for a figure go into `self.curves` by label."""
        raise NotImplementedError

    @property
    def folder(self) -> Path:
        """Where everything goes."""
        return self.out or Path("runs") / f"experiment-{self.name}-{Path(self.data).name}"

    def run(self, show: Callable[[list[Row]], None] = lambda rows: None) -> list[Row]:
        """Run it; experiment.json is written anew after every row, and `show` told."""
        data = load(self.data, data_dir=self.data_dir)
        if self.test_limit is not None:
            data = data.limited(self.test_limit, self.seed, "test")
        found: list[Row] = []
        for row in self.rows(data):
            found.append(row)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / "experiment.json", self._record(data, found))
            show(found)
        if self.record is not None:
            write_json(self.record, self._record(data, found))
        return found

    def _record(self, data: Dataset, rows: list[Row]) -> dict[str, Any]:
        from spikewright import provenance

        own = asdict(self)
        settings = {k: str(v) if isinstance(v, Path) else v for k, v in own.items() if k not in ("curves", "record")}
        used = data if self.limit is None else data.limited(self.limit, self.seed)
        notes = [note for note in (self.note, used.note) if note]
        return {
            "method": f"experiment {self.name}",
            "paper": self.paper,
            "dataset": data.name,
            "note": "; ".join(notes),
            "settings": settings,
            "rows": [asdict(row) for row in rows],
            "curves": self.curves,
            "command": provenance.command(),
            "commit": provenance.commit(),
            "reproduced": False,
        }

    def trained(
        self,
        label: str,
        method: str,
        data: Dataset,
        *,
        limit: int | None = None,
        seed: int | None = None,
        **settings: Any,
    ) -> dict[str, Any]:
        """The summary of a run in `folder / label`: trained now, gone on with, or taken as it is if it is finished.

        `limit` and `seed` are this run's own; `settings` are the recipe's fields.
        """
        path = self.folder / label
        if not (path / "summary.json").exists():
            self.say(f"{label}: training {method} ...")
            if (path / "config.json").exists():
                resume(path, data=data, progress=not self.quiet)
            else:
                train(
                    method,
                    data,
                    out=path,
                    data_dir=self.data_dir,
                    limit=limit or self.limit,
                    seed=self.seed if seed is None else seed,
                    device=self.device,
                    precision=self.precision,
                    progress=not self.quiet,
                    **settings,
                )
        summary = read_json(path / "summary.json")
        if not isinstance(summary, dict):
            raise ConfigError(f"{path / 'summary.json'} is no summary: remove {path} to run it again")
        return summary

    def say(self, text: str) -> None:
        """Progress, on standard error."""
        if not self.quiet:
            Console(stderr=True).print(text, style="dim", highlight=False)


def experiment(*, paper: str) -> Callable[[type[Experiment]], type[Experiment]]:
    """Register the decorated dataclass as the experiment of its file."""

    def register(cls: type[Experiment]) -> type[Experiment]:
        cls.name, cls.paper = cls.__module__.rsplit(".", 1)[-1].replace("_", "-"), paper
        return cls

    return register


_listed = Listed(__name__, Experiment, "experiment")
names, get = _listed.names, _listed.get


def listing() -> list[dict[str, Any]]:
    """What there is: name, paper, one line."""
    return [
        {"name": e.name, "paper": e.paper, "about": (e.__doc__ or "").strip().splitlines()[0]}
        for e in _listed.found.values()
    ]
