"""Texts of a catalogue as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

from recbole_recfound.data.text.catalogue import Catalogue
from recbole_recfound.data.text.tokens import TokenTable, plain_tokens


@dataclass(frozen=True)
class ItemTexts:
    """Token tables of all items, by catalogue index.

    Attributes:
        titles: what a history names an item by.
        sentences: what describes an item: title and short fields.
        separator: tokens between two titles of a history.
        pad_id: fills the padding of token batches.
        max_tokens: length limit of one text.
    """

    titles: TokenTable
    sentences: TokenTable
    separator: tuple[int, ...]
    pad_id: int
    max_tokens: int

    @classmethod
    def of(cls, catalogue: Catalogue, tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> ItemTexts:
        """Tokenise every title and sentence of a catalogue once.

        Args:
            catalogue: items with titles and sentences.
            tokenizer: of the backbone.
            max_tokens: most tokens of one text.
        """
        rows = range(len(catalogue))
        return cls.from_texts(
            [catalogue.title_of(row) for row in rows],
            [catalogue.sentence_of(row) for row in rows],
            tokenizer,
            max_tokens,
        )

    @classmethod
    def from_texts(
        cls, titles: Sequence[str], sentences: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_tokens: int
    ) -> ItemTexts:
        """Tokenise titles and sentences.

        Args:
            titles: one per item.
            sentences: one description per item.
            tokenizer: of the backbone.
            max_tokens: length limit of one text.
        """
        return cls(
            TokenTable.of(titles, tokenizer, max_tokens),
            TokenTable.of(sentences, tokenizer, max_tokens),
            tuple(plain_tokens(["\n"], tokenizer)[0]),
            tokenizer.pad_token_id,
            max_tokens,
        )

    def extended(
        self, titles: Sequence[str], sentences: Sequence[str], tokenizer: PreTrainedTokenizerBase
    ) -> ItemTexts:
        """Return the tables with further items at their ends.

        Args:
            titles: of the further items.
            sentences: of the further items.
            tokenizer: of the backbone.
        """
        new = self.from_texts(titles, sentences, tokenizer, self.max_tokens)
        return ItemTexts(
            self.titles.joined(new.titles),
            self.sentences.joined(new.sentences),
            self.separator,
            self.pad_id,
            self.max_tokens,
        )

    def sentences_by(self, indices: np.ndarray) -> TokenTable:
        """Return the sentences in another order.

        Args:
            indices: int64 [n] catalogue indices; -1 gives an empty text.
        """
        return self.sentences.taken(indices)

    def titles_by(self, indices: np.ndarray) -> TokenTable:
        """Return the titles in another order; see `sentences_by`."""
        return self.titles.taken(indices)
