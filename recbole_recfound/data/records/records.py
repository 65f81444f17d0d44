"""Parser of the published JSON-lines records: every line is validated once, then read again on demand.

A file is indexed in one pass. The index is on disk (`disk_rows`), so that memory grows neither with the texts nor with
their number.
"""

import difflib
import json
from collections.abc import Container, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from recbole_recfound.data.records.disk_rows import BLOCK, DiskRows
from recbole_recfound.data.task import EMBEDDING, TASKS, Task
from recbole_recfound.errors import DataError

MAX_LINE_BYTES = 1 << 24
MOST_LISTED = 1000
MOST_CHOICES = 64
# An embedding record has an entry for each of its positives: `place` is the index of the positive.
_ROW = np.dtype([("offset", np.int64), ("place", np.int32), ("fingerprint", np.uint64)])
_EMBEDDING_KEYS = ("query", "pos", "neg")

Text = tuple[str, str]
"""Instruction and text."""


@dataclass(frozen=True)
class GenerativeRecord:
    """`{"text": [prompt, answer], "task": ..., "id": ...}`."""

    task: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class EmbeddingRecord:
    """`{"query": [instruction, text], "pos": [[instruction, text], ...], "neg": [...], "task": ..., "id": ...}`."""

    task: str
    query: Text
    positives: tuple[Text, ...]
    negatives: tuple[Text, ...]


Record = GenerativeRecord | EmbeddingRecord


class BadRecord(ValueError):
    """A line that is not a record; the message names the offending key."""


def parse_record(line: bytes) -> Record:
    """Parse one line.

    Raises:
        BadRecord: not UTF-8, not JSON, or not one of the two published forms.
    """
    try:
        row = json.loads(line.decode("utf-8"), object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        raise BadRecord(f"not UTF-8 (byte {error.start + 1})") from None
    except BadRecord:
        raise
    except (ValueError, RecursionError) as error:
        raise BadRecord(f"not JSON: {str(error).splitlines()[0]}") from None
    if not isinstance(row, dict):
        raise BadRecord(f"a record is a JSON object, not {_kind(row)}")
    spec = _spec(row)
    keys = _EMBEDDING_KEYS if spec.kind == EMBEDDING else ("text",)
    for key in row:
        if key not in (*keys, "task", "id"):
            raise BadRecord(f"key '{_printable(key)}': a record of {spec.record} has {', '.join(keys)}, task and id")
    if not isinstance(row.get("id", ""), (str, int)) or isinstance(row.get("id"), bool):
        raise BadRecord(f"key 'id': must be text or a whole number, not {_kind(row['id'])}")
    if spec.kind == EMBEDDING:
        positives = _texts(row, "pos")
        if not positives:
            raise BadRecord("key 'pos': needs at least one [instruction, text]")
        return EmbeddingRecord(spec.name, _text(row, "query"), positives, _texts(row, "neg") if "neg" in row else ())
    prompt, answer = _text(row, "text")
    if not prompt.strip():
        raise BadRecord("key 'text': the prompt is empty")
    if not answer.strip():
        raise BadRecord("key 'text': the answer is empty")
    if spec.answers:
        # One spelling, to which generation is constrained and on which thresholds are chosen.
        parsed = spec.parse(answer, spec.answers)
        if parsed not in spec.answers:
            expected = " or ".join(reversed(spec.answers))
            raise BadRecord(
                f"key 'text': an answer of {spec.record} begins with {expected}, not '{_printable(answer)}'"
            )
        answer = str(parsed)
    return GenerativeRecord(spec.name, prompt, answer)


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
        raise BadRecord(f"key 'task': must be text, not {_kind(name)}")
    near = difflib.get_close_matches(name[:60], tasks, n=1)
    hint = f", did you mean {near[0]}?" if near else f", known are {', '.join(tasks)}"
    raise BadRecord(f"key 'task': unknown task '{_printable(name)}'{hint}")


def _text(row: dict[str, Any], key: str) -> Text:
    if key not in row:
        raise BadRecord(f"key '{key}' is missing")
    return _pair(row[key], key)


def _texts(row: dict[str, Any], key: str) -> tuple[Text, ...]:
    if key not in row:
        raise BadRecord(f"key '{key}' is missing")
    if not isinstance(row[key], list):
        raise BadRecord(f"key '{key}': must be a list of [instruction, text], not {_kind(row[key])}")
    return tuple(_pair(value, key) for value in row[key])


def _pair(value: Any, key: str) -> Text:
    if not isinstance(value, list) or len(value) != 2 or not all(isinstance(part, str) for part in value):
        raise BadRecord(f"key '{key}': must be a list of two texts")
    for part in value:
        try:
            part.encode("utf-8")
        except UnicodeEncodeError:
            raise BadRecord(f"key '{key}': got an unpaired surrogate, expected characters") from None
    if key != "text" and not value[1].strip():
        raise BadRecord(f"key '{key}': the text is empty")
    return value[0], value[1]


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "text", type(None): "null", bool: "true or false"}.get(
        type(value), "a number"
    )


def _printable(text: str) -> str:
    return text.encode("unicode_escape").decode()[:60]


