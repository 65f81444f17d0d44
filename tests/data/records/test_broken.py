"""Broken lines, ignored keys and problems: the first are listed, all are counted."""

from pathlib import Path

import pytest

from recbole_recfound.data.records.broken import MOST_LISTED, BrokenLines, IgnoredKeys, Problems
from recbole_recfound.errors import DataError


def test_broken_lines():
    broken = BrokenLines(Path("a.jsonl"))
    assert broken.lines() == []
    for number in range(1, MOST_LISTED + 1):
        broken.add(number, "not JSON")
    assert broken.lines()[-1] == "a.jsonl:100: not JSON" and len(broken.lines()) == MOST_LISTED
    broken.add(2000, "not JSON")
    assert broken.count == 101 and broken.lines()[-1] == "a.jsonl: 1 more broken lines, 101 in all"


def test_ignored_keys():
    keys = IgnoredKeys()
    assert keys.note() == ""
    for _ in range(1500):
        keys.add(("source",))
    keys.add(("Negatives", "source"))
    assert keys.note() == (
        "keys that records do not have were ignored: source (1,501), Negatives (1; negatives are read from neg)"
    )


def test_problems():
    problems = Problems()
    problems.add([], 0)
    problems.check()
    problems.add(["a.jsonl:1: not JSON"], 1)
    with pytest.raises(DataError) as one:
        problems.check("do this")
    assert str(one.value) == "a.jsonl:1: not JSON (do this)"
    problems.add(["b.jsonl:1: x", "b.jsonl: 9 more"], 10)
    with pytest.raises(DataError) as several:
        problems.check("do this")
    assert str(several.value).splitlines() == [
        "11 problems in the data",
        "  a.jsonl:1: not JSON",
        "  b.jsonl:1: x",
        "  b.jsonl: 9 more",
        "do this",
    ]
