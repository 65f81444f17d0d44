"""Questions of records: membership, number and overlap of two sets of files, in constant memory.

Two questions are the same if their normal forms are (`normal.normal_form`); verbatim repetitions are counted besides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np

from recbole_recfound.data.records.disk_rows import BLOCK, DiskRows
from recbole_recfound.data.records.normal import normal_form
from recbole_recfound.data.records.parse import GenerativeRecord, Record

QUESTION = np.dtype([("exact", np.uint64), ("normal", np.uint64)])
"""Fingerprints of a question as it stands, and of its normal form."""
IN_OTHER_SPELLING = "when case, blanks, punctuation and invisible characters are ignored"


def fingerprints(record: Record) -> tuple[int, int]:
    """Return digests (8 bytes, as numbers) of a record's question as it stands and of its normal form.

    The question is the prompt, or instruction and text of the query; the same text asks another question in another
    task.
    """
    question = (record.prompt,) if isinstance(record, GenerativeRecord) else record.query
    return _digest(record.task, question), _digest(record.task, map(normal_form, question))


def question_fingerprint(task: str, question: str) -> int:
    """Return the digest of a question's normal form: a prompt, or a query without its instruction.

    Args:
        task: name of the task.
        question: as written.
    """
    return _digest(task, [normal_form(question)])


def _digest(task: str, question: Iterable[str]) -> int:
    text = "\0".join((task, *question))
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big")


class Questions:
    """Fingerprints of questions, sorted on disk.

    Args:
        fingerprints: uint64 [n] of all records (`fingerprints`), in any order; None for no record.
    """

    def __init__(self, fingerprints: DiskRows | None = None) -> None:
        self._sorted = (fingerprints or DiskRows(np.uint64)).mapped()
        self._sorted.sort()  # in place: numpy takes no second array for it

    def __len__(self) -> int:
        """Return the number of records, repeated questions included."""
        return len(self._sorted)

    def __contains__(self, fingerprint: object) -> bool:
        # As uint64: for a plain number numpy would turn all of them into floats.
        value = np.uint64(fingerprint)  # type: ignore[arg-type]  # an int; a container takes any object
        index = self._sorted.searchsorted(value)
        return bool(index < len(self._sorted) and self._sorted[index] == value)

    def distinct(self) -> int:
        """Return the number of distinct questions."""
        return sum(map(len, self._distinct()))

    def shared(self, other: Questions) -> int:
        """Return the number of distinct questions that `other` has as well."""
        count = 0
        for block in self._distinct():
            indices = other._sorted.searchsorted(block)
            within = indices < len(other._sorted)
            count += int((other._sorted[indices[within]] == block[within]).sum())
        return count

    def _distinct(self) -> Iterator[np.ndarray]:
        """Yield each question once, block by block."""
        for start in range(0, len(self._sorted), BLOCK):
            block = self._sorted[start : start + BLOCK]
            first = np.ones(len(block), dtype=bool)
            first[1:] = block[1:] != block[:-1]
            first[0] = start == 0 or block[0] != self._sorted[start - 1]
            yield block[first]


@dataclass(frozen=True)
class QuestionSets:
    """Questions of one or several files, verbatim and by their normal form.

    Attributes:
        exact: questions as they stand.
        normal: their normal forms.
    """

    exact: Questions = field(default_factory=Questions)
    normal: Questions = field(default_factory=Questions)

    @classmethod
    def of(cls, blocks: Iterable[np.ndarray]) -> QuestionSets:
        """Sort fingerprints.

        Args:
            blocks: arrays of `QUESTION`.

        Raises:
            DataError: the temporary folder is full.
        """
        exact, normal = DiskRows(np.uint64), DiskRows(np.uint64)
        for block in blocks:
            exact.extend(block["exact"])
            normal.extend(block["normal"])
        return cls(Questions(exact), Questions(normal))
