"""Token tables: every text of a catalogue tokenised once, kept flat."""

from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

WIDTH_STEP = 8
"""Widths of token batches are multiples of it. A CPU compiles its products for each new shape, which takes a fifth of a second and
20 megabytes for a small backbone (gigabytes over a run in which no two batches are alike); a GPU likes multiples of 8 too."""


class TokenTable:
    """Token ids of many texts in one flat array (CSR), so that 100,000 items cost two arrays and no Python lists.

    Example:
        >>> table = TokenTable.of(["Toy Story", "GoldenEye"], tokenizer, max_tokens=64)
        >>> table[1]
        array([...], dtype=int32)
    """

    def __init__(self, flat: np.ndarray, offsets: np.ndarray) -> None:
        self.flat = flat
        self.offsets = offsets

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_tokens: int) -> "TokenTable":
        """Tokenise `texts` as plain data, each cut to its first `max_tokens` tokens.

        Special tokens written inside a text (`<|im_end|>`) are read as ordinary characters: data cannot end a turn.
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

    @property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each text."""
        return np.diff(self.offsets)


def plain_tokens(texts: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Tokenise data: no special tokens added, none recognised inside the text."""
    if not texts:
        return []
    return tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]


def template_tokens(text: str, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokenise trusted template text: special tokens written in it keep their meaning."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=False)["input_ids"] if text else []


def rounded_up(length: int, multiple: int = WIDTH_STEP) -> int:
    """The next multiple: a width that many batches share."""
    return -(-length // multiple) * multiple


def pad(
    rows: Sequence[np.ndarray | Sequence[int]], fill: int, left: bool = False, multiple: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Stack rows of different lengths.

    Args:
        rows: token ids.
        fill: id written into the padding (never used to find it again: a pad id may equal the end token).
        left: pad on the left, for generation.
        multiple: round the width up to a multiple of it.

    Returns:
        ids [B, T] int64 and mask [B, T] int64 (1 = real).
    """
    lengths = np.array([len(row) for row in rows])
    width = rounded_up(max(1, int(lengths.max(initial=0))), multiple)
    columns = np.arange(width)[None, :]
    mask = columns >= (width - lengths)[:, None] if left else columns < lengths[:, None]
    ids = np.full((len(rows), width), fill, dtype=np.int64)
    if len(rows):
        ids[mask] = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    return ids, mask.astype(np.int64)


def pad_tokens(
    rows: Sequence[np.ndarray | Sequence[int]], fill: int, left: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """`pad` to a width that many batches share (`WIDTH_STEP`): for whatever runs through the backbone."""
    return pad(rows, fill, left, multiple=WIDTH_STEP)
