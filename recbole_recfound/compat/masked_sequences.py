"""Sequences for BERT4Rec's masks: the target of a training row is the last item of its sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def with_targets(sequences: torch.Tensor, lengths: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Append each row's target to its sequence; a full sequence loses its oldest item.

    Args:
        sequences: int64 [B, L], right-padded with 0.
        lengths: int64 [B], items per row.
        targets: int64 [B].

    Returns:
        int64 [B, L].
    """
    wider = sequences.new_zeros(len(sequences), sequences.shape[1] + 1)
    wider[:, :-1] = sequences
    return without_overflow(wider.scatter(1, lengths[:, None], targets[:, None]))


def without_overflow(sequences: torch.Tensor) -> torch.Tensor:
    """Drop one column: the oldest item of full rows, the last padding of all others.

    Args:
        sequences: int64 [B, L + 1], right-padded with 0.

    Returns:
        int64 [B, L].
    """
    return sequences[:, 1:].where(sequences[:, -1:] > 0, sequences[:, :-1])
