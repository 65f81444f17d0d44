"""Records of items that a run has not seen, as texts."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from numbers import Integral
from typing import Any

from recbole_recfound.data.text.catalogue import Catalogue
from recbole_recfound.errors import ConfigError
from recbole_recfound.serving.checks import checked_records, checked_text


def new_items(
    records: Iterable[Mapping[str, Any]], id_field: str, known: Container[str], cold: Container[str], before: Catalogue
) -> Catalogue:
    """Return the items of records, one row each.

    Args:
        records: the id field and columns of `.item` for each item; columns that describe no item in this run are
            ignored. Of a cold item the id is enough.
        id_field: name of the column of ids.
        known: tokens that are recommended already.
        cold: tokens of `before` that nobody has chosen and that are not recommended yet.
        before: the items of the run.

    Raises:
        ConfigError: a record without an id or a text, or a known token.
    """
    checked = checked_records(records)
    tokens = [_token_of(id_field, record.get(id_field)) for record in checked]
    repeated = [token for token in tokens if token in known]
    if repeated or len(set(tokens)) != len(tokens):
        problem = f"token {repeated[0]!r} is known already" if repeated else "each record needs an id of its own"
        raise ConfigError(f"add_items: {id_field}: {problem}")
    values = []
    for token, record in zip(tokens, checked, strict=True):
        earlier = dict(before.values[before.row_of[token]]) if token in cold else {}
        given = {name: _text_of(name, record.get(name)) for name in before.fields}
        given = {name: text for name, text in given.items() if text}
        if not given and token not in cold:
            raise ConfigError(f"add_items: {id_field} {token!r} has none of {', '.join(before.fields)}")
        values.append(earlier | given)
    return Catalogue(tokens, before.fields, values, len(tokens))


def _token_of(id_field: str, value: Any) -> str:
    """Return the token of an id: a text that is more than blanks, or a whole number."""
    if not (isinstance(value, str) and value.strip()) and (not isinstance(value, Integral) or isinstance(value, bool)):
        raise ConfigError(
            f"add_items: {id_field}: got {value!r}: each record needs an id of its own, text or a whole number"
        )
    return str(value)


def _text_of(name: str, value: Any) -> str:
    """Return the text of a column, empty where it has none (pandas writes NaN there)."""
    missing = value is None or value != value
    return "" if missing else checked_text(f"add_items: {name}", value).strip()
