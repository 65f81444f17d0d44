"""Padding: rows of different length to one array and a mask."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WIDTH_STEP = 8
"""Widths of token batches are multiples of it. A CPU compiles its products for each new shape, which takes a fifth of a
second and 20 megabytes for a small backbone (gigabytes over a run whose batches all differ); GPUs prefer multiples of 8
too."""


def rounded_up(length: int, multiple: int = WIDTH_STEP) -> int:
    """Return the next multiple: a width that many batches share.

    Args:
        length: number of tokens or items.
        multiple: step of the width.
    """
    return -(-length // multiple) * multiple


def pad_flat(
    flat: np.ndarray, starts: np.ndarray, lengths: np.ndarray, fill: int, left: bool = False, multiple: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Stack slices of a flat array.

    Args:
        flat: int [n], all rows one after another.
        starts: int [B], index of each row's first element in `flat`.
        lengths: int [B], elements of each row.
        fill: value of the padding (never used to detect it: a pad id may equal the end token).
        left: pad on the left, for generation.
        multiple: round the width up to a multiple of it.

    Returns:
        Values [B, T] int64 and mask [B, T] bool (True = real), T at least 1.
    """
    width = rounded_up(max(1, int(lengths.max(initial=0))), multiple)
    columns = np.arange(width)[None, :]
    first = (width - lengths if left else np.zeros_like(lengths))[:, None]
    mask = (columns >= first) & (columns < first + lengths[:, None])
    values = np.full(mask.shape, fill, dtype=np.int64)
    values[mask] = flat[(np.asarray(starts)[:, None] + columns - first)[mask]]
    return values, mask


def pad(
    rows: Sequence[np.ndarray | Sequence[int]], fill: int, left: bool = False, multiple: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Stack rows of different lengths.

    Args:
        rows: B rows of integers.
        fill: value of the padding.
        left: pad on the left.
        multiple: round the width up to a multiple of it.

    Returns:
        Values [B, T] int64 and mask [B, T] int64 (1 = real), T at least 1.
    """
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    flat = np.concatenate([np.zeros(0, dtype=np.int64), *(np.asarray(row, dtype=np.int64) for row in rows)])
    values, mask = pad_flat(flat, np.cumsum(lengths) - lengths, lengths, fill, left, multiple)
    return values, mask.astype(np.int64)


def pad_tokens(
    rows: Sequence[np.ndarray | Sequence[int]], fill: int, left: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Call `pad` with a width that many batches share (`WIDTH_STEP`): for whatever runs through the backbone.

    Args:
        rows: B rows of token ids.
        fill: id of the padding.
        left: pad on the left.
    """
    return pad(rows, fill, left, multiple=WIDTH_STEP)
