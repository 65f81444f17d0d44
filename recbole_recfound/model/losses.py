"""Losses of RecFound on plain tensors."""

import torch
from torch import nn
from torch.nn import functional as F

from recbole_recfound.data.collate import IGNORED

CLOSED = -1e4


def next_item_loss(
    states: torch.Tensor, targets: torch.Tensor, items: torch.Tensor, temperature: float, sampled: int = 0
) -> torch.Tensor:
    """Cross-entropy over the catalogue at every position that has a target.

    Args:
        states: [B, L, d] user vectors, normalised.
        targets: [B, L] item ids, 0 = none.
        items: [num_items, d] item vectors, normalised; row 0 is padding.
        temperature: of the softmax.
        sampled: 0 for the full softmax; else the number of items drawn at random beside the batch's own targets.

    Returns:
        Mean loss of each row, [B]; rows without a target give 0.
    """
    wanted = targets > 0
    chosen, place = targets[wanted], targets[wanted]
    if sampled:
        # Every target of the batch has its own column, so no right answer is ever counted as a negative twice.
        drawn = torch.randint(1, len(items), (sampled,), device=items.device)
        columns, place = torch.unique(torch.cat([chosen, drawn]), return_inverse=True)
        items, place = items[columns], place[: len(chosen)]
    logits = states[wanted] @ items.T / temperature
    if not sampled:
        logits = logits.index_fill(1, torch.zeros(1, dtype=torch.long, device=logits.device), CLOSED)
    losses = F.cross_entropy(logits.float(), place, reduction="none")
    return _mean_by_row(losses, wanted)


def info_nce(
    queries: torch.Tensor,
    items: torch.Tensor,
    positive: torch.Tensor,
    allowed: torch.Tensor,
    temperature: float,
    more: torch.Tensor | None = None,
    more_allowed: torch.Tensor | None = None,
) -> torch.Tensor:
    """InfoNCE with in-batch and hard negatives, false negatives masked (RecFound section 4).

    Args:
        queries: [B, d], normalised.
        items: [U, d], normalised.
        positive: [B] column of the right item.
        allowed: [B, U] True where an item may stand in the denominator (always so for the right one).
        temperature: of the softmax.
        more: [M, d] further negatives (a table of earlier encodings), without gradient.
        more_allowed: [B, M].

    Returns:
        Loss of each query, [B].
    """
    logits = (queries @ items.T).masked_fill(~allowed, CLOSED)
    if more is not None:
        extra = (queries @ more.T).masked_fill(~more_allowed, CLOSED)
        logits = torch.cat([logits, extra], dim=1)
    return F.cross_entropy(logits.float() / temperature, positive, reduction="none")


def answer_loss(states: torch.Tensor, head: nn.Module, labels: torch.Tensor) -> torch.Tensor:
    """Next-token cross-entropy on the answer tokens; only their states go through the vocabulary.

    Args:
        states: [B, T, d] of the last layer, after its norm.
        head: language-model head, d -> vocabulary.
        labels: [B, T], -100 outside the answer.

    Returns:
        Mean loss over the answer's tokens of each row, [B].
    """
    following = F.pad(labels[:, 1:], (0, 1), value=IGNORED)
    wanted = following != IGNORED
    losses = F.cross_entropy(head(states[wanted]).float(), following[wanted], reduction="none")
    return _mean_by_row(losses, wanted)


def _mean_by_row(losses: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Average the losses of the positions under `wanted` [B, L] within each row."""
    rows = wanted.nonzero()[:, 0]
    total = torch.zeros(len(wanted), dtype=losses.dtype, device=losses.device).index_add(0, rows, losses)
    return total / wanted.sum(1).clamp(min=1)
