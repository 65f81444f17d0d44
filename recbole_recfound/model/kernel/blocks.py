"""Rows of a batch in blocks of one domain each: one batched product serves all domains."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch


class Layout(ABC):
    """N blocks of rows, each with its domain's weights.

    Attributes:
        domain: int64 [N], domain of each block.
    """

    domain: torch.Tensor

    @abstractmethod
    def split(self, values: torch.Tensor) -> torch.Tensor:
        """Arrange [B, c] as [N, size, c]."""

    @abstractmethod
    def join(self, blocks: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
        """Arrange [N, size, c] as [B, c]; rows without a domain are copied from `rest`.

        Args:
            blocks: [N, size, c], as `split` arranges them.
            rest: [B, c], values of the rows without a domain.
        """

    def linear(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
        """Multiply X [N, size, a] with each block's weight.

        Args:
            x: blocks.
            weight: [D, a, b], one matrix per domain.
            bias: [D, b] or None.
        """
        own = weight[self.domain]
        return torch.bmm(x, own) if bias is None else torch.baddbmm(bias[self.domain].unsqueeze(1), x, own)

    def each(self, values: torch.Tensor) -> torch.Tensor:
        """Arrange [D, c] or [D] as [N, 1, c] (c = 1): one row of parameters for each block."""
        return values[self.domain].view(len(self.domain), 1, values[0].numel())


@dataclass(frozen=True)
class EachRow(Layout):
    """One block per row of the batch, including rows without a domain.

    Reads a matrix for each row, but needs no sorting and no synchronisation with a device.

    Attributes:
        domain: int64 [B]; any domain for rows that have none.
        known: bool [B], rows that have a domain.
    """

    domain: torch.Tensor
    known: torch.Tensor

    def split(self, values: torch.Tensor) -> torch.Tensor:
        """Reshape [B, c] to [B, 1, c] and zero rows without a domain: their NaN or inf would reach the gradients."""
        return values.where(self.known.unsqueeze(1), 0).unsqueeze(1)

    def join(self, blocks: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
        """Arrange [B, 1, c] as [B, c].

        See `Layout.join`.
        """
        return torch.where(self.known.unsqueeze(1), blocks.squeeze(1), rest)


@dataclass(frozen=True)
class Blocks(Layout):
    """The rows that have a domain, arranged as [N, size]; incomplete blocks are padded.

    The weights of a domain are read once per block. Padding never exceeds `size - 1` rows per domain.

    Attributes:
        rows: int64 [K], rows of the batch that have a domain, grouped by domain.
        slots: int64 [K], index of each of them in the flattened blocks.
        domain: int64 [N], domain of each block.
        size: rows in a block.
    """

    rows: torch.Tensor
    slots: torch.Tensor
    domain: torch.Tensor
    size: int

    def split(self, values: torch.Tensor) -> torch.Tensor:
        """Arrange [B, c] as [N, size, c]; padding is zero."""
        flat = values.new_zeros(len(self.domain) * self.size, values.shape[-1])
        return flat.index_copy(0, self.slots, values[self.rows]).view(len(self.domain), self.size, values.shape[-1])

    def join(self, blocks: torch.Tensor, rest: torch.Tensor) -> torch.Tensor:
        """Arrange [N, size, c] as [B, c]; rows without a domain are copied from `rest`.

        See `Layout.join`.
        """
        return rest.index_copy(0, self.rows, blocks.flatten(0, 1)[self.slots])


def each_row(domain: torch.Tensor) -> EachRow:
    """Lay out a batch row by row; domain: int64 [B], -1 for none."""
    return EachRow(domain.clamp(min=0), domain >= 0)


def group_rows(domain: torch.Tensor, num_domains: int, size: int | None = None) -> Blocks:
    """Sort a batch into blocks.

    Args:
        domain: int64 [B], -1 for none.
        num_domains: D.
        size: rows per block; None: about the mean number of rows of the domains present.
    """
    order = torch.argsort(domain, stable=True)
    ordered = domain[order]
    known = ordered >= 0
    rows, ordered = order[known], ordered[known]
    counts = torch.bincount(ordered, minlength=num_domains)
    if size is None:
        present = max(int((counts > 0).sum()), 1)
        size = 1 << max(0, (len(rows) // present).bit_length() - 1)
    blocks = (counts + size - 1) // size
    first_row = torch.cumsum(counts, 0) - counts
    first_block = torch.cumsum(blocks, 0) - blocks
    rank = torch.arange(len(rows), device=domain.device) - first_row[ordered]
    slots = first_block[ordered] * size + rank
    of_block = torch.repeat_interleave(torch.arange(num_domains, device=domain.device), blocks)
    return Blocks(rows, slots, of_block, size)
