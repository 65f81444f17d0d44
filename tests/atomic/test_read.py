"""Reading .item and .user files: strings intact, every malformed line named."""

import pytest

from recbole_recfound.data.text import read_atomic
from recbole_recfound.errors import DataError

HEADER = "item_id:token\ttitle:token_seq\tyear:token\n"


def _write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "films.item"
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def test_strings_stay_as_they_are(tmp_path):
    rows = ["1\t\"Quoted\" 'title', NA\tNA", "2\t東京物語 — naïve  \t", "3\t\u2028line separator\x85 inside\t1999"]
    table = read_atomic(_write(tmp_path, HEADER + "\n".join(rows) + "\n"))
    assert table.kinds == {"item_id": "token", "title": "token_seq", "year": "token"}
    assert table.column("title") == ["\"Quoted\" 'title', NA", "東京物語 — naïve  ", "\u2028line separator\x85 inside"]
    assert table.column("year") == ["NA", "", "1999"]


def test_numbers_without_a_value_are_missing(tmp_path):
    rows = ["1\tnan\tNaN", "2\t-inf\tinf", "3\t1e999\t", "4\t12.50\tNA", "5\tx\tx"]
    table = read_atomic(_write(tmp_path, "item_id:token\tprice:float\tyear:token\n" + "\n".join(rows) + "\n"))
    assert table.column("price") == ["", "", "", "12.50", "x"]
    assert table.column("year") == ["NaN", "inf", "", "NA", "x"], "tokens are text"


@pytest.mark.parametrize("end", ["", "\n", "\n\n"])
def test_byte_order_mark_and_windows_line_ends(tmp_path, end):
    text = (HEADER + "1\tAlien\t1979" + end).replace("\n", "\r\n")
    table = read_atomic(_write(tmp_path, text, "utf-8-sig"))
    assert next(iter(table.kinds)) == "item_id"
    assert table.rows == [("1", "Alien", "1979")]


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("", 1, "empty file"),
        ("item_id\ttitle:token_seq\n", 1, "column 'item_id' needs a type"),
        ("item_id:token\titem_id:token\n", 1, "column 'item_id' appears twice"),
        (HEADER + "1\tAlien\t1979\n2\tTab\tin title\t1980\n", 3, r"4 cells where the header has 3 \(a '\\t' inside"),
        (HEADER + "1\tAlien\n", 2, "2 cells where the header has 3"),
        (HEADER + "1\tAlien\t1979\n\n2\tAliens\t1986\n", 3, "1 cells"),
        (HEADER.encode() + b"1\tAlien\t1979\n2\tAm\xe9lie\t2001\n", 3, "not UTF-8"),
    ],
)
def test_malformed_files_name_their_line(tmp_path, text, line, said):
    path = _write(tmp_path, text)
    with pytest.raises(DataError, match=rf"films\.item:{line}: .*{said}") as caught:
        read_atomic(path)
    assert str(path) in str(caught.value)


def test_rows_by_key(tmp_path):
    table = read_atomic(_write(tmp_path, HEADER + "1\tAlien\t1979\n7\tHeat\t1995\n"))
    assert table.by_key("item_id")["7"] == {"item_id": "7", "title": "Heat", "year": "1995"}
    with pytest.raises(DataError, match=r":1: no column 'asin'; it has item_id, title, year"):
        table.by_key("asin")
    double = read_atomic(_write(tmp_path, HEADER + "1\tAlien\t1979\n7\tHeat\t1995\n1\tAlien\t1979\n"))
    with pytest.raises(DataError, match=r"films\.item:4: item_id '1' appears twice"):
        double.by_key("item_id")
