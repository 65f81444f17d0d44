"""Index of a file of records: every record is validated once, then read again on demand.

A file is indexed in one pass. The index is on disk (`disk_rows`), so that memory grows neither with the texts nor with
their number.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from recbole_recfound.data.records.array import is_array
from recbole_recfound.data.records.broken import BrokenLines, IgnoredKeys, no_record
from recbole_recfound.data.records.disk_rows import BLOCK, DiskRows
from recbole_recfound.data.records.parse import BadRecord, EmbeddingRecord, GenerativeRecord, Record, Text, parse_record
from recbole_recfound.data.records.questions import QUESTION, QuestionSets, fingerprints
from recbole_recfound.data.records.reader import read_records, record_at
from recbole_recfound.data.task import TASKS
from recbole_recfound.errors import DataError

__all__ = ["BadRecord", "EmbeddingRecord", "GenerativeRecord", "Record", "RecordFile", "Text", "parse_record"]

MOST_CHOICES = 64
# An embedding record has an entry for each of its positives: `place` is the index of the positive.
_ROW = np.dtype([("offset", np.int64), ("place", np.int32)])


class RecordFile:
    """A validated file: the examples of each task, with their offsets.

    Args:
        path: a file of JSON lines, or one JSON array.
        without: excluded questions (those of the test files), compared by their normal form.
        held_out: whether it is a validation or test file: its questions are indexed, and its answers must be such that
            their task can parse them.

    Attributes:
        broken: lines that are not records; they are left out.
        unparsed: lines of a held-out file whose answer their task cannot parse.
        ignored: keys that records do not have.
        excluded: number of records excluded by `without`.
        excluded_exact: number of those whose question is there verbatim.
        choices: distinct answers of each generative task, or None if there are more than `MOST_CHOICES`.

    Raises:
        DataError: the file cannot be read, or the temporary folder is full.
    """

    def __init__(self, path: str | Path, without: QuestionSets | None = None, held_out: bool = False) -> None:
        self.path = Path(path)
        self.broken, self.unparsed = BrokenLines(self.path), BrokenLines(self.path)
        self.ignored = IgnoredKeys()
        self.excluded = self.excluded_exact = 0
        self.choices: dict[str, set[str] | None] = {}
        self._without, self._held_out = without, held_out
        try:
            self._file = self.path.open("rb")
            self._in_array = is_array(self._file)
        except OSError as error:
            raise DataError(f"task_files: {self.path} cannot be read ({error.strerror})") from None
        rows: dict[str, DiskRows] = {}
        questions = DiskRows(QUESTION)
        for number, offset, record in read_records(self._file):
            if isinstance(record, BadRecord):
                self.broken.add(number, str(record))
            else:
                self._add(rows, questions, number, offset, record)
        self._rows = {task: index.mapped() for task, index in rows.items()}
        self._questions = questions.mapped()
        self._without = None  # frees the sets of questions, which all files share

    def _add(self, rows: dict[str, DiskRows], questions: DiskRows, number: int, offset: int, record: Record) -> None:
        self.ignored.add(record.ignored)
        if self._held_out or self._without is not None:
            exact, normal = fingerprints(record)
            if self._without is not None and normal in self._without.normal:
                self.excluded += 1
                self.excluded_exact += exact in self._without.exact
                return
            if self._held_out:
                questions.append((exact, normal))
        if isinstance(record, GenerativeRecord):
            if self._held_out and not TASKS[record.task].parses(record.answer):
                self.unparsed.add(number, f"key 'text': no answer of {record.task}: '{record.answer[:60]}'")
            self._add_choice(record)
        if record.task not in rows:
            rows[record.task] = DiskRows(_ROW)
        for place in range(len(record.positives) if isinstance(record, EmbeddingRecord) else 1):
            rows[record.task].append((offset, place))

    def _add_choice(self, record: GenerativeRecord) -> None:
        known = self.choices.setdefault(record.task, set())
        if known is not None:
            known.add(record.answer.strip())
            if len(known) > MOST_CHOICES:
                self.choices[record.task] = None

    def problems(self, skip_bad_rows: bool = False) -> tuple[list[str], int]:
        """Return why a run cannot use the file, and the number of problems, of which the first are listed.

        Args:
            skip_bad_rows: whether lines that are not records are left out instead.
        """
        refused = [self.unparsed] if skip_bad_rows else [self.broken, self.unparsed]
        lines = [line for broken in refused for line in broken.lines()]
        if not lines and not self._rows and not self.excluded:
            lines = [no_record(self.path, self.broken.count)]
        return lines, max(sum(broken.count for broken in refused), len(lines) and 1)

    def notes(self) -> list[str]:
        """Return one line for each skipped line (the first of many), for ignored keys and for excluded records."""
        lines = []
        if self.broken.count:
            lines += [f"{self.path}: {self.broken.count:,} bad lines skipped", *self.broken.lines()]
        if ignored := self.ignored.note():
            lines.append(f"{self.path}: {ignored}")
        if self.excluded:
            lines.append(
                f"{self.path}: {self.excluded:,} records excluded: their questions are in validation or test files "
                f"({self.excluded_exact:,} verbatim, {self.excluded - self.excluded_exact:,} in another spelling)"
            )
        return lines

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
        try:
            return record_at(self._file, int(row["offset"]), self._in_array), int(row["place"])
        except BadRecord:
            raise DataError(f"{self.path}: the file has changed since it was checked; start again") from None

    def questions(self) -> Iterator[np.ndarray]:
        """Yield the questions of all records of a held-out file in blocks, `QUESTION` [n]."""
        for start in range(0, len(self._questions), BLOCK):
            yield self._questions[start : start + BLOCK]
