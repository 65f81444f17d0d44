"""Records of a file by line and offset, and read back one at a time."""

import io
import json
import os

import pytest

from recbole_recfound.data.records.parse import BadRecord, GenerativeRecord
from recbole_recfound.data.records.reader import read_records, record_at

ROWS = [{"text": [f"Same {n}?", "no"], "task": "Product_Matching"} for n in range(3)]


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"\n \n"])
@pytest.mark.parametrize("in_array", [False, True])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n\r\n"])
def test_lines_and_offsets(start, in_array, end):
    lines = [json.dumps(row).encode() for row in ROWS]
    content = start + (b"[" + b",\r\n".join(lines) + b"]" if in_array else b"\r\n".join(lines)) + end
    file = io.BufferedReader(io.BytesIO(content))
    found = list(read_records(file))
    first = 1 + start.count(b"\n")
    assert [number for number, _, _ in found] == [first, first + 1, first + 2]
    assert [record for _, _, record in found] == [GenerativeRecord("PM", f"Same {n}?", "no") for n in range(3)]
    for number, offset, record in reversed(found):
        assert content[offset:].startswith(lines[number - first]) and record_at(file, offset, in_array) == record


def test_a_pipe_is_read(tmp_path):
    reading, writing = os.pipe()
    with open(writing, "wb") as pipe:
        pipe.write(json.dumps(ROWS).encode())
    with open(reading, "rb") as file:
        assert [record.prompt for _, _, record in read_records(file)] == ["Same 0?", "Same 1?", "Same 2?"]


def test_no_record_at_an_offset():
    file = io.BytesIO(b"[{}]")
    for offset in (3, 4):
        with pytest.raises(BadRecord):
            record_at(file, offset, in_array=True)
