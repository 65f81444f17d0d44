"""Records of texts to be written: `{"task": ..., "source": [segments], "target": text, "feature": word}`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recbole_recfound.data.records.broken import BrokenLines, Problems, no_record
from recbole_recfound.data.records.files import PARTS, by_part, paths_in
from recbole_recfound.data.records.normal import normal_form
from recbole_recfound.data.text.catalogue import Catalogue
from recbole_recfound.data.text.fields import readable
from recbole_recfound.errors import ConfigError, DataError

DESIGN, QUERY = "design", "query"
FROM_CATALOGUE = (DESIGN, QUERY)
"""Tasks whose examples are made from any catalogue."""
CUES = {
    "explanation": "The user likes it because:",
    DESIGN: "A new product named:",
    QUERY: "The user now searches:",
    "conversation": "SYSTEM:",
}
"""What stands before the text of each task, and is not learned."""
KEYS = ("task", "source", "target", "feature")
QUERY_WORDS = 8


@dataclass(frozen=True)
class Writing:
    """A text to be written.

    Attributes:
        task: one of `CUES`.
        source: segments that are read.
        target: the text.
        feature: word that the text should contain, by the writer of the record; "" for none.
    """

    task: str
    source: tuple[str, ...]
    target: str
    feature: str = ""


@dataclass(frozen=True)
class Writings:
    """The examples of a run by part.

    Attributes:
        parts: train, valid, test -> examples.
        origin: task -> `files` or `items`.
        repeated: training records left out, whose source is in a validation or test file too.
    """

    parts: dict[str, list[Writing]]
    origin: dict[str, str]
    repeated: int = 0


def parse_writing(line: str) -> Writing:
    """Return the record of a line.

    Args:
        line: of a file of JSON lines.

    Raises:
        ValueError: the key that is wrong, and what is expected.
    """
    try:
        values = json.loads(line)
    except ValueError as error:
        raise ValueError(f"no JSON ({error})") from None
    if not isinstance(values, dict):
        raise ValueError(f"got {type(values).__name__}, expected an object with {', '.join(KEYS)}")
    task, source, target, feature = (values.get(key) for key in KEYS)
    if not isinstance(task, str) or task not in CUES:
        raise ValueError(f"key 'task': got {task!r}, expected one of {', '.join(CUES)}")
    if not isinstance(source, list) or not source or not all(isinstance(text, str) and text.strip() for text in source):
        raise ValueError(f"key 'source': got {str(source)[:60]!r}, expected a list of texts, one at least")
    if not isinstance(target, str) or not target.strip():
        raise ValueError(f"key 'target': got {str(target)[:60]!r}, expected a text")
    if feature is not None and not (isinstance(feature, str) and feature.strip()):
        raise ValueError(f"key 'feature': got {str(feature)[:60]!r}, expected a word, or no such key")
    return Writing(task, tuple(source), target.strip(), (feature or "").strip())


def read_writings(given: Sequence[str] | Mapping[str, Sequence[str]] | None) -> Writings:
    """Read files of records; a training record whose source is held out for the same task is left out.

    Args:
        given: `task_files`: training files, or lists of files under `train`, `valid` and `test`.

    Raises:
        ConfigError: the same file twice, or no file of a part.
        DataError: files that cannot be read or have no record, and malformed lines, with file:line and key.
    """
    paths = by_part(given or {})
    parts: dict[str, list[Writing]] = {part: [] for part in PARTS}
    if not paths_in(given or {}):
        return Writings(parts, {})
    if len({Path(path).resolve() for path in paths_in(given or {})}) < len(paths_in(given or {})):
        raise ConfigError("task_files: a file is specified more than once")
    if missing := [part for part in PARTS if not paths.get(part)]:
        raise ConfigError(
            f"task_files: no file of {', '.join(missing)}, expected {{train: ..., valid: ..., test: ...}}"
        )
    problems = Problems()
    for part in PARTS:
        for path in map(Path, paths[part]):
            parts[part] += _read(path, problems)
    problems.check()
    held_out = {_question(each) for part in PARTS[1:] for each in parts[part]}
    kept = [each for each in parts["train"] if _question(each) not in held_out]
    if not kept:
        raise DataError("task_files: no training record whose source is not in a validation or test file as well")
    repeated = len(parts["train"]) - len(kept)
    tasks = {each.task for part in parts.values() for each in part}
    return Writings(parts | {"train": kept}, dict.fromkeys(tasks, "files"), repeated)


def _question(writing: Writing) -> tuple[str, str]:
    return writing.task, normal_form(" ".join(writing.source))


def _read(path: Path, problems: Problems) -> list[Writing]:
    """Return the records of a file; add its problems to those of the others."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # texts may hold other line ends
    except (OSError, UnicodeDecodeError) as error:
        problems.add([f"task_files: {path} cannot be read ({error})"], 1)
        return []
    broken, found = BrokenLines(path), []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(parse_writing(line))
        except ValueError as error:
            broken.add(number, str(error))
    if not found and not broken.count:
        problems.add([no_record(path, 0)], 1)
    problems.add(broken.lines(), broken.count)
    return found


