"""Parser of one record in the forms that RecFound's scripts write and read."""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from recbole_recfound.data.records.normal import is_blank
from recbole_recfound.data.task import EMBEDDING, TASKS, Task

_COMMON_KEYS = ("task", "id")
_GENERATIVE_KEYS = ("text",)
_EMBEDDING_KEYS = ("query", "pos", "neg")
_PAIR = "text or [instruction, text]"

Text = tuple[str, str]
"""Instruction and text."""


@dataclass(frozen=True)
class GenerativeRecord:
    """`{"text": [prompt, answer], "task": ..., "id": ...}`.

    Attributes:
        task: name of the task.
        prompt: the question.
        answer: its reference answer.
        ignored: keys of the object that records do not have.
    """

    task: str
    prompt: str
    answer: str
    ignored: tuple[str, ...] = field(default=(), compare=False)


@dataclass(frozen=True)
class EmbeddingRecord:
    """`{"query": [instruction, text], "pos": [[instruction, text], ...], "neg": [...], "task": ..., "id": ...}`.

    A plain text in place of `[instruction, text]` has an empty instruction.

    Attributes:
        task: name of the task.
        query: instruction and text of the query.
        positives: of the query, at least one.
        negatives: of the query.
        ignored: keys of the object that records do not have.
    """

    task: str
    query: Text
    positives: tuple[Text, ...]
    negatives: tuple[Text, ...]
    ignored: tuple[str, ...] = field(default=(), compare=False)


Record = GenerativeRecord | EmbeddingRecord


class BadRecord(ValueError):
    """A line that is not a record; the message names the offending key."""


def parse_record(line: bytes) -> Record:
    """Parse one record.

    Raises:
        BadRecord: not UTF-8, not JSON, or not one of the two published forms.
    """
    try:
        row = json.loads(line.decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise BadRecord(f"not UTF-8 (byte {error.start + 1})") from None
    except BadRecord:
        raise
    except json.JSONDecodeError as error:
        raise BadRecord(f"not JSON: {error.msg} (character {error.pos + 1} of the record)") from None
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"not JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(row, dict):
        raise BadRecord(f"got {_kind(row)}, expected a record: a JSON object")
    spec = _spec(row)
    keys = _EMBEDDING_KEYS if spec.kind == EMBEDDING else _GENERATIVE_KEYS
    for key in keys:
        if key not in row and key != "neg":
            raise BadRecord(_missing(key, (*keys, *_COMMON_KEYS), row, spec))
    if isinstance(row.get("id"), (bool, list, dict)):
        raise BadRecord(f"key 'id': got {_kind(row['id'])}, expected text or a number")
    # Tables of several record forms have a null for the keys of the other forms.
    ignored = tuple(_printable(key) for key in row if key not in (*keys, *_COMMON_KEYS) and row[key] is not None)
    if spec.kind == EMBEDDING:
        return _embedding(row, spec.name, ignored)
    return _generative(row, spec, ignored)


def _embedding(row: dict[str, Any], task: str, ignored: tuple[str, ...]) -> EmbeddingRecord:
    positives = _texts(row["pos"], "pos")
    if not positives:
        raise BadRecord("key 'pos': got an empty list, expected at least one positive")
    negatives = () if row.get("neg") is None else _texts(row["neg"], "neg")
    return EmbeddingRecord(task, _pair(row["query"], "key 'query'"), positives, negatives, ignored)


def _generative(row: dict[str, Any], spec: type[Task], ignored: tuple[str, ...]) -> GenerativeRecord:
    value = row["text"]
    if not isinstance(value, list):
        raise BadRecord(f"key 'text': got {_kind(value)}, expected [prompt, answer]")
    if len(value) != 2:
        turns = "; write one record for each turn of a conversation" if len(value) > 2 else ""
        raise BadRecord(f"key 'text': got a list of {len(value)}, expected [prompt, answer]{turns}")
    for part, name in zip(value, ("prompt", "answer"), strict=True):
        _check_text(part, f"key 'text': the {name}")
    prompt, answer = value
    if spec.answers:
        # One spelling, to which generation is constrained and on which thresholds are chosen.
        parsed = spec.parse(answer, spec.answers)
        if parsed not in spec.answers:
            expected = " or ".join(reversed(spec.answers))
            raise BadRecord(
                f"key 'text': an answer of {spec.record} begins with {expected}, not '{_printable(answer)}'"
            )
        answer = str(parsed)
    return GenerativeRecord(spec.name, prompt, answer, ignored)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; raise BadRecord for a repeated key, whose first value would be lost."""
    row = dict(pairs)
    if len(row) < len(pairs):
        twice = next(key for key in row if sum(key == other for other, _ in pairs) > 1)
        raise BadRecord(f"key '{_printable(twice)}' appears twice")
    return row


@lru_cache(maxsize=1)
def _by_record(registered: tuple[str, ...]) -> dict[str, type[Task]]:
    """Return tasks by their name in records; computed once as long as no task is registered."""
    return {TASKS[name].record: TASKS[name] for name in registered}


def _spec(row: dict[str, Any]) -> type[Task]:
    name = row.get("task")
    tasks = _by_record(tuple(TASKS))
    if isinstance(name, str) and name in tasks:
        return tasks[name]
    if "task" not in row:
        raise BadRecord("key 'task' is missing")
    if not isinstance(name, str):
        raise BadRecord(f"key 'task': got {_kind(name)}, expected the name of a task")
    near = difflib.get_close_matches(name[:60], tasks, n=1)
    hint = f", did you mean {near[0]}?" if near else f", known are {', '.join(tasks)}"
    raise BadRecord(f"key 'task': unknown task '{_printable(name)}'{hint}")


def _missing(key: str, keys: Iterable[str], row: dict[str, Any], spec: type[Task]) -> str:
    *first, last = keys
    others = [_printable(other) for other in row if other not in (*first, last)]
    given = f", this one has {', '.join(others[:10])}" if others else ""
    return f"key '{key}' is missing: a record of {spec.record} has {', '.join(first)} and {last}{given}"


def _texts(value: Any, key: str) -> tuple[Text, ...]:
    if not isinstance(value, list):
        raise BadRecord(f"key '{key}': got {_kind(value)}, expected a list whose entries are {_PAIR}")
    if len(value) == 2 and value[0] == "":
        raise BadRecord(f'key \'{key}\': entry 1 is empty; a single [instruction, text] is written [["", "..."]]')
    return tuple(_pair(entry, f"key '{key}': entry {number}") for number, entry in enumerate(value, start=1))


def _pair(value: Any, where: str) -> Text:
    if isinstance(value, str):
        _check_text(value, where)
        return "", value
    if not isinstance(value, list):
        raise BadRecord(f"{where}: got {_kind(value)}, expected {_PAIR}")
    if len(value) != 2:
        raise BadRecord(f"{where}: got a list of {len(value)}, expected {_PAIR}")
    instruction, text = value
    _check_text(instruction, f"{where}: the instruction", empty=True)
    _check_text(text, f"{where}: the text")
    return instruction, text


def _check_text(value: Any, where: str, empty: bool = False) -> None:
    if not isinstance(value, str):
        quoted = ' (in quotation marks: "5", not 5)' if type(value) in (int, float) else ""
        raise BadRecord(f"{where} is {_kind(value)}, expected text{quoted}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise BadRecord(f"{where} has an unpaired surrogate, expected characters") from None
    if not empty and is_blank(value):
        raise BadRecord(f"{where} is empty")


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "text", type(None): "null", bool: "true or false"}.get(
        type(value), "a number"
    )


def _printable(text: str) -> str:
    return text.encode("unicode_escape").decode()[:60]
