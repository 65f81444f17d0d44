"""Parsers of answers: what they read, what they do not, and that nothing breaks them."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_recfound.data.task import TASKS
from recbole_recfound.data.task.answers import (
    parse_attributes,
    parse_label,
    parse_letter,
    parse_next_item,
    parse_yes_no,
)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("yes", "yes"),
        (" No.", "no"),
        ("'YES', of course", "yes"),
        ("yesterday", None),
        ("", None),
        ("I say yes", None),
        ("nothing", None),
    ],
)
def test_yes_no(text, said):
    assert parse_yes_no(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("B", "B"),
        ("(T)", "T"),
        ("C. Alien", "C"),
        ("Alien", None),
        ("b", None),
        ("", None),
        ("A1", None),
        ("1 A", None),
    ],
)
def test_letter(text, said):
    assert parse_letter(text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("3.5", "3.5"),
        ("3", "3"),
        ("3.", "3"),
        ("3 stars", "3"),
        ("35", None),
        ("3,5", None),
        ("Very good!", "very good"),
        ("", None),
        ("very good indeed", "very good"),
        ("very", "very"),
        ("verygood", None),
    ],
)
def test_label(text, said):
    assert parse_label(text, ["3", "3.5", "very", "very good"]) == said


def test_attributes():
    row = {"attribute": " Brand", "value": "Acme", "source": "title"}
    assert parse_attributes(json.dumps([row, row])) == {("brand", "acme", "title")}
    assert parse_attributes("[]") == frozenset()
    assert parse_attributes('As in [1]: [{"attribute": "Brand", "value": "Acme", "source": "title"}], see [2].') == {
        ("brand", "acme", "title")
    }
    for broken in (
        "",
        "Acme",
        "[1]",
        '["a"]',
        json.dumps([row])[:-2],
        json.dumps([row | {"more": 1}]),
        json.dumps([row | {"value": None}]),
        json.dumps([{"attribute": "a", "value": "b"}]),
        "[" * 100_000,
    ):
        assert parse_attributes(broken) is None


@settings(max_examples=150, deadline=None)
@given(
    text=st.text(max_size=60) | st.text(alphabet='[]{}":,\\abYESno .', max_size=40),
    labels=st.lists(st.text(max_size=6), max_size=4),
)
def test_any_text_is_read_or_is_none(text, labels):
    for name, task in TASKS.items():
        said = task.parse(text, labels)
        assert said is None or hash(said) is not None
        if name in ("SA", "PRP"):
            assert said is None or said in labels


@pytest.mark.parametrize(
    ("text", "right", "said"),
    [
        ("C", ["A", "B"], "C"),
        ("C. Alien", ["A", "B. Heat"], "C"),
        ("The answer", ["(A)", "B: Heat"], None),
        ("Alien", ["Alien", "A"], "Alien"),
        ("A Bronx Tale", ["A Bronx Tale", "Heat"], "A Bronx Tale"),
    ],
)
def test_next_items_are_read_by_letter_where_right_answers_are_lettered(text, right, said):
    assert parse_next_item(text, right) == said
