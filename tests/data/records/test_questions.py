"""Rows on disk, and sets of questions made of them, against Python's own lists and sets."""

import errno
import tempfile
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_recfound.data.records import disk_rows, questions
from recbole_recfound.data.records.disk_rows import BLOCK, DiskRows
from recbole_recfound.data.records.parse import EmbeddingRecord, GenerativeRecord
from recbole_recfound.data.records.questions import QUESTION, Questions, QuestionSets, fingerprints
from recbole_recfound.errors import DataError

# Small ones meet often, large ones are more than a float or a signed number holds.
numbers = st.lists(
    st.one_of(st.integers(0, 30), st.integers(2**64 - 30, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=60
)
blocks = st.sampled_from([1, 2, 7, BLOCK])


@contextmanager
def _blocks_of(size):
    with pytest.MonkeyPatch.context() as patch:
        for room in (disk_rows, questions):
            patch.setattr(room, "BLOCK", size)
        yield


def _rows(numbers):
    rows = DiskRows(np.uint64)
    for number in numbers:
        rows.append(number)
    return rows


@given(blocks, st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=9), max_size=9))
def test_rows_come_back_as_they_were_added(block, parts):
    expected = [number for part in parts for number in part]
    with _blocks_of(block):
        whole = DiskRows(np.uint64)
        for part in parts:
            whole.extend(np.array(part, dtype=np.uint64))
        assert _rows(expected).mapped().tolist() == whole.mapped().tolist() == expected


def test_rows_of_several_fields_and_more_than_a_block():
    rows = DiskRows(np.dtype([("a", np.int64), ("b", np.int32)]))
    for number in range(3 * BLOCK + 5):
        rows.append((number << 40, -number))
    found = rows.mapped()
    assert found["a"].tolist() == [number << 40 for number in range(3 * BLOCK + 5)] and found["b"][-1] == -(
        3 * BLOCK + 4
    )


@given(blocks, numbers, numbers)
def test_questions_are_sets(block, first, second):
    with _blocks_of(block):
        ours, theirs = Questions(_rows(first)), Questions(_rows(second))
        assert len(ours) == len(first) and ours.distinct() == len(set(first))
        assert ours.shared(theirs) == theirs.shared(ours) == len(set(first) & set(second))
        assert all((number in ours) == (number in first) for number in {*first, *second, 0, 2**63, 2**64 - 1})


def test_no_questions():
    ours = Questions(_rows([3]))
    assert 3 not in Questions() and Questions().distinct() == Questions().shared(ours) == ours.shared(Questions()) == 0


def test_fingerprints_of_questions():
    def asked(prompt, task="QR"):
        return fingerprints(GenerativeRecord(task, prompt, "answer"))

    assert asked("What?") == fingerprints(GenerativeRecord("QR", "What?", "another answer"))
    (exact, normal), (other, same) = asked("What?"), asked("WHAT")
    assert exact != other and normal == same
    assert not set(asked("what")) & set(asked("what", "AG"))
    pairs = [
        EmbeddingRecord("Q2I", query, (("", "x"),), ()) for query in (("Find:", "a b"), ("find", "A, b"), ("", "a b"))
    ]
    forms = [fingerprints(pair)[1] for pair in pairs]
    assert forms[0] == forms[1] != forms[2], "the instruction is part of the question"


def test_question_sets_of_blocks():
    blocks = [np.array([(1, 5), (2, 5)], dtype=QUESTION), np.array([(3, 6)], dtype=QUESTION)]
    sets = QuestionSets.of(iter(blocks))
    assert (len(sets.exact), sets.exact.distinct(), sets.normal.distinct()) == (3, 3, 2)
    assert 2 in sets.exact and 6 in sets.normal and 6 not in sets.exact and len(QuestionSets().exact) == 0


class FullDisk:
    def write(self, rows):
        raise OSError(errno.ENOSPC, "No space left on device")


def _nowhere():
    raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")


@pytest.mark.parametrize(
    ("file", "reason"), [(FullDisk, "No space left on device"), (_nowhere, "No usable temporary directory")]
)
def test_a_full_disk_is_told_with_what_to_do(monkeypatch, file, reason):
    monkeypatch.setattr(tempfile, "TemporaryFile", file)
    few = _rows(range(BLOCK))
    assert len(few.mapped()) == BLOCK, "as few need no file"
    with pytest.raises(DataError, match=rf"temporary folder \({reason}.*\)\. Set TMPDIR to a larger folder"):
        _rows(range(BLOCK + 1))
