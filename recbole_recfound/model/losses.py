"""Losses of RecFound on plain tensors."""

from collections.abc import Callable

import torch
from torch.nn import functional as F

from recbole_recfound.data.collate import IGNORED
from recbole_recfound.runtime.exchange import broadcast_tensor

CLOSED = -1e4


def sampled_candidates(
    targets: torch.Tensor, num_items: int, count: int, all_targets: torch.Tensor | None = None
) -> torch.Tensor:
    """Draw the candidates of a sampled softmax, [C] item ids in ascending order.

    Every target of the batch is one, so that no target is also a negative.

    Args:
        targets: [B, L] item ids, 0 = none.
        num_items: number of item ids, padding included.
        count: items drawn in addition to the targets, with replacement.
        all_targets: [N] targets of the batch whose rows several processes share; the items drawn are then the main
            process's. None: this is the whole batch.
    """
    drawn = torch.randint(1, num_items, (count,), device=targets.device)
    if all_targets is not None:
        drawn = torch.cat([broadcast_tensor(drawn), all_targets])
    return torch.cat([targets[targets > 0], drawn]).unique()


def next_item_loss(
    states: torch.Tensor,
    targets: torch.Tensor,
    items: torch.Tensor,
    temperature: float,
    candidates: torch.Tensor | None = None,
    past: torch.Tensor | None = None,
    targets_per_row: float | None = None,
    held_out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Compute the cross-entropy over the catalogue, or over candidates of it, at every position that has a target.

    Args:
        states: [N, d] user vectors, normalised, of the N positions that have a target, row by row.
        targets: [B, L] item ids, 0 = none.
        items: [num_items, d] item vectors, normalised, of which row 0 is padding; or those of the candidates, [C, d].
        temperature: of the softmax.
        candidates: [C] item ids in ascending order, all targets among them; None: the whole catalogue.
        past: [B, L] item ids read so far, 0 = padding: excluded from the softmax of their and all later positions,
            unless they are the target. None: every item is a candidate.
        targets_per_row: a row's loss is its sum over this constant, so that all positions of a batch have equal weight,
            however the batch is cut. None: the mean over the row's own targets.
        held_out: [C] item ids that are no candidates, since nothing is known against them (`cold_items`), unless they
            are the target. None: none.

    Returns:
        Loss of each row, [B]; rows without a target give 0.
    """
    wanted = targets > 0
    chosen = targets[wanted]
    if candidates is None:
        items, place = items[1:], chosen - 1
    else:
        place = torch.searchsorted(candidates, chosen)
    # The temperature divides the states, which are fewer than the logits.
    logits = (states / temperature) @ items.T
    if held_out is not None:
        known = torch.arange(1, len(items) + 1, device=items.device) if candidates is None else candidates
        others = place[:, None] != torch.arange(len(items), device=items.device)
        logits = logits.masked_fill(torch.isin(known, held_out) & others, CLOSED)
    if past is not None:
        row, column = _seen(past, wanted, candidates)
        other = column != place[row]
        # In place: a mask of all logits would be the largest tensor of a step after them.
        logits[row[other], column[other]] = CLOSED
    losses = F.cross_entropy(logits.float(), place, reduction="none")
    if targets_per_row is None:
        return _mean_by_row(losses, wanted)
    return _sum_by_row(losses, wanted) / targets_per_row


def _seen(past: torch.Tensor, wanted: torch.Tensor, columns: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return row and column of the logits of each item in the history of each target, two [n].

    Args:
        past: [B, L], see `next_item_loss`.
        wanted: [B, L], True at the N positions that have a target.
        columns: [width] item id of each column, ascending; None: column c is item c + 1.
    """
    length = past.shape[1]
    number = wanted.flatten().cumsum(0).view_as(wanted) - 1
    earlier = torch.ones(length, length, dtype=torch.bool, device=past.device).tril()
    item = past.unsqueeze(1).expand(-1, length, -1)
    seen = earlier & wanted.unsqueeze(2) & (item > 0)
    row, item = number.unsqueeze(2).expand_as(seen)[seen], item[seen]
    column = item - 1
    if columns is not None:
        column = torch.searchsorted(columns, item).clamp(max=len(columns) - 1)
        drawn = columns[column] == item
        row, column = row[drawn], column[drawn]
    return row, column


def info_nce(
    queries: torch.Tensor,
    items: torch.Tensor,
    positive: torch.Tensor,
    allowed: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """Compute InfoNCE with in-batch and hard negatives, false negatives masked (RecFound section 4).

    Args:
        queries: [B, d], normalised.
        items: [U, d], normalised.
        positive: [B] column of the positive item.
        allowed: [B, U] True where an item is in the denominator (always for the positive).
        temperature: of the softmax.

    Returns:
        Loss of each query, [B].
    """
    logits = (queries @ items.T).masked_fill(~allowed, CLOSED)
    return F.cross_entropy(logits.float() / temperature, positive, reduction="none")


def answer_loss(
    states: torch.Tensor, logits_of: Callable[[torch.Tensor], torch.Tensor], labels: torch.Tensor
) -> torch.Tensor:
    """Compute the next-token cross-entropy on answer tokens; only their states are projected to the vocabulary.

    Args:
        states: [B, T, d] of the last layer, after its norm.
        logits_of: logits of states, [n, d] -> [n, V].
        labels: [B, T], -100 outside the answer.

    Returns:
        Mean loss over the answer's tokens of each row, [B].
    """
    following = F.pad(labels[:, 1:], (0, 1), value=IGNORED)
    wanted = following != IGNORED
    losses = F.cross_entropy(logits_of(states[wanted]).float(), following[wanted], reduction="none")
    return _mean_by_row(losses, wanted)


def _mean_by_row(losses: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Average the losses of the positions under `wanted` [B, L] within each row."""
    return _sum_by_row(losses, wanted) / wanted.sum(1).clamp(min=1)


def _sum_by_row(losses: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    rows = wanted.nonzero()[:, 0]
    return torch.zeros(len(wanted), dtype=losses.dtype, device=losses.device).index_add(0, rows, losses)
