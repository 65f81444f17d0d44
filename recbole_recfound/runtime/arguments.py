"""Checks of what a caller passes to a Python API; without torch, for devices as for servers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import Any

from recbole_recfound.errors import ConfigError


def checked_count(field: str, given: Any) -> int:
    """Return how many items or tokens a request wants.

    Args:
        field: name for messages.
        given: as given.

    Raises:
        ConfigError: no whole number of at least 1.
    """
    if not isinstance(given, Integral) or isinstance(given, bool) or given < 1:
        raise ConfigError(f"{field}: got {given!r}, expected a whole number of at least 1")
    return int(given)


def checked_list(field: str, given: Any, allow_empty: bool = False, ordered: bool = False) -> list[Any]:
    """Return what a caller gave as a list.

    Args:
        field: name for messages.
        given: a list or any other iterable, but no text.
        allow_empty: whether it may hold nothing.
        ordered: whether its order means something, which a set has not.

    Raises:
        ConfigError: a single value, an empty list, or a set where the order means something.
    """
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        example = "" if given is None else f", as in [{short(given)}]"
        raise ConfigError(f"{field}: got {short(given)}, expected a list{example}")
    if ordered and isinstance(given, (set, frozenset)):
        raise ConfigError(f"{field}: got a set, which has no order: give a list, oldest first")
    found = list(given)
    if not found and not allow_empty:
        raise ConfigError(f"{field}: got an empty list, expected at least one entry")
    return found


def short(value: Any) -> str:
    """Return a value for a message, at most 80 letters of it.

    Args:
        value: as given.
    """
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
