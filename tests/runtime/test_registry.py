"""Registries: lookup, messages, order, and what is imported when."""

import subprocess
import sys

import pytest

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime import registry
from recbole_recfound.runtime.registry import Registry


def make(*names):
    made = Registry("colour", attribute="name")
    for name in names:
        made.add(name, type(name, (), {}))
    return made


def test_entries_in_the_order_of_registration():
    made = make("red", "blue", "green")
    assert list(made) == ["red", "blue", "green"] and len(made) == 3 and "red" in made and "Red" not in made
    assert [entry.name for entry in made.values()] == list(made) and dict(made.items())["red"] is made["red"]


def test_order_by_a_key():
    made = Registry("colour", order=lambda entry: -entry.rank)
    for rank in (1, 3, 2):
        made.register(str(rank))(type("C", (), {"rank": rank, "__qualname__": f"C{rank}"}))
    assert list(made) == ["3", "2", "1"]


def test_unknown_names_in_one_message_with_a_hint_only_where_one_is_near():
    made = make("red", "blue")
    with pytest.raises(ConfigError, match=r"^unknown colour 'redd' \(did you mean red\?\); known: red, blue$"):
        made["redd"]
    assert made.unknown(["xyz", "red", "Blue", "xyz"]) == (
        "unknown colour 'xyz', 'Blue' (did you mean blue?); known: red, blue"
    )
    assert made.unknown(["red"]) == "" and made.unknown([]) == ""


def test_a_name_has_one_owner_and_may_be_defined_again():
    made = Registry("colour")

    def define(note):
        def paint():
            return note

        return paint

    first, second = define(1), define(2)
    made.register("red")(first)
    made.register("red")(second)
    assert made["red"]() == 2
    with pytest.raises(ConfigError, match=r"colour 'red' is registered twice: by .*paint and by builtins.print"):
        made.register("red")(print)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("TASKS", {"U2I", "SR", "AG"}),
        ("SCHEDULERS", {"s2sched", "coba", "proportional", "uniform"}),
        ("ADAPTERS", {"tmole", "lora"}),
        ("MERGE_METHODS", {"linear", "slerp", "ties", "dare_ties"}),
        ("SPARSIFICATIONS", {"magnitude", "random"}),
        ("ANSWER_METRICS", {"f1_yes", "recall@1", "macro_f1", "micro_f1", "rouge_l", "bleu"}),
    ],
)
def test_complete_for_whoever_asks_first(name, known):
    """In a fresh process, from the registry alone, as config/ does."""
    code = f"from recbole_recfound.runtime.registry import {name}; print(*{name})"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert known <= set(told) and known <= set(getattr(registry, name))


def test_importing_one_task_first_is_fine():
    code = "import recbole_recfound.data.task.sr; from recbole_recfound.data.task import TASKS; print(len(TASKS))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "13\n"
