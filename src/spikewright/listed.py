"""Classes found by listing the files of a package: nothing else knows their names."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cached_property
from typing import Generic, TypeVar

from spikewright.errors import unknown

__all__ = ["Listed"]

T = TypeVar("T")


class Listed(Generic[T]):
    """The subclasses of `base` in the modules of a package and the packages in it that have a `name` of their own.

    Args:
        package: its name, as in `__name__`.
        base: the class; its subclasses carry `name`.
        what: what one of them is called in errors.
        hint: ends the error for a name that is not there.
    """

    def __init__(self, package: str, base: type[T], what: str, hint: str = ""):
        self.package, self.base, self.what, self.hint = package, base, what, hint

    @cached_property
    def found(self) -> dict[str, type[T]]:
        """By name, in their order."""
        found: dict[str, type[T]] = {}
        for module in pkgutil.walk_packages(importlib.import_module(self.package).__path__, f"{self.package}."):
            if module.ispkg:
                continue
            for value in vars(importlib.import_module(module.name)).values():
                own = isinstance(value, type) and issubclass(value, self.base) and value.__module__ == module.name
                if own and value.name:
                    found[value.name] = value
        return dict(sorted(found.items()))

    def names(self) -> list[str]:
        """Names of all."""
        return list(self.found)

    def get(self, name: str) -> type[T]:
        """The one called `name`; ConfigError lists the close ones."""
        if name not in self.found:
            raise unknown(self.what, name, self.found, self.hint)
        return self.found[name]
