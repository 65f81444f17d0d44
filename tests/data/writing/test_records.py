"""Records of texts to be written."""

import json

import pytest

from recbole_recfound.data.writing.records import read_writings
from recbole_recfound.errors import DataError


def write(folder, **parts):
    files = {}
    for part, sources in parts.items():
        path = folder / f"{part}.jsonl"
        lines = [json.dumps({"task": "explanation", "source": [source], "target": "t"}) for source in sources]
        path.write_text("\n".join(lines))
        files[part] = str(path)
    return files


def test_a_held_out_source_is_not_trained(tmp_path):
    found = read_writings(write(tmp_path, train=["One, two", "b"], valid=["c"], test=["one two"]))
    assert [each.source for each in found.parts["train"]] == [("b",)] and found.repeated == 1
    with pytest.raises(DataError, match="no training record"):
        read_writings(write(tmp_path, train=["c"], valid=["c"], test=["d"]))


def test_a_file_without_records_or_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="valid.jsonl:1: no record"):
        read_writings(write(tmp_path, train=["a"], valid=[], test=["b"]))
    files = write(tmp_path, train=["a"], valid=["b"], test=["c"])
    with pytest.raises(DataError, match="cannot be read"):
        read_writings(files | {"test": str(tmp_path / "none.jsonl")})


def test_only_a_line_feed_ends_a_record(tmp_path):
    files = write(tmp_path, train=["a"], valid=["b"], test=["c"])
    record = {"task": "explanation", "source": ["one\u2028two\x85three"], "target": "t"}
    (tmp_path / "train.jsonl").write_text(f"{json.dumps(record, ensure_ascii=False)}\r\n\nno record\n", "utf-8")
    with pytest.raises(DataError, match=r"train.jsonl:3: ") as caught:
        read_writings(files)
    assert "jsonl:1" not in str(caught.value)
