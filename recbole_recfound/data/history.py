"""Data that history modes read: texts of items, the two id spaces and the limits of a history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, TypedDict

import numpy as np
import torch

from recbole_recfound.data.batches import PairBatch, SequenceBatch
from recbole_recfound.data.item_ids import ItemIds
from recbole_recfound.data.padding import pad, pad_tokens
from recbole_recfound.data.task import PairExample
from recbole_recfound.data.text import ItemTexts, PromptTemplate

Indices = Sequence[int] | np.ndarray
"""Catalogue indices of some items."""


class TitleText(TypedDict):
    """Histories as one text each: `token_ids` and `token_mask` [B, T], `ends` [B, L] of each title."""

    token_ids: torch.Tensor
    token_mask: torch.Tensor
    ends: torch.Tensor


@dataclass(frozen=True)
class HistorySource:
    """Prepared tables from which histories are collated, for training, evaluation and serving.

    Attributes:
        texts: token tables of the catalogue.
        item_ids: mapping of the two id spaces.
        prompt: compiled template of U2I; None where U2I has no template.
        max_prompt_tokens: length limit of that prompt.
        prompt_items: most recent items that a prompt names.
        max_items: most items of a sequence.
        max_tokens: length limit of a history as one text: what the backbone can read.
    """

    texts: ItemTexts
    item_ids: ItemIds
    prompt: PromptTemplate | None
    max_prompt_tokens: int
    prompt_items: int
    max_items: int
    max_tokens: int

    def extended(self, texts: ItemTexts, count: int) -> HistorySource:
        """Return the source with `count` further items, whose texts are the last ones of `texts`.

        Args:
            texts: of all items, the further ones last.
            count: number of further items.
        """
        return replace(self, texts=texts, item_ids=self.item_ids.extended(count))

    def histories(self, items: torch.Tensor, lengths: torch.Tensor) -> list[np.ndarray]:
        """Return histories as catalogue indices.

        Args:
            items: [B, L] item ids, padded on the right.
            lengths: [B] real items per row.
        """
        rows = items.cpu().numpy()
        return [self.item_ids.to_catalogue(row[:size]) for row, size in zip(rows, lengths.tolist(), strict=True)]

    def sequences(self, tasks: list[str], rows: Sequence[Indices]) -> SequenceBatch:
        """Collate sequences in which every position has the next item as its target.

        Args:
            tasks: task of each row.
            rows: B rows of catalogue indices, two at least, oldest first.
        """
        ids = [self.item_ids.to_item_ids(row) for row in rows]
        items, _ = pad([row[:-1] for row in ids], fill=0)
        targets, _ = pad([row[1:] for row in ids], fill=0)
        return SequenceBatch(tasks, torch.from_numpy(items), torch.from_numpy(targets))

    def newest(self, row: Indices) -> Indices:
        """Return the newest items of a history whose titles fit `max_tokens` together; at least one."""
        sizes = self.texts.titles.lengths[np.asarray(row, dtype=np.int64)] + len(self.texts.separator)
        fitting = int((np.cumsum(sizes[::-1]) <= self.max_tokens).sum())
        return row[-max(1, fitting) :]

    def titles(self, rows: Sequence[Indices]) -> TitleText:
        """Render histories as one text each, with the position at which every title ends.

        Args:
            rows: B histories of catalogue indices.

        Returns:
            `token_ids` and `token_mask` [B, T], and `ends` [B, L].
        """
        texts, ends = [], []
        separator = np.asarray(self.texts.separator)
        for row in rows:
            pieces = [np.append(self.texts.titles[item], separator) for item in row]
            texts.append(np.concatenate(pieces) if pieces else separator)
            ends.append(np.cumsum([len(piece) for piece in pieces]) - 1)
        ids, mask = pad_tokens(texts, fill=self.texts.pad_id)
        places, _ = pad(ends, fill=0)
        return {
            "token_ids": torch.from_numpy(ids),
            "token_mask": torch.from_numpy(mask),
            "ends": torch.from_numpy(places),
        }

    def prompts(self, rows: Sequence[Indices]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Render the newest items of histories with the template of U2I.

        Args:
            rows: B histories of catalogue indices.

        Returns:
            Tokens, mask of real tokens and mask of tokens to pool, [B, T] each.
        """
        assert self.prompt is not None, "U2I has a template in the mode that calls this"
        filled = [
            self.prompt.render(
                {"history": [self.texts.titles[item] for item in row[-self.prompt_items :]]}, self.max_prompt_tokens
            )
            for row in rows
        ]
        return text_batch(filled, self.texts.pad_id)


def text_batch(
    filled: Sequence[tuple[np.ndarray, np.ndarray]], pad_id: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Pad rendered prompts.

    Args:
        filled: token ids and data mask of each prompt, as `PromptTemplate.render` gives them.
        pad_id: fills the padding.

    Returns:
        Tokens, mask of real tokens and mask of tokens to pool, [B, T] each.
    """
    ids, mask = pad_tokens([tokens for tokens, _ in filled], fill=pad_id)
    text, _ = pad_tokens([is_data for _, is_data in filled], fill=0)
    return torch.from_numpy(ids), torch.from_numpy(mask), torch.from_numpy(text)


class PairCollator(Protocol):
    """The part of `Collator` that collates queries with items."""

    def pairs(self, tasks: list[str], examples: Sequence[PairExample]) -> PairBatch:
        """Collate queries with the distinct items of the batch.

        Args:
            tasks: task of each example.
            examples: B pairs.
        """


class HistoryCollator(Protocol):
    """The part of a history mode that the collator calls (`model.history.History`)."""

    source: HistorySource
    sequences: ClassVar[bool]

    def collate(self, tasks: list[str], rows: Sequence[Indices]) -> SequenceBatch:
        """Collate training sequences of catalogue indices.

        Args:
            tasks: task of each row.
            rows: B sequences of catalogue indices, oldest first.
        """

    def held_out(
        self, pairs: PairCollator, tasks: list[str], histories: Sequence[np.ndarray], answers: np.ndarray
    ) -> SequenceBatch | PairBatch:
        """Collate histories with one held-out answer each.

        Args:
            pairs: collates queries with items.
            tasks: task of each row.
            histories: B histories of catalogue indices, oldest first.
            answers: [B] catalogue index of each held-out item.
        """
