"""Recipes: one file a method, grouped by family. A file put into a family's folder is found by listing; nothing else
knows its name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, Self, get_args, get_origin, get_type_hints

from spikewright.data import Augment, Dataset
from spikewright.errors import ConfigError, whole
from spikewright.listed import Listed
from spikewright.phases import Phase

__all__ = ["Augmented", "Recipe", "get", "listing", "names", "recipe"]

COUNTS = ("epochs", "batch", "steps")


@dataclass
class Recipe:
    """A method: hyperparameters (the fields, which become command-line flags) and a plan of phases.

    Class attributes, set by the `recipe` decorator:
        name: on the command line, from the file's name.
        family: the folder the file stands in.
        paper: whom it follows.
        reports: accuracies in % the paper reports, by data set.
        presets: the paper's settings for a data set where they differ from the defaults.
        optional: passes, batches or steps that may be 0.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = ""
    paper: ClassVar[str] = ""
    reports: ClassVar[dict[str, float]] = {}
    presets: ClassVar[dict[str, dict[str, Any]]] = {}
    optional: ClassVar[tuple[str, ...]] = ()

    steps: int = field(default=5, kw_only=True)
    """Time steps T."""

    def __post_init__(self) -> None:
        kinds = get_type_hints(type(self))
        for name in (f.name for f in fields(self)):
            value, expected = getattr(self, name), _misfit(getattr(self, name), kinds[name])
            if expected:
                raise ConfigError(f"recipe {self.name!r}: {name} is {value!r}, expected {expected}")
            if kinds[name] is int and name.endswith(COUNTS):  # now, not when the phase that needs it begins
                whole(f"recipe {self.name!r}", name, value, 0 if name in self.optional else 1)

    def plan(self, data: Dataset) -> Iterator[Phase]:
        """The phases, in order; the network of the last one is the result."""
        raise NotImplementedError

    @classmethod
    def for_data(cls, name: str, **settings: Any) -> Self:
        """The recipe with the paper's settings for the data set `name` (its options aside), and `settings` on top.

        Raises ConfigError for a setting the recipe does not have.
        """
        known = {f.name for f in fields(cls)}
        for key in settings:
            if key not in known:
                raise ConfigError(f"recipe {cls.name!r} has no setting {key!r}; it has {', '.join(sorted(known))}")
        return cls(**{**cls.presets.get(name.partition(":")[0], {}), **settings})


@dataclass
class Augmented(Recipe):
    """A recipe whose training images can be moved and mirrored at random."""

    crop: int = field(default=0, kw_only=True)
    """Training images are moved by up to so many pixels; CIFAR-10's by 4 unless told."""
    flip: bool = field(default=False, kw_only=True)
    """Training images are mirrored half of the time, as CIFAR-10's always are."""
    cutout: int = field(default=0, kw_only=True)
    """A square with sides of so many pixels is taken out of each training image."""
    autoaugment: bool = field(default=False, kw_only=True)
    """Training images are changed by AutoAugment's policy for CIFAR-10."""

    def __post_init__(self) -> None:
        super().__post_init__()
        Augment(self.crop, self.flip, self.cutout, autoaugment=self.autoaugment)

    def augment(self, data: Dataset) -> Augment | None:
        """Random changes of the training images."""
        always = data.name == "cifar10"
        fill = data.mean if self.cutout or self.autoaugment else ()
        found = Augment(self.crop or 4 * always, self.flip or always, self.cutout, fill, self.autoaugment)
        return found if found != Augment() else None


def _misfit(value: Any, kind: Any) -> str:
    """What a field of this type expects, when `value` is not that; "" when it is, or for types other than these."""
    if get_origin(kind) is Literal:
        return "" if value in get_args(kind) else " or ".join(map(repr, get_args(kind)))
    if kind is int:
        fits = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
        return "" if fits else "a whole number of 64 bits"
    if kind is float:
        return "" if isinstance(value, (int, float)) and math.isfinite(value) else "a finite number"
    return ""


def recipe(
    *, paper: str, reports: dict[str, float] | None = None, presets: dict[str, dict[str, Any]] | None = None
) -> Callable[[type[Recipe]], type[Recipe]]:
    """Register the decorated dataclass as the recipe of its file."""

    def register(cls: type[Recipe]) -> type[Recipe]:
        *_, family, file = cls.__module__.split(".")
        cls.name, cls.family = file.replace("_", "-"), family.replace("_", "-")
        cls.paper, cls.reports, cls.presets = paper, reports or {}, presets or {}
        return cls

    return register


_listed = Listed(__name__, Recipe, "recipe", " (spikewright methods lists them)")
names, get = _listed.names, _listed.get


def listing() -> list[dict[str, Any]]:
    """What there is, for `spikewright methods`: name, family, paper, what the paper reports, one line."""
    return [
        {
            "name": r.name,
            "family": r.family,
            "paper": r.paper,
            "reports": r.reports,
            "about": (r.__doc__ or "").strip().splitlines()[0],
        }
        for r in _listed.found.values()
    ]
