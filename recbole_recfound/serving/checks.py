"""Checks of what a caller passes to a recommender."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.arguments import checked_list, short


def checked_text(field: str, given: Any) -> str:
    """Return a text for a language model.

    Args:
        field: name for messages.
        given: a text, or a number that stands for one.

    Raises:
        ConfigError: something else, or a text with halves of characters, which no tokenizer reads.
    """
    if not isinstance(given, (str, int, float)):
        raise ConfigError(f"{field}: got {short(given)}, expected a text")
    text = str(given)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ConfigError(f"{field}: got {short(given)}, which is no valid Unicode ({error.reason})") from None
    return text


def checked_texts(field: str, given: Any) -> list[str]:
    """Return texts for a language model.

    Args:
        field: name for messages.
        given: as given.

    Raises:
        ConfigError: no list, an empty one, or an entry that is no text or has only spaces.
    """
    texts = checked_list(field, given)
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise ConfigError(f"{field}: got {short(text)}, expected a text")
        checked_text(field, text)
    return texts


def checked_records(given: Any) -> list[Mapping[str, Any]]:
    """Return records of new items.

    Args:
        given: as given.

    Raises:
        ConfigError: no list, or an entry that is no mapping.
    """
    records = checked_list("add_items", given, allow_empty=True)
    for record in records:
        if not isinstance(record, Mapping):
            raise ConfigError(f"add_items: got {short(record)}, expected a record of names and values for each item")
    return records


def checked_domains(given: Any, rows: int) -> Any:
    """Return the domains of rows, as lists.

    Args:
        given: a name (or None) for each row, a list of such names for each type of domain, or None.
        rows: their number.

    Raises:
        ConfigError: another form, another number of names, or an entry that is not a name.
    """

    def names_of(field: str, names: Any) -> list[Any]:
        found = checked_list(field, names)
        if len(found) != rows:
            raise ConfigError(f"{field}: got {len(found)} names, expected one per row ({rows})")
        for name in found:
            if name is not None and not isinstance(name, str):
                raise ConfigError(f"{field}: got {short(name)}, expected the name of a domain, or None")
        return found

    if isinstance(given, Mapping):
        return {kind: names_of(f"domains: {kind}", names) for kind, names in given.items()}
    return None if given is None else names_of("domains", given)
