"""The catalogue: every item with its fields and its sentence, in an order that no held-out row can change."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from recbole_recfound.atomic.read import AtomicTable, read_atomic
from recbole_recfound.data.records.normal import normal_form
from recbole_recfound.data.text.fields import choose_fields, readable, title_field


@dataclass
class Catalogue:
    """Items by catalogue index: first the rows of .item, then training items absent from it, then any others.

    Row numbers of the first two parts are a function of .item and the training rows alone, so examples that name items
    by row stay byte-identical when held-out rows change.

    Attributes:
        tokens: item token of each row, as written in the data.
        fields: chosen text columns, title first.
        values: one dict (field -> string, empty ones left out) per row; {} for items without a row in .item.
        pool_size: number of leading rows that do not depend on held-out interactions.
        row_of: token -> row.
        long_values: per row, the text columns that are too long to describe an item by default (for attribute
            extraction).
    """

    tokens: list[str]
    fields: list[str]
    values: list[dict[str, str]]
    pool_size: int
    long_values: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.row_of = {token: row for row, token in enumerate(self.tokens)}
        self.title = title_field(self.fields)

    def __len__(self) -> int:
        return len(self.tokens)

    def title_of(self, row: int) -> str:
        """Return the item's title, else its first field, else its token."""
        values = self.values[row]
        title = None if self.title is None else values.get(self.title)
        return title or next(iter(values.values()), None) or f"item {self.tokens[row]}"

    def text_of(self, row: int) -> str:
        """Return the item's sentence, or nothing where it has no text: its token says nothing to a reader of texts."""
        return self.sentence_of(row) if self.values[row] else ""

    def same_title(self, rows: Iterable[int]) -> np.ndarray:
        """Return all rows that share the title of one of `rows` in any spelling, including these."""
        titles = {self._title_forms[int(row)] for row in rows}
        same = [row for row, form in enumerate(self._title_forms) if form in titles] if titles else []
        return np.array(same, dtype=np.int64)

    @cached_property
    def _title_forms(self) -> list[str]:
        """The title of each row in normal form; every task about items asks for them."""
        return [normal_form(self.title_of(row)) for row in range(len(self))]

    def sentence_of(self, row: int) -> str:
        """Join title and short fields as one sentence: `Toy Story, release year: 1995, class: Animation`."""
        values = self.values[row]
        title = [values[self.title]] if self.title in values else []
        rest = [f"{readable(name)}: {value}" for name, value in values.items() if name != self.title]
        return ", ".join([*title, *rest]) or self.title_of(row)


def build_catalogue(
    item_file: Path | None,
    item_field: str,
    training_tokens: Iterable[str],
    other_tokens: Iterable[str] = (),
    text_fields: Sequence[str] | None = None,
    separator: str = "\t",
    encoding: str | None = None,
) -> Catalogue:
    """Read .item and order the catalogue.

    Args:
        item_file: the .item file, or None when the data set has none (then an item's text is its token).
        item_field: name of the id column.
        training_tokens: items of the training rows, in order.
        other_tokens: further items RecBole knows (held-out only); they come last and are never drawn as negatives.
        text_fields: configured columns, or None for the defaults of `choose_fields`.
        separator: between cells.
        encoding: of the .item file; None: UTF-8.

    Raises:
        DataError: malformed file, or an item with two rows.
        ConfigError: a configured field does not exist.
    """
    table, fields, rows = None, [], {}
    if item_file is not None:
        table = read_atomic(item_file, separator, encoding)
        fields = choose_fields(table, item_field, text_fields, "item_args: text_fields")
        rows = table.by_key(item_field)
    tokens = list(dict.fromkeys([*rows, *training_tokens]))
    pool_size = len(tokens)
    tokens = list(dict.fromkeys([*tokens, *other_tokens]))
    long_fields = _long_fields(table, item_field, fields)
    return Catalogue(
        tokens=tokens,
        fields=fields,
        values=[_filled(rows.get(token, {}), fields) for token in tokens],
        pool_size=pool_size,
        long_values=[_filled(rows.get(token, {}), long_fields) for token in tokens],
    )


def _filled(row: Mapping[str, str], names: Sequence[str]) -> dict[str, str]:
    return {name: row[name].strip() for name in names if row.get(name, "").strip()}


def _long_fields(table: AtomicTable | None, key: str, chosen: Sequence[str]) -> list[str]:
    if table is None:
        return []
    return [name for name, kind in table.kinds.items() if kind == "token_seq" and name != key and name not in chosen]