def with_catalogue(
    writings: Writings,
    catalogue: Catalogue,
    rows: Sequence[int],
    tasks: Sequence[str],
    share: float,
    most: int,
    seed: int,
) -> Writings:
    """Add examples that are made from items: titles to be designed, and queries to be typed.

    Items are held out, all of one title together, so that nothing tested was trained.

    Args:
        writings: of files; a task that has records there is not made from items.
        catalogue: texts of items.
        rows: items of training rows, by row of the catalogue.
        tasks: of `FROM_CATALOGUE`.
        share: of the titles in each held-out part.
        most: held-out titles of each part.
        seed: of the draw.

    Raises:
        DataError: neither records nor items with a title and another text.
    """
    made = [task for task in tasks if task not in writings.origin]
    by_title: dict[str, list[int]] = {}
    for row in sorted(set(rows)):
        if _says(catalogue, row):
            by_title.setdefault(normal_form(catalogue.title_of(row)), []).append(row)
    titles = sorted(by_title)
    count = min(most, int(share * len(titles)))
    if not made or count < 1:
        if writings.parts["train"]:
            return writings
        raise DataError(
            f"generate: no record in task_files, and {len(titles)} items with a title and another text, of which "
            f"a share of {share} is to be held out: name files of records or text_fields"
        )
    order = np.random.default_rng([seed, 0x6E]).permutation(len(titles))
    bounds = {"test": order[:count], "valid": order[count : 2 * count], "train": order[2 * count :]}
    parts = {
        part: writings.parts[part]
        + [_of_item(catalogue, row, task) for task in made for title in bounds[part] for row in by_title[titles[title]]]
        for part in PARTS
    }
    return Writings(parts, {**writings.origin, **dict.fromkeys(made, "items")}, writings.repeated)


def _says(catalogue: Catalogue, row: int) -> bool:
    """Return whether an item has a title and another text."""
    values = catalogue.values[row]
    return catalogue.title in values and len(values) > 1


def _of_item(catalogue: Catalogue, row: int, task: str) -> Writing:
    values, title = catalogue.values[row], catalogue.title_of(row)
    others = {name: value for name, value in values.items() if name != catalogue.title}
    if task == DESIGN:
        return Writing(DESIGN, tuple(f"{readable(name)}: {value}" for name, value in others.items()), title)
    words = [word.lower() for value in reversed(list(others.values())) for word in value.split()][:QUERY_WORDS]
    return Writing(QUERY, (title,), " ".join(words))


def check_writing(task: Any, source: Any) -> tuple[str, tuple[str, ...]]:
    """Return task and source of a request.

    Args:
        task: name of a task.
        source: list of texts.

    Raises:
        ConfigError: another task, or no texts.
    """
    try:
        checked = parse_writing(json.dumps({"task": task, "source": source, "target": "-"}))
    except (TypeError, ValueError) as error:
        raise ConfigError(f"generate: {error}") from None
    return checked.task, checked.source
