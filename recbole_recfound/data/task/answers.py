"""Parsers for generated answers. Unparseable answers return None; they count as wrong and are reported as `invalid`."""

import json
import re
from collections.abc import Collection

NO_YES = ("no", "yes")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""Marks of lettered candidates."""
Attribute = tuple[str, str, str]
"""Attribute, value, source."""


def parse_yes_no(text: str) -> str | None:
    """Return `yes` or `no` if the answer begins with it."""
    word = re.match(r"\W*(yes|no)\b", text, re.IGNORECASE)
    return word[1].lower() if word else None


def parse_letter(text: str) -> str | None:
    """Return the capital letter an answer begins with, as in `C`, `(C)` or `C. Alien`."""
    letter = re.match(r"\W*([A-Z])(?!\w)", text)
    return letter[1] if letter else None


def parse_next_item(text: str, choices: Collection[str]) -> str | None:
    """Return the letter of a candidate where candidates are lettered, else the whole title.

    Args:
        text: the answer.
        choices: possible answers: letters, with or without their titles, or titles alone.
    """
    return parse_letter(text) if all(map(_is_lettered, choices)) else parse_text(text)


def _is_lettered(answer: str) -> bool:
    """Return whether an answer is a letter, as in `C`, `(C)` or `C. Alien`; a title that begins with a word is not."""
    return re.match(r"\W*[A-Z](?:[.):]|\W*$)", answer) is not None


def parse_label(text: str, labels: Collection[str]) -> str | None:
    """Return the class an answer begins with, the longest where several fit, ignoring case and punctuation around it.

    Args:
        text: the answer.
        labels: all classes.
    """
    answer = _plain(text)
    fitting = [label for label in labels if _begins(answer, _plain(label))]
    return max(fitting, key=len, default=None)


LIST = re.compile(r"\[\s*[{\]]")
"""Beginning of a list of objects, or an empty list."""


def parse_attributes(text: str) -> frozenset[Attribute] | None:
    """Return the triples of a JSON list of `{"attribute", "value", "source"}`, ignoring text around the list.

    Case and surrounding spaces are ignored, values may be numbers. A list that is cut off, or an entry of another form,
    makes the whole answer unparseable.
    """
    start = LIST.search(text)
    if start is None:
        return None
    try:
        rows, _ = json.JSONDecoder().raw_decode(text, start.start())
    except (ValueError, RecursionError):
        return None
    triples: set[Attribute] = set()
    for row in rows:
        if not isinstance(row, dict) or set(row) != {"attribute", "value", "source"}:
            return None
        if not all(isinstance(part, (str, int, float)) for part in row.values()):
            return None
        attribute, value, source = (str(row[key]).strip().casefold() for key in ("attribute", "value", "source"))
        triples.add((attribute, value, source))
    return frozenset(triples)


def parse_text(text: str) -> str | None:
    """Return free text without surrounding spaces; None if nothing is left."""
    return text.strip() or None


def _plain(text: str) -> str:
    return text.strip().strip(".,;:!?()[]\"'").strip().casefold()


def _begins(answer: str, label: str) -> bool:
    # A number may continue after a point: 3.5 is not the class 3.
    return bool(label) and answer.startswith(label) and not re.match(r"\w|[.,]\d", answer[len(label) :])
