"""Numbers that were found once and must be found again; see `Pins`."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NUMBERS = Path(__file__).with_name("numbers.json")
WRITE = "RECFOUND_WRITE_PINS"


class Pins:
    """Compares what a test finds with `numbers.json`.

    With RECFOUND_WRITE_PINS=1 in the environment the found numbers are written instead, with a warning: do so only for
    a change that means to change them, and say why in the commit.
    """

    def check(self, name: str, found: Any, rel: float = 1e-5, abs: float = 1e-7) -> None:
        """Compare with the values pinned under a name: keys, texts, booleans exactly, numbers within tolerance."""
        flat = dict(_flat(json.loads(json.dumps(found))))
        kept = json.loads(NUMBERS.read_text()) if NUMBERS.is_file() else {}
        if os.environ.get(WRITE) == "1":
            kept[name] = found
            NUMBERS.write_text(_written(kept))
            warnings.warn(f"pinned anew: {name}", stacklevel=2)
            return
        assert name in kept, f"{name} is not pinned: run once with {WRITE}=1"
        pinned = dict(_flat(kept[name]))
        assert list(map(str, flat)) == list(map(str, pinned)), "other keys or lengths than those that are pinned"
        for path, value in pinned.items():
            same = flat[path] == (pytest.approx(value, rel=rel, abs=abs) if type(value) is float else value)
            assert same, f"{name}: {'/'.join(map(str, path))} is {flat[path]!r}, pinned is {value!r}"


def _flat(value: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """Every leaf of nested lists and dicts with the way to it, dicts by sorted key."""
    if isinstance(value, dict):
        for key in sorted(value):
            yield from _flat(value[key], (*path, key))
    elif isinstance(value, list):
        yield (*path, "length"), len(value)
        for number, entry in enumerate(value):
            yield from _flat(entry, (*path, number))
    else:
        yield path, value


def _written(kept: dict[str, Any]) -> str:
    """One line per name, so that a change of a pin is a change of its line."""
    lines = [f"{json.dumps(name)}: {json.dumps(kept[name], sort_keys=True)}" for name in sorted(kept)]
    return "{\n" + ",\n".join(lines) + "\n}\n"


@pytest.fixture(scope="session")
def pins() -> Pins:
    """The pinned numbers."""
    return Pins()
