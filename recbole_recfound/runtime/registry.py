"""Registries of everything that is chosen by name: tasks, schedulers, adapters, merge methods, answer metrics.

A class or function is registered where it is defined, by a decorator. A registry imports the modules of its package on
the first lookup, so it is complete for every caller; a module outside the package registers when it is imported.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from recbole_recfound.errors import ConfigError

T = TypeVar("T")
S = TypeVar("S")

NEAR = 0.6
"""Least similarity (difflib's ratio) of a name that an error message suggests."""


class Registry(Generic[T]):
    """Classes or functions by name.

    Args:
        noun: singular name of the entries for error messages, e.g. "task".
        package: package whose modules register the built-in entries; imported on the first lookup.
        attribute: attribute of an entry that is set to its name; "" sets none.
        order: sort key of the entries; None keeps the order of registration.

    Example:
        >>> colours = Registry[type]("colour")
        >>> @colours.register("red")
        ... class Red: ...
        >>> colours["red"] is Red
        True
    """

    def __init__(
        self, noun: str, package: str = "", attribute: str = "", order: Callable[[T], Any] | None = None
    ) -> None:
        self.noun = noun
        self._package = package
        self._attribute = attribute
        self._order = order
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[S], S]:
        """Return a decorator that registers a class or function.

        Args:
            name: non-empty name for configurations and tables. Defining the same object again (a notebook cell that is
                run twice) replaces the entry.

        Raises:
            ConfigError: another class or function has this name.
        """

        def decorate(entry: S) -> S:
            self.add(name, entry)  # type: ignore[arg-type]  # the decorator returns the entry's own, narrower type
            return entry

        return decorate

    def add(self, name: str, entry: T) -> None:
        """Register an entry; see `register`.

        Args:
            name: of the entry.
            entry: class or function.
        """
        known = self._entries.get(name)
        if known is not None and _origin(known) != _origin(entry):
            raise ConfigError(f"{self.noun} {name!r} is registered twice: by {_origin(known)} and by {_origin(entry)}")
        if self._attribute:
            setattr(entry, self._attribute, name)
        self._entries[name] = entry
        if self._order:
            key = self._order
            self._entries = dict(sorted(self._entries.items(), key=lambda item: key(item[1])))

    def __getitem__(self, name: str) -> T:
        """Return an entry.

        Raises:
            ConfigError: the name is unknown.
        """
        if name not in self:
            raise ConfigError(self.unknown([name]))
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._complete()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._complete()
        return iter(self._entries)

    def __len__(self) -> int:
        self._complete()
        return len(self._entries)

    def keys(self) -> Iterable[str]:
        """Return all names."""
        return list(self)

    def values(self) -> list[T]:
        """Return all entries."""
        self._complete()
        return list(self._entries.values())

    def items(self) -> list[tuple[str, T]]:
        """Return all names with their entries."""
        self._complete()
        return list(self._entries.items())

    def unknown(self, names: Iterable[Any]) -> str:
        """Return one message about all unknown names among `names`, or "" if all are known.

        A known name is suggested only where it resembles the unknown one.
        """
        wrong = list(dict.fromkeys(name for name in names if name not in self))
        if not wrong:
            return ""
        parts = []
        for name in wrong:
            near = self._nearest(str(name))
            parts.append(f"{name!r}" + (f" (did you mean {near}?)" if near else ""))
        return f"unknown {self.noun} {', '.join(parts)}; known: {', '.join(self)}"

    def _nearest(self, name: str) -> str:
        by_lower = {known.lower(): known for known in self}
        near = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=NEAR)
        return by_lower[near[0]] if near else ""

    def _complete(self) -> None:
        """Import the modules of the package once."""
        if not self._package:
            return
        # Cleared first: modules that are being imported may look something up themselves.
        package, self._package = self._package, ""
        module = importlib.import_module(package)
        for found in pkgutil.iter_modules(module.__path__, f"{package}."):
            importlib.import_module(found.name)


def _origin(entry: Any) -> str:
    entry = getattr(entry, "function", entry)
    return f"{getattr(entry, '__module__', '')}.{getattr(entry, '__qualname__', repr(entry))}"


# Typed aliases of these are defined beside the classes they hold; here they are reachable for config/, which checks
# names.
TASKS: Registry[Any] = Registry("task", "recbole_recfound.data.task", "name", order=lambda task: task.id)
ANSWER_METRICS: Registry[Any] = Registry("answer metric", "recbole_recfound.data.task", "key")
SCHEDULERS: Registry[Any] = Registry("scheduler", "recbole_recfound.sampler")
ADAPTERS: Registry[Any] = Registry("adapter", "recbole_recfound.adapter")
MERGE_METHODS: Registry[Any] = Registry("merge method", "recbole_recfound.merge")
SPARSIFICATIONS: Registry[Any] = Registry("sparsification", "recbole_recfound.merge")
HISTORIES: Registry[Any] = Registry("history mode", "recbole_recfound.model.history", "name")
READING_TASKS: Registry[Any] = Registry("reading task", "recbole_recfound.model.reading", "task")
