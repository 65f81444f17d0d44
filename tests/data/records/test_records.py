"""Index of a file of records: what it reads, what it reports and where, for any bytes."""

import io
import json
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from recbole_recfound.data.records import reader, records
from recbole_recfound.data.records.array import is_array
from recbole_recfound.data.records.parse import BadRecord, EmbeddingRecord, parse_record
from recbole_recfound.data.records.questions import fingerprints
from recbole_recfound.data.records.records import RecordFile
from recbole_recfound.errors import DataError

PM = {"text": ["Same?\nA\nB", "no"], "task": "Product_Matching", "id": "train-0"}
Q2I = {
    "query": ["Find it", "red shoe"],
    "pos": [["", "Shoe, red"], ["", "Red shoe 2"]],
    "neg": [["", "Hat"]],
    "task": "Emb_query",
    "id": 3,
}


def _line(row, **changes):
    return json.dumps({key: value for key, value in (row | changes).items() if value is not None}).encode()


def _write(tmp_path, *lines, name="a.jsonl"):
    path = tmp_path / name
    path.write_bytes(b"\n".join(lines))
    return path


def _read_all(file):
    return [file.read(task, index) for task in file.tasks for index in range(file.size(task))]


def test_broken_lines_are_left_out_and_named(tmp_path):
    file = RecordFile(_write(tmp_path, _line(PM), b"", b"{", _line(PM), b"[1]"))
    assert file.size("PM") == 2 and file.broken.count == 2
    lines, count = file.problems()
    assert count == 2 and [line.partition(": ")[0] for line in lines] == [f"{file.path}:3", f"{file.path}:5"]
    assert file.problems(skip_bad_rows=True) == ([], 0) and file.notes() == [
        f"{file.path}: 2 bad lines skipped",
        *lines,
    ]


def test_the_first_hundred_broken_lines_are_listed_and_all_are_counted(tmp_path):
    file = RecordFile(_write(tmp_path, _line(PM), *[b"{"] * 250))
    lines, count = file.problems()
    assert count == 250 and len(lines) == 101 and lines[99].startswith(f"{file.path}:101: not JSON")
    assert lines[100] == f"{file.path}: 150 more broken lines, 250 in all"


@pytest.mark.parametrize("indent", [None, 2])
def test_an_array_is_read_like_lines(tmp_path, indent):
    rows = [PM, Q2I, PM | {"text": ["Größer?", "yes"]}]
    lines = RecordFile(_write(tmp_path, *map(_line, rows)))
    array = RecordFile(_write(tmp_path, json.dumps(rows, indent=indent).encode(), name="a.json"))
    assert _read_all(array) == _read_all(lines) and array.tasks == lines.tasks and not array.broken.count
    bom = _write(tmp_path, b"\xef\xbb\xbf\n" + json.dumps(rows, ensure_ascii=False).encode(), name="bom.json")
    assert _read_all(RecordFile(bom)) == _read_all(lines)


def test_broken_records_of_an_array_are_named_by_their_lines(tmp_path):
    path = _write(tmp_path, b"[", _line(PM) + b",", b'{"task": 1},', _line(PM), b",{", b'"x": }, 5]', b"{}")
    file = RecordFile(path)
    assert file.size("PM") == 2 and [number for number, _ in file.broken.listed] == [3, 5, 6, 7]
    reasons = [reason for _, reason in file.broken.listed]
    assert reasons[0] == "key 'task': got a number, expected the name of a task" and reasons[1].startswith("not JSON")
    assert reasons[2] == "got a number, expected a record: a JSON object"
    assert reasons[3] == "not JSON: got text behind the closing ] of the array, expected the end of the file"


def test_ignored_keys_are_noted_once(tmp_path):
    file = RecordFile(_write(tmp_path, *[_line(PM, source="walmart")] * 3, _line(Q2I, negs=[], category="x")))
    assert file.size("PM") == 3 and not file.broken.count
    assert file.notes() == [
        f"{file.path}: keys that records do not have were ignored: "
        "source (3), negs (1; negatives are read from neg), category (1)"
    ]


def test_many_ignored_keys_are_counted(tmp_path):
    (note,) = RecordFile(_write(tmp_path, *[_line(PM, **{f"key{n}": n}) for n in range(25)])).notes()
    assert "key19 (1), further keys (5)" in note and "key20" not in note


def test_answers_of_held_out_files_must_be_readable(tmp_path):
    path = _write(tmp_path, _line(PM), *[_line(PM, task="Attribute_Value_Extraction", text=["a", "maybe"])] * 2)
    assert RecordFile(path).problems() == ([], 0)
    lines, count = RecordFile(path, held_out=True).problems(skip_bad_rows=True)
    assert count == 2 and lines == [f"{path}:{number}: key 'text': no answer of AVE: 'maybe'" for number in (2, 3)]


def test_examples_are_read_back(tmp_path):
    path = _write(tmp_path, b"\xef\xbb\xbf" + _line(PM), _line(Q2I) + b"\r", _line(PM, text=["Other", "yes"]))
    file = RecordFile(path)
    assert file.tasks == ["PM", "Q2I"] and file.size("PM") == 2 and file.size("Q2I") == 2 and file.size("SR") == 0
    assert [file.read("PM", index)[0].answer for index in (1, 0)] == ["yes", "no"]
    # An embedding record is an example for each of its positives.
    assert [file.read("Q2I", index)[1] for index in (0, 1)] == [0, 1]
    assert file.choices == {"PM": {"yes", "no"}} and not list(file.questions())
    # And one question.
    asked = [fingerprints(file.read(task, index)[0]) for task, index in (("PM", 0), ("Q2I", 0), ("PM", 1))]
    assert np.concatenate(list(RecordFile(path, held_out=True).questions())).tolist() == asked
    assert len({exact for exact, _ in asked}) == len({normal for _, normal in asked}) == 3


