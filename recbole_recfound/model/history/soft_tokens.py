"""Histories as soft tokens: one vector per item, read by the first layers of the LLM."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from recbole_recfound.data.batches import SequenceBatch
from recbole_recfound.data.history import Indices
from recbole_recfound.model.history.base import HistoryModel, SequenceHistory, last_places, register_history


@register_history("item")
class SoftTokens(SequenceHistory):
    """One soft token per item of the history."""

    soft_tokens = True
    user_layers = 2
    text_layers = 8

    def collate(self, tasks: list[str], rows: Sequence[Indices]) -> SequenceBatch:
        """Collate sequences of item ids.

        See `History.collate`.
        """
        return self.source.sequences(tasks, rows)

    def states(
        self, model: HistoryModel, soft_tokens: torch.Tensor, part: SequenceBatch, places: torch.Tensor
    ) -> torch.Tensor:
        """Run the user tower over the soft tokens.

        See `SequenceHistory.states`.
        """
        return model.user_tower.over_items(soft_tokens, places, part.targets > 0)

    def last_states(self, model: HistoryModel, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return the state at the last item of each history.

        See `SequenceHistory.last_states`.
        """
        return model.user_tower.over_items(model.table()[0], items, last_places(items, lengths))
