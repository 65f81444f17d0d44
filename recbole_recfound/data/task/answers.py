"""What a generated answer says. An answer that says nothing readable is None: it counts as wrong, and it is counted."""

import json
import re
from collections.abc import Callable, Collection, Hashable

NO_YES = ("no", "yes")
YES_NO_TASKS = ("PM", "AP")
Attribute = tuple[str, str, str]
"""Attribute, value, source."""


def parse_yes_no(text: str) -> str | None:
    """`yes` or `no`, when the answer begins with it (product matching, answerability)."""
    word = re.match(r"\W*(yes|no)\b", text, re.IGNORECASE)
    return word[1].lower() if word else None


def parse_letter(text: str) -> str | None:
    """The one capital letter an answer begins with, as in `C`, `(C)` or `C. Alien` (sequential recommendation)."""
    letter = re.match(r"\W*([A-Z])(?!\w)", text)
    return letter[1] if letter else None


def parse_next_item(text: str, choices: Collection[str]) -> str | None:
    """The letter of a candidate where candidates are lettered, else the whole title.

    Args:
        text: the answer.
        choices: right answers: letters, with or without their titles, or titles alone.
    """
    return parse_letter(text) if all(map(_is_lettered, choices)) else parse_text(text)


def _is_lettered(answer: str) -> bool:
    """Whether an answer names a candidate by its letter: `C`, `(C)` or `C. Alien`, but not a title that begins with a word."""
    return re.match(r"\W*[A-Z](?:[.):]|\W*$)", answer) is not None


def parse_label(text: str, labels: Collection[str]) -> str | None:
    """The class an answer begins with, the longest where several fit; capitals and marks around it do not matter.

    Args:
        text: the answer.
        labels: the classes there are.
    """
    said = _plain(text)
    fitting = [label for label in labels if _begins(said, _plain(label))]
    return max(fitting, key=len, default=None)


LIST = re.compile(r"\[\s*[{\]]")
"""Where a list of objects begins, or an empty one."""


def parse_attributes(text: str) -> frozenset[Attribute] | None:
    """The triples of a JSON list of `{"attribute", "value", "source"}`; text around the list does not matter.

    Capitals and spaces at the ends are ignored, values may be numbers. A list that is cut off, or an entry of another
    form, makes the whole answer unreadable.
    """
    start = LIST.search(text)
    if start is None:
        return None
    try:
        rows, _ = json.JSONDecoder().raw_decode(text, start.start())
    except (ValueError, RecursionError):
        return None
    found = set()
    for row in rows:
        if not isinstance(row, dict) or set(row) != {"attribute", "value", "source"}:
            return None
        if not all(isinstance(part, (str, int, float)) for part in row.values()):
            return None
        found.add(tuple(str(row[key]).strip().casefold() for key in ("attribute", "value", "source")))
    return frozenset(found)


def parse_text(text: str) -> str | None:
    """Free text; an empty answer says nothing."""
    return text.strip() or None


PARSERS: dict[str, Callable[[str, Collection[str]], Hashable | None]] = {
    **{name: lambda text, labels: parse_yes_no(text) for name in YES_NO_TASKS},
    "SR": parse_next_item,
    "SA": parse_label,
    "PRP": parse_label,
    "AVE": lambda text, labels: parse_attributes(text),
    **{name: lambda text, labels: parse_text(text) for name in ("QR", "AG", "UP", "IP")},
}
"""Task -> parser of (answer, the task's classes)."""


def can_be_read(task: str, answer: str) -> bool:
    """Whether a right answer can be read by its own task's parser: if not, every answer to it would count as wrong."""
    return PARSERS[task](answer, [answer]) is not None


def _plain(text: str) -> str:
    return text.strip().strip(".,;:!?()[]\"'").strip().casefold()


def _begins(said: str, label: str) -> bool:
    # A number goes on after a point: 3.5 is not the class 3.
    return bool(label) and said.startswith(label) and not re.match(r"\w|[.,]\d", said[len(label) :])