def test_files_that_hold_nothing(tmp_path):
    for content in ((b"", b" "), (b"[", b"]")):
        lines, count = RecordFile(_write(tmp_path, *content)).problems()
        assert count == 1 and lines[0].endswith("a.jsonl:1: no record in this file")
    with pytest.raises(DataError, match="cannot be read"):
        RecordFile(tmp_path / "absent.jsonl")
    with pytest.raises(DataError, match="cannot be read"):
        RecordFile(tmp_path)


def test_a_changed_file_is_noticed(tmp_path):
    path = _write(tmp_path, _line(PM), _line(PM))
    file = RecordFile(path)
    path.write_bytes(b"x" * 500)
    with pytest.raises(DataError, match="changed since it was checked"):
        file.read("PM", 1)


def test_many_answers_are_no_choices(tmp_path):
    rows = [_line(PM, task="user_profile", text=["Describe", f"answer {n}"]) for n in range(records.MOST_CHOICES + 1)]
    assert RecordFile(_write(tmp_path, *rows)).choices == {"UP": None}


def test_memory_does_not_grow_with_the_texts(tmp_path):
    """A file of 8 MB is indexed and read in the memory of a few lines; the index is as large as that of short texts."""
    kept, most = [], []
    for length in (10, 40_000):
        path = _write(
            tmp_path, *(_line(PM, text=["p" * length + str(n), "no"]) for n in range(200)), name=f"{length}.jsonl"
        )
        tracemalloc.start()
        file = RecordFile(path)
        asked = [len(file.read("PM", index)[0].prompt) for index in range(200)]
        now, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        kept.append(now)
        most.append(peak)
        assert min(asked) > length
    assert most[1] < 1_000_000 < path.stat().st_size and abs(kept[1] - kept[0]) < 100_000


def test_a_huge_line_is_bad_and_the_next_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "MAX_RECORD_BYTES", 200)
    path = _write(
        tmp_path, _line(PM), _line(PM, text=["x" * 1000, "no"]), _line(PM, text=["last", "yes"]), b'"' + b"y" * 300
    )
    file = RecordFile(path)
    assert file.size("PM") == 2 and [number for number, _ in file.broken.listed] == [2, 4]
    assert re.match(r"a record of 1,0\d\d bytes; 200 are the most", file.broken.listed[0][1])
    assert file.read("PM", 1)[0].prompt == "last"


def test_a_huge_record_of_an_array_is_bad_and_the_next_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "MAX_RECORD_BYTES", 200)
    rows = [PM, PM | {"text": ["x" * 1000, "no"]}, PM | {"text": ["last", "yes"]}]
    file = RecordFile(_write(tmp_path, json.dumps(rows).encode()))
    assert file.size("PM") == 2 and file.read("PM", 1)[0].prompt == "last"
    assert re.match(r"a record of 1,0\d\d bytes; 200 are the most", file.broken.listed[0][1])


junk = st.binary(max_size=80).map(lambda line: line.replace(b"\n", b""))
cut = st.builds(lambda row, at: _line(row)[:at], st.sampled_from([PM, Q2I]), st.integers(0, 60))
odd = st.builds(
    lambda row, key, value: _line(row, **{key: value}),
    st.sampled_from([PM, Q2I]),
    st.sampled_from(["text", "query", "pos", "neg", "task", "id", "more"]),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3),
        max_leaves=6,
    ),
)
good = st.builds(
    lambda prompt, answer: _line(PM, task="item_profile", text=["p" + prompt, "a" + answer]),
    st.text(max_size=20),
    st.text(max_size=20),
)


CAP = 5000
"""The longest line in the test below; nothing but `huge` makes longer ones."""
huge = st.builds(
    lambda size, record: _line(PM, text=["x" * size, "no"]) if record else b'"' + b"y" * size,
    st.integers(CAP, 3 * CAP),
    st.booleans(),
)


@pytest.fixture
def short_cap(monkeypatch):
    monkeypatch.setattr(reader, "MAX_RECORD_BYTES", CAP)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(junk | cut | odd | good | huge, max_size=8))
def test_any_bytes_are_read_or_told_with_their_line(tmp_path_factory, short_cap, lines):
    path = tmp_path_factory.mktemp("fuzz") / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    assume(not is_array(io.BufferedReader(io.BytesIO(path.read_bytes()))))
    content = [line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line for number, line in enumerate(lines)]
    verdicts = [_verdict(line) for line in content if line.strip()]
    bad = [number for number, line in enumerate(content, start=1) if line.strip() and _verdict(line) == "bad"]
    kept = sum(verdict for verdict in verdicts if verdict != "bad")
    file = RecordFile(path)
    lines, count = file.problems()
    assert [number for number, _ in file.broken.listed] == bad and count == (len(bad) or not kept)
    assert sum(map(file.size, file.tasks)) == kept and all(line.startswith(f"{path}:") for line in lines)
    for task in file.tasks:
        assert all(file.read(task, index)[0].task == task for index in range(file.size(task)))


def _verdict(line):
    """Examples in a line, or `bad`."""
    if len(line) > reader.MAX_RECORD_BYTES:
        return "bad"
    try:
        record = parse_record(line)
    except BadRecord:
        return "bad"
    return len(record.positives) if isinstance(record, EmbeddingRecord) else 1
