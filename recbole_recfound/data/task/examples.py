"""Forms of training and test examples."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SequenceExample:
    """One user's catalogue rows, oldest first; every position after the first is a target."""

    user: str
    items: tuple[int, ...]


@dataclass(frozen=True)
class PairExample:
    """A query (text, an item, or a history of items) with its positive item.

    `known` are further positives: they are never negatives of this query.
    """

    query: str | int | tuple[int, ...]
    positive: int
    negatives: tuple[int, ...]
    known: tuple[int, ...] = ()


@dataclass(frozen=True)
class RecordPairExample:
    """A record's query and one of its positives, all as (instruction, text); `known` are all of its positives."""

    query: tuple[str, str]
    positive: tuple[str, str]
    negatives: tuple[tuple[str, str], ...]
    known: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class GenerativeExample:
    """Slots of a prompt and the answer.

    A slot is `("text", str)`, `("title", row)`, `("sentence", row)`, `("titles", rows)`, `("rated", ((row, rating),
    ...))`, `("lettered", rows)` or `("prompt", str)` (a record's whole prompt): items stay catalogue rows until the
    collator inserts their tokens, which are computed once.
    """

    slots: dict[str, tuple[str, Any]]
    answer: str


Example = SequenceExample | PairExample | RecordPairExample | GenerativeExample