def fingerprint(record: Record) -> int:
    """Return a digest (8 bytes, as a number) of a record's question: its prompt, or its query."""
    question = record.prompt if isinstance(record, GenerativeRecord) else "\0".join(record.query)
    return int.from_bytes(blake2b(f"{record.task}\0{question}".encode(), digest_size=8).digest(), "big")


def read_lines(file: BinaryIO) -> Iterator[tuple[int, int, Record | BadRecord]]:
    """Yield number, offset and record (or error) of every non-empty line of a file.

    At most one line is in memory; one longer than `MAX_LINE_BYTES` is a bad record.
    """
    number, offset = 0, 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        start, length = offset, len(line)
        too_long = length > MAX_LINE_BYTES and not line.endswith(b"\n")
        while too_long and not line.endswith(b"\n") and (line := file.readline(MAX_LINE_BYTES)):
            length += len(line)
        offset += length
        if too_long:
            yield number, start, BadRecord(f"a line of {length:,} bytes; {MAX_LINE_BYTES:,} are the most")
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
            start += length - len(line)
        if not line.strip():
            continue
        try:
            yield number, start, parse_record(line)
        except BadRecord as bad:
            yield number, start, bad


class RecordFile:
    """A validated file: the examples of each task, with their offsets.

    Args:
        path: a JSON-lines file.
        skip_bad_rows: skip lines that are not records (they are counted and listed) instead of refusing the file.
        without: fingerprints of excluded questions (those of the test files).

    Attributes:
        skipped: (line, reason) of bad lines, at most `MOST_LISTED` of them.
        bad: number of bad lines.
        excluded: number of records excluded by `without`.
        choices: distinct answers of each generative task, or None if there are more than `MOST_CHOICES`.

    Raises:
        DataError: the file cannot be read, has no record, or has a bad line (file:line and key).
    """

    def __init__(self, path: str | Path, skip_bad_rows: bool = False, without: Container[int] = ()) -> None:
        self.path = Path(path)
        self.skipped: list[tuple[int, str]] = []
        self.bad = 0
        self.excluded = 0
        self.choices: dict[str, set[str] | None] = {}
        try:
            self._file = self.path.open("rb")
        except OSError as error:
            raise DataError(f"task_files: {self.path} cannot be read ({error.strerror})") from None
        rows: dict[str, DiskRows] = {}
        for number, offset, record in read_lines(self._file):
            if isinstance(record, BadRecord):
                self._leave_out(number, record, skip_bad_rows)
            else:
                self._add(rows, offset, record, without)
        self._rows = {task: kept.mapped() for task, kept in rows.items()}
        if not self._rows and not self.excluded:
            raise DataError(f"{self.path}:1: no record in this file" + (f" ({self.bad} bad lines)" if self.bad else ""))

    def _leave_out(self, number: int, bad: BadRecord, skip: bool) -> None:
        if not skip:
            raise DataError(f"{self.path}:{number}: {bad} (skip_bad_rows skips such lines)")
        self.bad += 1
        if len(self.skipped) < MOST_LISTED:
            self.skipped.append((number, str(bad)))

    def _add(self, rows: dict[str, DiskRows], offset: int, record: Record, without: Container[int]) -> None:
        question = fingerprint(record)
        if question in without:
            self.excluded += 1
            return
        if record.task not in rows:
            rows[record.task] = DiskRows(_ROW)
        for place in range(len(record.positives) if isinstance(record, EmbeddingRecord) else 1):
            rows[record.task].append((offset, place, question))
        if isinstance(record, GenerativeRecord):
            known = self.choices.setdefault(record.task, set())
            if known is not None:
                known.add(record.answer.strip())
                if len(known) > MOST_CHOICES:
                    self.choices[record.task] = None

    @property
    def tasks(self) -> list[str]:
        """Tasks with records in this file, in order of appearance."""
        return list(self._rows)

    def size(self, task: str) -> int:
        """Return the number of examples of a task."""
        return len(self._rows.get(task, ()))

    def read(self, task: str, index: int) -> tuple[Record, int]:
        """Return the record of one example and the index of its positive.

        Args:
            task: name of the task.
            index: of the example, from 0.

        Raises:
            DataError: the file has changed since it was checked.
        """
        row = self._rows[task][index]
        self._file.seek(int(row["offset"]))
        try:
            return parse_record(self._file.readline(MAX_LINE_BYTES + 1)), int(row["place"])
        except BadRecord:
            raise DataError(f"{self.path}: the file has changed since it was checked; start again") from None

    def line(self, task: str, index: int) -> int:
        """Return the line number of an example, for messages; counted from the beginning of the file.

        Args:
            task: name of the task.
            index: of the example, from 0.
        """
        self._file.seek(0)
        left, number = int(self._rows[task][index]["offset"]), 1
        while left > 0 and (block := self._file.read(min(left, 1 << 20))):
            number += block.count(b"\n")
            left -= len(block)
        return number

    def fingerprints(self) -> Iterator[np.ndarray]:
        """Yield the fingerprints of all records in blocks, uint64 [n]."""
        for rows in self._rows.values():
            for start in range(0, len(rows), BLOCK):
                block = rows[start : start + BLOCK]
                yield block["fingerprint"][block["place"] == 0]
