"""The reader of JSON-lines records: what it takes, what it refuses and where, and that nothing breaks or loses it."""

import json
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recbole_recfound.data.records import records as room
from recbole_recfound.data.records.records import (
    BadRecord,
    EmbeddingRecord,
    GenerativeRecord,
    RecordFile,
    fingerprint,
    parse_record,
)
from recbole_recfound.data.task import TASKS
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


def test_the_two_forms():
    assert parse_record(_line(PM)) == GenerativeRecord("PM", "Same?\nA\nB", "no")
    expected = EmbeddingRecord("Q2I", ("Find it", "red shoe"), (("", "Shoe, red"), ("", "Red shoe 2")), (("", "Hat"),))
    assert parse_record(_line(Q2I)) == expected
    assert parse_record(_line(Q2I, neg=None, id=None)).negatives == ()


@pytest.mark.parametrize("spec", TASKS.values(), ids=str)
def test_all_thirteen_names(spec):
    row = Q2I if spec.kind == "embedding" else PM
    assert parse_record(_line(row, task=spec.record)).task == spec.name


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"[1]", "a record is a JSON object, not a list"),
        (b"\xff{}", "not UTF-8 (byte 1)"),
        (b"[" * 100_000, "not JSON"),
        (_line(PM, task=None), "key 'task' is missing"),
        (
            _line(PM, task="Product_Matchin"),
            "key 'task': unknown task 'Product_Matchin', did you mean Product_Matching?",
        ),
        (_line(PM, task=3), "key 'task': must be text, not a number"),
        (_line(PM, text=None), "key 'text' is missing"),
        (_line(PM, text=["a"]), "key 'text': must be a list of two texts"),
        (_line(PM, text=["a", 1]), "key 'text': must be a list of two texts"),
        (_line(PM, text=["a", " "]), "key 'text': the answer is empty"),
        (
            _line(PM, text=["a", "perhaps"]),
            "key 'text': an answer of Product_Matching begins with yes or no, not 'perhaps'",
        ),
        (_line(PM, text=["", "a"]), "key 'text': the prompt is empty"),
        (_line(PM, text=["a\ud800", "b"]), "key 'text': got an unpaired surrogate"),
        (_line(PM, id=[1]), "key 'id': must be text or a whole number, not a list"),
        (_line(PM, answer="no"), "key 'answer': a record of Product_Matching has text, task and id"),
        (_line(PM, task="Emb_user"), "key 'text': a record of Emb_user has query, pos, neg, task and id"),
        (_line(Q2I, pos=None), "key 'pos' is missing"),
        (_line(Q2I, pos=[]), "key 'pos': needs at least one"),
        (_line(Q2I, neg="x"), "key 'neg': must be a list of [instruction, text], not text"),
        (_line(Q2I, query=["x", ""]), "key 'query': the text is empty"),
        (b'{"text": ["a", "b"], "text": ["a", "c"], "task": "Product_Matching"}', "key 'text' appears twice"),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_what_is_refused_names_file_line_and_key(tmp_path, line, reason):
    path = _write(tmp_path, _line(PM), b"", line, _line(PM))
    with pytest.raises(DataError) as refused:
        RecordFile(path)
    assert str(refused.value).startswith(f"{path}:3: ") and reason in str(refused.value)
    file = RecordFile(path, skip_bad_rows=True)
    assert file.size("PM") == 2 and file.bad == 1 and file.skipped[0][0] == 3 and reason in file.skipped[0][1]


def test_examples_are_read_back(tmp_path):
    path = _write(tmp_path, b"\xef\xbb\xbf" + _line(PM), _line(Q2I) + b"\r", _line(PM, text=["Other", "yes"]))
    file = RecordFile(path)
    assert file.tasks == ["PM", "Q2I"] and file.size("PM") == 2 and file.size("Q2I") == 2 and file.size("SR") == 0
    assert [file.read("PM", index)[0].answer for index in (1, 0)] == ["yes", "no"]
    # An embedding record is an example for each of its positives.
    assert [file.read("Q2I", index)[1] for index in (0, 1)] == [0, 1]
    assert file.choices == {"PM": {"yes", "no"}} and file.line("PM", 1) == 3
    # And one question.
    asked = [fingerprint(file.read(task, index)[0]) for task, index in (("PM", 0), ("PM", 1), ("Q2I", 0))]
    assert np.concatenate(list(file.fingerprints())).tolist() == asked and len(set(asked)) == 3


def test_files_that_hold_nothing(tmp_path):
    with pytest.raises(DataError, match="a.jsonl:1: no record"):
        RecordFile(_write(tmp_path, b"", b" "))
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
    rows = [_line(PM, task="user_profile", text=["Describe", f"answer {n}"]) for n in range(room.MOST_CHOICES + 1)]
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
    monkeypatch.setattr(room, "MAX_LINE_BYTES", 200)
    path = _write(
        tmp_path, _line(PM), _line(PM, text=["x" * 1000, "no"]), _line(PM, text=["last", "yes"]), b'"' + b"y" * 300
    )
    with pytest.raises(DataError, match=r"a.jsonl:2: a line of 1,0\d\d bytes; 200 are the most"):
        RecordFile(path)
    file = RecordFile(path, skip_bad_rows=True)
    assert file.size("PM") == 2 and [number for number, _ in file.skipped] == [2, 4]
    assert file.read("PM", 1)[0].prompt == "last" and file.line("PM", 1) == 3


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
    monkeypatch.setattr(room, "MAX_LINE_BYTES", CAP)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(junk | cut | odd | good | huge, max_size=8))
def test_any_bytes_are_read_or_told_with_their_line(tmp_path_factory, short_cap, lines):
    path = tmp_path_factory.mktemp("fuzz") / "a.jsonl"
    path.write_bytes(b"\n".join(lines))
    content = [line.removeprefix(b"\xef\xbb\xbf") if number == 0 else line for number, line in enumerate(lines)]
    verdicts = [_verdict(line) for line in content if line.strip()]
    bad = [number for number, line in enumerate(content, start=1) if line.strip() and _verdict(line) == "bad"]
    kept = sum(verdict for verdict in verdicts if verdict != "bad")
    try:
        file = RecordFile(path)
        assert not bad and sum(map(file.size, file.tasks)) == kept
    except DataError as refused:
        assert str(refused).startswith(f"{path}:{bad[0] if bad else 1}: ")
    if kept:
        file = RecordFile(path, skip_bad_rows=True)
        assert sum(map(file.size, file.tasks)) == kept and [number for number, _ in file.skipped] == bad
        for task in file.tasks:
            assert all(file.read(task, index)[0].task == task for index in range(file.size(task)))


def _verdict(line):
    """Examples in a line, or `bad`."""
    if len(line) > room.MAX_LINE_BYTES:
        return "bad"
    try:
        record = parse_record(line)
    except BadRecord:
        return "bad"
    return len(record.positives) if isinstance(record, EmbeddingRecord) else 1
