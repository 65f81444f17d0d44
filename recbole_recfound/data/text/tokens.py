"""Token tables: every text of a catalogue tokenised once, stored flat."""

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase


class TokenTable:
    """Token ids of many texts in one flat array (CSR), so that 100,000 items cost two arrays and no Python lists.

    Example:
        >>> table = TokenTable(np.array([7, 8, 9], dtype=np.int32), np.array([0, 2, 3]))
        >>> table[0], table.lengths
        (array([7, 8], dtype=int32), array([2, 1]))
    """

    def __init__(self, flat: np.ndarray, offsets: np.ndarray) -> None:
        self.flat = flat
        self.offsets = offsets

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> "TokenTable":
        """Tokenise `texts` as plain data, each cut to its first `max_tokens` tokens.

        Special tokens written inside a text (`<|im_end|>`) are read as ordinary characters: data cannot end a turn.

        Args:
            texts: n texts.
            tokenizer: of the backbone.
            max_tokens: most tokens of one text.
        """
        rows = plain_tokens(texts, tokenizer)
        lengths = np.array([min(len(row), max_tokens) for row in rows], dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        flat = np.fromiter((token for row in rows for token in row[:max_tokens]), np.int32, count=int(offsets[-1]))
        return cls(flat, offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        return self.flat[self.offsets[row] : self.offsets[row + 1]]

    def taken(self, rows: np.ndarray) -> "TokenTable":
        """Return the texts of some rows.

        Args:
            rows: int64 [n]; -1 gives an empty text.
        """
        texts = [self[row] if row >= 0 else self.flat[:0] for row in rows]
        offsets = np.concatenate([[0], np.cumsum([len(text) for text in texts], dtype=np.int64)])
        return TokenTable(np.concatenate([self.flat[:0], *texts]), offsets)

    def joined(self, other: "TokenTable") -> "TokenTable":
        """Return the texts of this table followed by those of another."""
        offsets = np.concatenate([self.offsets, self.offsets[-1] + other.offsets[1:]])
        return TokenTable(np.concatenate([self.flat, other.flat]), offsets)

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each text."""
        return np.diff(self.offsets)


def plain_tokens(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Tokenise data: no special tokens added, none recognised inside the text.

    Args:
        texts: n texts.
        tokenizer: of the backbone.
    """
    if not texts:
        return []
    return tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]


def template_tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokenise trusted template text: special tokens written in it keep their meaning.

    Args:
        text: part of a prompt template.
        tokenizer: of the backbone.
    """
    return tokenizer(text, add_special_tokens=False, split_special_tokens=False)["input_ids"] if text else []
