"""Parser of records: the forms that RecFound's scripts write, and what is refused with its key."""

import json

import pytest

from recbole_recfound.data.records.parse import BadRecord, EmbeddingRecord, GenerativeRecord, parse_record
from recbole_recfound.data.task import TASKS

PM = {"text": ["Same?\nA\nB", "no"], "task": "Product_Matching", "id": "train-0"}
Q2I = {
    "query": ["Find it", "red shoe"],
    "pos": [["", "Shoe, red"], ["", "Red shoe 2"]],
    "neg": [["", "Hat"]],
    "task": "Emb_query",
    "id": 3,
}


def _line(row, *without, **changes):
    return json.dumps({key: value for key, value in (row | changes).items() if key not in without}).encode()


def test_the_two_forms():
    assert parse_record(_line(PM)) == GenerativeRecord("PM", "Same?\nA\nB", "no")
    expected = EmbeddingRecord("Q2I", ("Find it", "red shoe"), (("", "Shoe, red"), ("", "Red shoe 2")), (("", "Hat"),))
    assert parse_record(_line(Q2I)) == expected
    assert parse_record(_line(Q2I, "neg", "id")).negatives == ()


@pytest.mark.parametrize("spec", TASKS.values(), ids=str)
def test_all_thirteen_names(spec):
    row = Q2I if spec.kind == "embedding" else PM
    assert parse_record(_line(row, task=spec.record)).task == spec.name


def test_plain_texts_have_no_instruction():
    line = b'{"query": "red shoe", "pos": ["Shoe, red", ["Item:", "Shoe"]], "neg": ["Hat"], "task": "Emb_query"}'
    assert parse_record(line) == EmbeddingRecord(
        "Q2I", ("", "red shoe"), (("", "Shoe, red"), ("Item:", "Shoe")), (("", "Hat"),)
    )


def test_other_keys_are_ignored():
    assert parse_record(_line(PM, source="walmart", category=None)).ignored == ("source",)
    assert parse_record(_line(PM, source="walmart")) == parse_record(_line(PM))
    assert parse_record(_line(Q2I, source="shoes", text=["a", "b"])).ignored == ("source", "text")


@pytest.mark.parametrize("changes", [{"neg": []}, {"neg": None}, {"id": None}, {"id": 3.0}, {"text": None}])
def test_nulls_and_empty_lists_of_optional_keys(changes):
    record = parse_record(_line(Q2I, **changes))
    assert record.ignored == () and record.negatives == (() if "neg" in changes else (("", "Hat"),))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "not JSON"),
        (b"[1]", "got a list, expected a record: a JSON object"),
        (b"\xff{}", "not UTF-8 (byte 1)"),
        (b"[" * 100_000, "not JSON"),
        (_line(PM, "task"), "key 'task' is missing"),
        (
            _line(PM, task="Product_Matchin"),
            "key 'task': unknown task 'Product_Matchin', did you mean Product_Matching?",
        ),
        (_line(PM, task=3), "key 'task': got a number, expected the name of a task"),
        (_line(PM, task=None), "key 'task': got null, expected the name of a task"),
        (_line(PM, "text"), "key 'text' is missing: a record of Product_Matching has text, task and id"),
        (
            b'{"prompt": "Same?", "response": "no", "task": "Product_Matching"}',
            "key 'text' is missing: a record of Product_Matching has text, task and id, this one has prompt, response",
        ),
        (
            _line(PM, task="Emb_user"),
            "key 'query' is missing: a record of Emb_user has query, pos, neg, task and id, this one has text",
        ),
        (_line(PM, text=None), "key 'text': got null, expected [prompt, answer]"),
        (_line(PM, text="a"), "key 'text': got text, expected [prompt, answer]"),
        (_line(PM, text=["a"]), "key 'text': got a list of 1, expected [prompt, answer]"),
        (
            _line(PM, text=["a", "b", "c", "d"]),
            "key 'text': got a list of 4, expected [prompt, answer]; write one record for each turn of a conversation",
        ),
        (_line(PM, text=[]), "key 'text': got a list of 0"),
        (
            _line(PM, text=["a", 1]),
            "key 'text': the answer is a number, expected text (in quotation marks: \"5\", not 5)",
        ),
        (_line(PM, text=["a", None]), "key 'text': the answer is null, expected text"),
        (_line(PM, text=["a", True]), "key 'text': the answer is true or false, expected text"),
        (_line(PM, text=["a", " "]), "key 'text': the answer is empty"),
        (_line(PM, text=["a", "\u200b"]), "key 'text': the answer is empty"),
        (
            _line(PM, text=["a", "perhaps"]),
            "key 'text': an answer of Product_Matching begins with yes or no, not 'perhaps'",
        ),
        (_line(PM, text=["", "a"]), "key 'text': the prompt is empty"),
        (_line(PM, text=["a\ud800", "b"]), "key 'text': the prompt has an unpaired surrogate"),
        (_line(PM, id=[1]), "key 'id': got a list, expected text or a number"),
        (_line(PM, id=True), "key 'id': got true or false, expected text or a number"),
        (_line(Q2I, "pos"), "key 'pos' is missing"),
        (_line(Q2I, pos=None), "key 'pos': got null, expected a list"),
        (_line(Q2I, pos=[]), "key 'pos': got an empty list, expected at least one positive"),
        (_line(Q2I, pos="Shoe"), "key 'pos': got text, expected a list whose entries are text or [instruction, text]"),
        (_line(Q2I, pos=["", "Shoe"]), "key 'pos': entry 1 is empty; a single [instruction, text] is written [[\"\","),
        (_line(Q2I, pos=["Shoe", 5]), "key 'pos': entry 2: got a number, expected text or [instruction, text]"),
        (_line(Q2I, pos=["Shoe", ""]), "key 'pos': entry 2 is empty"),
        (_line(Q2I, pos=[["", "Shoe"], []]), "key 'pos': entry 2: got a list of 0, expected text or"),
        (_line(Q2I, pos=[["", 5]]), "key 'pos': entry 1: the text is a number, expected text (in quotation marks"),
        (_line(Q2I, pos=[[None, "x"]]), "key 'pos': entry 1: the instruction is null, expected text"),
        (_line(Q2I, neg="x"), "key 'neg': got text, expected a list"),
        (_line(Q2I, neg=[None]), "key 'neg': entry 1: got null"),
        (_line(Q2I, neg=[{"text": "x"}]), "key 'neg': entry 1: got an object"),
        (_line(Q2I, query=["x", ""]), "key 'query': the text is empty"),
        (_line(Q2I, query=""), "key 'query' is empty"),
        (_line(Q2I, query=7), "key 'query': got a number, expected text or [instruction, text]"),
        (b'{"text": ["a", "b"], "text": ["a", "c"], "task": "Product_Matching"}', "key 'text' appears twice"),
    ],
    ids=lambda value: value[:60].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_what_is_refused_names_the_key(line, reason):
    with pytest.raises(BadRecord) as refused:
        parse_record(line)
    assert str(refused.value).startswith(reason)
