"""The README says what the program does today."""

import re

from recbole_recfound.cli.keys import keys_markdown, with_keys
from recbole_recfound.data.task import TASKS


def test_every_key_is_listed_as_it_is(checkout):
    text = (checkout / "README.md").read_text(encoding="utf-8")
    assert with_keys(text) == text, "run: python -m recbole_recfound.cli.keys README.md"


def test_keys_have_an_effect():
    rows = [line for line in keys_markdown().splitlines() if line.startswith("| `")]
    assert len(rows) > 60
    assert not [row for row in rows if re.search(r"\|\s*\|$", row)]


def test_every_builder_is_in_the_table_of_tasks(checkout):
    text = (checkout / "README.md").read_text(encoding="utf-8")
    assert not [name for name, task in TASKS.items() if task.from_atomic_files and f"| {name} |" not in text]
