"""Contents of a file of records, for `recfound validate-data`."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from recbole_recfound.data.records.broken import BrokenLines, IgnoredKeys, no_record
from recbole_recfound.data.records.disk_rows import DiskRows
from recbole_recfound.data.records.parse import BadRecord, GenerativeRecord, Record
from recbole_recfound.data.records.questions import IN_OTHER_SPELLING, Questions, QuestionSets, fingerprints
from recbole_recfound.data.records.reader import read_records
from recbole_recfound.data.task import TASKS
from recbole_recfound.data.text import plain_tokens
from recbole_recfound.errors import DataError

PERCENTILES = (50, 90, 99, 100)


class FileSummary:
    """Contents of one file: number of records, lengths in tokens, questions and broken lines.

    Args:
        path: a file of JSON lines, or one JSON array.
        tokenizer: of the backbone.
        progress: called with the offset of every record.

    Attributes:
        records: number of records of each task.
        questions: of all records.

    Raises:
        DataError: the file cannot be read, or the temporary folder is full.
    """

    def __init__(self, path: Path, tokenizer: PreTrainedTokenizerBase, progress: Callable[[int], object]) -> None:
        self.path = path
        self.records: dict[str, int] = {}
        self._lengths: dict[tuple[str, str], Counter[int]] = {}
        self._broken, self._ignored = BrokenLines(path), IgnoredKeys()
        self._unparsed = BrokenLines(path)
        exact, normal = DiskRows(np.uint64), DiskRows(np.uint64)
        try:
            file = path.open("rb")
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror})") from None
        with file:
            for number, offset, record in read_records(file):
                progress(offset)
                if isinstance(record, BadRecord):
                    self._broken.add(number, str(record))
                    continue
                self._add(number, record, tokenizer)
                verbatim, form = fingerprints(record)
                exact.append(verbatim)
                normal.append(form)
        self.questions = QuestionSets(Questions(exact), Questions(normal))

    def _add(self, number: int, record: Record, tokenizer: PreTrainedTokenizerBase) -> None:
        self.records[record.task] = self.records.get(record.task, 0) + 1
        self._ignored.add(record.ignored)
        if isinstance(record, GenerativeRecord) and not TASKS[record.task].parses(record.answer):
            self._unparsed.add(number, record.task)
        for part, texts in _texts(record).items():
            counts = self._lengths.setdefault((record.task, part), Counter())
            counts.update(map(len, plain_tokens(texts, tokenizer)))

    def problems(self) -> tuple[list[str], int]:
        """Return broken lines, of which the first are listed, and their number; or that there is no record."""
        lines = self._broken.lines() or ([] if self.records else [no_record(self.path, 0)])
        return lines, max(self._broken.count, len(lines) and 1)

    def lines(self) -> Iterator[str]:
        """Yield the lines that describe the file."""
        tasks = "".join(f", {name} {count}" for name, count in self.records.items())
        yield f"{self.path}: {sum(self.records.values())} records{tasks}"
        order = list(self.records)
        for (name, part), counts in sorted(self._lengths.items(), key=lambda item: order.index(item[0][0])):
            values = zip(PERCENTILES, percentiles(counts), strict=True)
            yield f"  {name} {part}, tokens: {', '.join(f'{p}%: {value}' for p, value in values)}"
        exact, normal = (len(each) - each.distinct() for each in (self.questions.exact, self.questions.normal))
        yield f"  {exact} records repeat the question of an earlier one; {normal} {IN_OTHER_SPELLING}"
        if self._unparsed.count:
            yield (
                f"  {self._unparsed.count} answers do not fit their task (rejected in validation and test files), "
                f"the first: {self.path}:{self._unparsed.listed[0][0]}"
            )
        if ignored := self._ignored.note():
            yield f"  {ignored}"
        if self._broken.count:
            yield f"  {self._broken.count:,} bad lines"


def overlap(first: FileSummary, second: FileSummary) -> str:
    """Return one line about the questions that two files share.

    Args:
        first: a file.
        second: another file.
    """
    exact = first.questions.exact.shared(second.questions.exact)
    normal = first.questions.normal.shared(second.questions.normal)
    leak = " (a leak, if one tests the other)" if normal else ""
    return f"{first.path} and {second.path}: {exact} questions in both; {normal} {IN_OTHER_SPELLING}{leak}"


def percentiles(counts: Mapping[int, int]) -> list[int]:
    """Return, for each of `PERCENTILES`, the length that this share of the texts does not exceed.

    Args:
        counts: length -> number of texts with it, for constant memory.
    """
    lengths = np.array(sorted(counts))
    up_to = np.cumsum([counts[length] for length in lengths.tolist()])
    indices = np.searchsorted(up_to, np.array(PERCENTILES) / 100 * up_to[-1] - 1e-9)
    return lengths[indices].tolist()


def _texts(record: Record) -> dict[str, list[str]]:
    """Group a record's texts by their part."""
    if isinstance(record, GenerativeRecord):
        return {"prompt": [record.prompt], "answer": [record.answer]}
    parts = {"query": [record.query], "pos": record.positives, "neg": record.negatives}
    return {part: [" ".join(filter(None, pair)) for pair in pairs] for part, pairs in parts.items() if pairs}
