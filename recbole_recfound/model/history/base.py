"""The interface of a history mode, and the registry of modes.

A mode is one class that collates histories for the data and encodes them for the model, so that both always agree. To
add a mode, add a file to this package with a class under `@register_history("name")`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from peft import PeftModel

from recbole_recfound.config.history import history_name
from recbole_recfound.data.batches import PairBatch, SequenceBatch
from recbole_recfound.data.history import HistorySource, Indices, PairCollator
from recbole_recfound.model.item_table import ItemTable
from recbole_recfound.model.losses import next_item_loss, sampled_candidates
from recbole_recfound.model.recent_items import RecentItems
from recbole_recfound.model.user_tower import UserTower
from recbole_recfound.runtime import registry
from recbole_recfound.runtime.registry import Registry

HISTORIES: Registry[type[History]] = registry.HISTORIES
"""History modes by name."""


def register_history(name: str) -> Callable[[type[History]], type[History]]:
    """Return a decorator that registers a class as the history mode `name`."""
    return HISTORIES.register(name)


def history_of(config: Any) -> type[History]:
    """Return the history mode that a run's settings name.

    Raises:
        ConfigError: no mode has this name.
    """
    return HISTORIES[history_name(config)]


class HistoryModel(Protocol):
    """What a history mode needs of the model.

    Attributes:
        backbone: LLM with its adapter.
        user_tower: reads soft tokens or text.
        recent_items: adds the last items of a history to what the LLM makes of it.
        item_table: gives soft tokens and item vectors with gradients.
        user_depth: number of decoder layers that read a history.
        temperature: of the softmax over the catalogue.
        sampled_items: items drawn for a sampled softmax; 0: all items.
        masks_history: items of the history are no candidates.
        parts: what the model was built from, with `targets_per_row` and the backbone's `fingerprint`.
        device: of the model.
        training: whether the model is being trained.
    """

    backbone: PeftModel
    user_tower: UserTower
    recent_items: RecentItems
    item_table: ItemTable
    user_depth: int
    temperature: float
    sampled_items: int
    masks_history: bool
    parts: Any
    device: Any
    training: bool

    def table(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return soft tokens and item vectors [num_items, d] of a model in eval."""

    def encode(self, task: str, ids: torch.Tensor, mask: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Encode texts under the route of one task.

        Args:
            task: name of an embedding task.
            ids: [B, T] token ids.
            mask: [B, T] 1 at real tokens.
            text: [B, T] 1 at tokens to pool.

        Returns:
            [B, d], normalised.
        """

    def text_vectors(self, task: str) -> torch.Tensor:
        """Return the vectors of all items' sentences under the route of a task."""


class History(ABC):
    """One history mode.

    Args:
        source: tables from which histories are collated.

    Attributes:
        sequences: examples of U2I are whole sequences with one target per position; False: histories with one target.
        soft_tokens: items enter as one soft token each, so that the layers of the LLM can be left out or replaced.
        segments: the text of an item runs alone through the first layers, which are frozen, once for all users; a
            history is read by the last layers.
        uses_item_table: user tower and item table take part; if not, users and items are encoded as texts alone.
        user_layers: default number of decoder layers that read a history; None: all.
        text_layers: default number of decoder layers that encode the texts of items and queries; None: all.
    """

    name: ClassVar[str]
    sequences: ClassVar[bool] = True
    soft_tokens: ClassVar[bool] = False
    segments: ClassVar[bool] = False
    uses_item_table: ClassVar[bool] = True
    user_layers: ClassVar[int | None] = None
    text_layers: ClassVar[int | None] = None

    def __init__(self, source: HistorySource) -> None:
        self.source = source

    @classmethod
    def user_depth(cls, layers: int, configured: int | None) -> int:
        """Return how many decoder layers read a history: the first ones, or the last ones with `segments`.

        Args:
            layers: of the backbone.
            configured: `user_layers` of `tower_args`; None: the mode's default.
        """
        return _depth(layers - cls.segments, configured, cls.user_layers)

    @classmethod
    def text_depth(cls, layers: int, configured: int | None, user_depth: int) -> int:
        """Return how many decoder layers encode the texts of items and queries.

        Args:
            layers: of the backbone.
            configured: `text_layers` of `tower_args`; None: the mode's default.
            user_depth: see the method of this name.
        """
        return _depth(layers, configured, cls.text_layers)

    @abstractmethod
    def collate(self, tasks: list[str], rows: Sequence[Indices]) -> SequenceBatch:
        """Collate training sequences; called for modes with `sequences` only.

        Args:
            tasks: task of each row.
            rows: B rows of catalogue indices, two at least, oldest first.
        """

    @abstractmethod
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

    @abstractmethod
    def losses(self, model: HistoryModel, part: SequenceBatch) -> torch.Tensor:
        """Return the loss [B] of each example that `collate` made.

        Args:
            model: RecFound.
            part: a batch that `collate` made.
        """

    @abstractmethod
    def user_vectors(self, model: HistoryModel, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Encode histories for evaluation and serving.

        Args:
            model: RecFound in eval.
            items: [B, L] item ids, oldest first, padding 0 on the right.
            lengths: [B] real items per row; 0 gives a user without history.

        Returns:
            [B, d], normalised.
        """

    def item_vectors(self, model: HistoryModel, vectors: torch.Tensor) -> torch.Tensor:
        """Return what users are ranked against, [num_items, d], normalised.

        Args:
            model: RecFound in eval.
            vectors: [num_items, d] of the item table.
        """
        return vectors


class SequenceHistory(History):
    """A mode in which every position of a sequence predicts the next item against the item table."""

    def held_out(
        self, pairs: PairCollator, tasks: list[str], histories: Sequence[np.ndarray], answers: np.ndarray
    ) -> SequenceBatch:
        """Collate sequences of which only the last position has a target.

        See `History.held_out`.
        """
        shown = [self.visible(row) for row in histories]
        batch = self.collate(tasks, [np.append(row, item) for row, item in zip(shown, answers, strict=True)])
        last = torch.from_numpy(np.array([[len(row) - 1] for row in shown]))
        only = torch.zeros_like(batch.targets).scatter(1, last, batch.targets.gather(1, last))
        return replace(batch, targets=only)

    def visible(self, row: Indices) -> Indices:
        """Return the part of a history that the model can read."""
        return row

    def losses(self, model: HistoryModel, part: SequenceBatch) -> torch.Tensor:
        """Return the mean next-item loss [B] over each sequence's positions.

        See `History.losses`.
        """
        candidates, known, places = None, None, part.items
        if model.sampled_items:  # of a large catalogue no other items are computed than those that are needed
            table = model.item_table
            candidates = sampled_candidates(part.targets, len(table.features), model.sampled_items, part.all_targets)
            known = torch.cat([candidates.new_zeros(1), part.items.flatten(), candidates]).unique()
            places = torch.searchsorted(known, part.items)
        soft_tokens, vectors = model.item_table(part.rows, known)
        states = self.states(model, soft_tokens, part, places)
        users = model.recent_items(states, vectors, places, part.targets > 0)
        if known is not None and candidates is not None:
            vectors = vectors[torch.searchsorted(known, candidates)]
        return next_item_loss(
            users,
            part.targets,
            vectors,
            model.temperature,
            candidates,
            past=part.items if model.masks_history else None,
            targets_per_row=model.parts.targets_per_row if model.training else None,
            held_out=model.item_table.held_out,
        )

    def user_vectors(self, model: HistoryModel, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return the vector at the last item of each history.

        See `History.user_vectors`.
        """
        states, vectors = self.last_states(model, items, lengths), model.table()[1]
        return model.recent_items.of_whole(states, vectors, items, lengths)

    @abstractmethod
    def states(
        self, model: HistoryModel, soft_tokens: torch.Tensor, part: SequenceBatch, places: torch.Tensor
    ) -> torch.Tensor:
        """Return what the LLM makes of every position that has a target, [N, d], normalised, row by row.

        Args:
            model: RecFound.
            soft_tokens: [n, d] of the item table, the padding first.
            part: a batch that `collate` made.
            places: [B, L], place among the soft tokens of each item of the histories.
        """

    @abstractmethod
    def last_states(self, model: HistoryModel, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return what the LLM makes of whole histories, [B, d], normalised.

        Args:
            model: RecFound in eval.
            items: [B, L] item ids, oldest first, padding 0 on the right.
            lengths: [B] real items per row.
        """


def last_places(items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Return where the last item of each row stands, bool [B, L]; the first place for a user without history.

    Args:
        items: [B, L] item ids, padding on the right.
        lengths: [B] real items per row.
    """
    return (lengths - 1).clamp(min=0)[:, None] == torch.arange(items.shape[1], device=items.device)


def _depth(layers: int, configured: int | None, default: int | None) -> int:
    wanted = configured if configured is not None else default
    return layers if wanted is None else min(wanted, layers)
