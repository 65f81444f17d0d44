"""Joining settings of several sources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RECBOLES = ("eval_args", "train_neg_sample_args", "valid_neg_sample_args", "test_neg_sample_args")
"""RecBole's own mappings: a stronger source replaces them whole."""


def merged(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings of several sources, weakest first.

    A mapping of options (`*_args`) changes the options it names, and the others stay; an empty value (None) resets it.
    """
    joined: dict[str, Any] = {}
    for source in sources:
        for key, value in source.items():
            options = key.endswith("_args") and key not in RECBOLES
            if options and isinstance(value, Mapping) and isinstance(joined.get(key), Mapping):
                joined[key] = _deep(joined[key], value)
            else:
                joined[key] = value
    return joined


def _deep(weaker: Mapping[str, Any], stronger: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(weaker)
    for name, value in stronger.items():
        both = isinstance(value, Mapping) and isinstance(result.get(name), Mapping)
        result[name] = _deep(result[name], value) if both else value
    return result
