"""Packing: sequences of different lengths side by side in a few full rows, so that no product runs over padding."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import transformers

from recbole_recfound.backbone.depth import Decoder, decode
from recbole_recfound.data.padding import rounded_up
from recbole_recfound.errors import BackboneError

LEAST_WIDTH = 64
"""Rows have room for several short sequences, so that a short one does not end a row."""


@dataclass(frozen=True)
class Packing:
    """Where each of B sequences lies in R rows of W places.

    Attributes:
        starts: [B] place of each sequence's first element in the flattened rows.
        lengths: [B] elements of each sequence, at least 1.
        positions: [R, W] position of each place within its sequence, from 0. The free end of a row continues its last
            sequence, whose elements come before it and do not see it.
    """

    starts: torch.Tensor
    lengths: torch.Tensor
    positions: torch.Tensor

    @classmethod
    def of(cls, lengths: torch.Tensor) -> Packing:
        """Pack sequences into rows as wide as the longest one (or a little wider).

        Args:
            lengths: [B] elements of each sequence, at least 1, on any device.
        """
        sizes = lengths.tolist()
        width = _width(sizes)
        rows, columns = _place(sizes, width)
        count = int(rows.max()) + 1
        starts = rows * width + columns
        first = np.zeros((count, width), dtype=np.int64)
        first.reshape(-1)[starts] = columns
        positions = np.arange(width) - np.maximum.accumulate(first, axis=1)
        on_device = (torch.from_numpy(array).to(lengths.device) for array in (starts, positions))
        return cls(next(on_device), lengths, next(on_device))

    def places(self, width: int) -> torch.Tensor:
        """Return the place of each element of a padded array, [B, `width`]; meaningless beyond a sequence's length.

        Args:
            width: of the padded array.
        """
        columns = torch.arange(width, device=self.starts.device)
        return (self.starts[:, None] + columns).clamp(max=self.positions.numel() - 1)

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """Return the rows [R, W] of a padded array, 0 where nothing lies.

        Args:
            padded: [B, L], sequences from the left.
        """
        real = torch.arange(padded.shape[1], device=padded.device) < self.lengths[:, None]
        rows = padded.new_zeros(self.positions.numel())
        rows[self.places(padded.shape[1])[real]] = padded[real]
        return rows.view(self.positions.shape)


def same_sequence(positions: torch.Tensor) -> torch.Tensor:
    """Return which places of a row see each other causally, bool [R, W, W]: earlier ones of the same sequence.

    Args:
        positions: [R, W] of a `Packing`.
    """
    sequence = (positions.diff(dim=1, prepend=positions[:, :1] - 1) != 1).cumsum(1)
    return (sequence[:, :, None] == sequence[:, None, :]).tril()


@torch.no_grad()
def check_packing(decoder: Decoder, ids: torch.Tensor) -> None:
    """Check that the decoder keeps the sequences of a row apart: no state changes with another sequence.

    Args:
        decoder: full decoder.
        ids: [1, T] tokens, T at least 4.

    Raises:
        BackboneError: it does not.
    """
    half = ids.shape[1] // 2
    places = torch.arange(ids.shape[1], device=ids.device)
    positions = torch.where(places < half, places, places - half)[None]
    changed = torch.cat([ids[:, :half].flip(1), ids[:, half:]], dim=1)
    first, second = (
        decode(decoder, decoder.embed_tokens(row), positions=positions)[:, half:] for row in (ids, changed)
    )
    if not torch.equal(first, second):
        name, version = decoder.config.model_type, transformers.__version__
        raise BackboneError(f"a {name} model mixes the histories of a row in transformers {version}: it cannot be used")


def _width(sizes: Sequence[int]) -> int:
    """Return the width of the rows: at most what a single row needs."""
    return rounded_up(max(max(sizes), min(LEAST_WIDTH, sum(sizes))))


def _place(sizes: Sequence[int], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of each sequence: longest first, each into the fullest row with room for it."""
    rows, columns = np.zeros((2, len(sizes)), dtype=np.int64)
    room: list[tuple[int, int]] = []  # free places and number of each row, ascending
    count = 0
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index]):
        fits = bisect_left(room, (sizes[index], 0))
        if fits < len(room):
            free, row = room.pop(fits)
        else:
            free, row, count = width, count, count + 1
        rows[index], columns[index] = row, width - free
        insort(room, (free - sizes[index], row))
    return rows, columns
