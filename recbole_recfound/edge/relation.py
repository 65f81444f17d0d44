"""Relations between tokens in the queries, keys and values of a layer (MiniLM, arXiv 2002.10957 and 2012.15828)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

NAMES = ("q_proj", "k_proj", "v_proj")
MOST_HEADS = 16
Projections = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Queries, keys and values of one text, [T, width] each; widths can differ."""


def has_projections(attention: Any) -> bool:
    """Return whether an attention module computes queries, keys and values apart, as `captured` needs."""
    return all(isinstance(getattr(attention, name, None), nn.Module) for name in NAMES)


@contextmanager
def captured(attention: nn.Module) -> Iterator[list[list[torch.Tensor]]]:
    """Collect the queries, keys and values that an attention module computes within the block.

    Args:
        attention: with `q_proj`, `k_proj` and `v_proj`.

    Yields:
        The outputs of each of the three, one for each call.
    """
    found: list[list[torch.Tensor]] = [[] for _ in NAMES]
    hooks = [
        getattr(attention, name).register_forward_hook(lambda _module, _given, output, own=own: own.append(output))
        for name, own in zip(NAMES, found, strict=True)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def relation_heads(widths: Sequence[int]) -> int:
    """Return the largest number of relation heads up to 16 that divides all widths.

    Args:
        widths: of queries, keys and values of teacher and student.
    """
    common = math.gcd(*widths)
    return max(heads for heads in range(1, MOST_HEADS + 1) if common % heads == 0)


def relation_loss(teacher: Projections, student: Projections, source: int, heads: int) -> torch.Tensor:
    """Return the mean KL divergence of the student's relations from the teacher's, over QQ, KK and VV.

    A relation is softmax(X X' / sqrt(d)) in each of `heads` parts of width d of X, so that the numbers of attention
    heads may differ. A token of the source is related to the source, one of the target to all tokens before it.

    Args:
        teacher: of a text of T tokens.
        student: of the same tokens.
        source: number of tokens of the source, which come first.
        heads: relation heads.
    """
    hidden = ~prefix_mask(len(teacher[0]), source).to(student[0].device)
    losses = []
    for theirs, own in zip(teacher, student, strict=True):
        expected, given = (_log_relation(states.float(), heads, hidden) for states in (theirs, own))
        # Hidden pairs are -inf in both; 0 * (-inf + inf) would be NaN.
        expected, given = (rows.masked_fill(hidden, 0.0) for rows in (expected, given))
        terms = expected.exp() * (expected - given)
        losses.append(terms.masked_fill(hidden, 0.0).sum(-1).mean())
    return torch.stack(losses).mean()


def prefix_mask(length: int, source: int) -> torch.Tensor:
    """Return which tokens a token sees, bool [T, T]: the source itself in both directions, a target all before it.

    Args:
        length: T.
        source: number of tokens of the source.
    """
    allowed = torch.ones(length, length, dtype=torch.bool).tril()
    allowed[:source, :source] = True
    return allowed


def _log_relation(states: torch.Tensor, heads: int, hidden: torch.Tensor) -> torch.Tensor:
    """Return the logarithms of the relations of states [T, width], [heads, T, T]."""
    parts = states.view(len(states), heads, -1).transpose(0, 1)
    products = parts @ parts.transpose(1, 2) / math.sqrt(parts.shape[-1])
    return F.log_softmax(products.masked_fill(hidden, -torch.inf), dim=-1)
