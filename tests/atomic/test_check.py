"""Malformed rows are found wherever they stand, and no others."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_recfound.atomic import check
from recbole_recfound.atomic.check import check_rows
from recbole_recfound.errors import DataError
from tests.reference.atomic_rows import wrong_lines

KINDS = {"user_id": "token", "title": "token_seq", "rating": "float", "timestamp": "float", "vector": "float_seq"}
HEADER = "\t".join(f"{name}:{kind}" for name, kind in KINDS.items()) + "\n"
GOOD = b"7\tHeat (1995)\t4\t881250949\t.5 1 2.5\n"
IDS = st.sampled_from([b"7", b"u 1", " é".encode(), b" ", b"", b"\xff", b"a\x1cb", b"\x0b"])
TITLES = st.sampled_from([b"Heat", b"", "Amélie".encode(), b"\xe9", b'"', b"a\tb", b"1,2"])
RATINGS = st.sampled_from(
    [b"4", b"", b"-1.5", b"1e3", b"1e999", b"nan", b"inf", b"1_0", b" 2", b".5", b"5.", b"x", b"9" * 400]
)
TIMES = st.sampled_from(
    [b"881250949", b"1.5", b"-3", b"", b"1e9", b"4e20", b"1" * 18, b"1" * 21, b"2020-01-01", b"1_0"]
)
VECTORS = st.lists(RATINGS, max_size=3).map(b" ".join)
ENDS = st.sampled_from([b"\n", b"\n", b"\r\n"])
ROWS = st.tuples(IDS, TITLES, RATINGS, TIMES, VECTORS, ENDS).map(lambda row: b"\t".join(row[:5]) + row[5])


def lines_refused(path: Path) -> set[int]:
    """Return the numbers of the lines that are named."""
    try:
        check_rows(path, "\t", None, filled=["user_id"], time="timestamp")
    except DataError as error:
        return set(map(int, re.findall(rf"{re.escape(str(path))}:(\d+):", str(error))))
    return set()


@given(rows=st.lists(st.one_of(st.just(GOOD), ROWS, st.just(b"\n")), max_size=12), last=st.booleans())
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("block", [1, 60, 1 << 20])
def test_lines_that_are_named_are_those_of_the_reference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, rows: list[bytes], last: bool
) -> None:
    """Whatever stands in a block with them."""
    monkeypatch.setattr(check, "BLOCK", block)
    monkeypatch.setattr(check, "MOST_PROBLEMS", 5 * 12)  # a row may have several
    data = b"".join(rows)
    if last:
        data = data.removesuffix(b"\n")
    path = tmp_path / f"{abs(hash((data, block)))}.inter"
    path.write_bytes(HEADER.encode() + data)
    assert lines_refused(path) == wrong_lines(data, KINDS, ["user_id"], "timestamp")


@pytest.mark.parametrize("separator", [",", "|", "::", " "])
def test_any_separator(tmp_path: Path, separator: str) -> None:
    """A separator may have a meaning in regular expressions, or several characters."""
    path = tmp_path / "data.inter"
    good = separator.join(["7", "4", "881250949"])
    bad = separator.join(["7", "four", "881250949"])
    header = separator.join(["user_id:token", "rating:float", "timestamp:float"])
    path.write_text("\n".join([header, good, good, bad, good]) + "\n")
    with pytest.raises(DataError, match=r"data\.inter:4: rating is 'four', expected a number"):
        check_rows(path, separator, None, filled=["user_id"], time="timestamp")


@pytest.mark.parametrize("within", [" ", ",", ".."])
def test_a_text_among_the_numbers_of_a_sequence(tmp_path: Path, within: str) -> None:
    path = tmp_path / "data.item"
    cells = [within.join(numbers) for numbers in (["1", "2.5"], ["1", "2", "3"], ["1", "x"], [])]
    path.write_text("\n".join(["item_id:token\tvector:float_seq", *(f"i\t{cell}" for cell in cells)]) + "\n")
    with pytest.raises(DataError, match=rf"data\.item:4: vector is '1{re.escape(within)}x', expected numbers") as error:
        check_rows(path, "\t", None, within=within)
    assert len(error.value.problems) == 1


def test_blank_line_between_two_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told at the first row behind it, though that block has no problem."""
    monkeypatch.setattr(check, "BLOCK", 1)
    path = tmp_path / "data.inter"
    path.write_bytes(HEADER.encode() + GOOD + b"\n" + GOOD + GOOD)
    assert lines_refused(path) == {3}
