"""Histories as one causal text: the end of every title predicts the next item."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from recbole_recfound.data.batches import SequenceBatch
from recbole_recfound.data.history import Indices
from recbole_recfound.model.history.base import HistoryModel, SequenceHistory, last_places, register_history


@register_history("positions")
class TextPositions(SequenceHistory):
    """The titles of a history in one causal pass."""

    def visible(self, row: Indices) -> Indices:
        """Return the newest items whose titles fit the backbone together."""
        return self.source.newest(row)

    def collate(self, tasks: list[str], rows: Sequence[Indices]) -> SequenceBatch:
        """Collate sequences with their text; of a text that is too long the oldest titles are dropped.

        See `History.collate`.
        """
        rows = [row[-len(self.visible(row[:-1])) - 1 :] for row in rows]
        return replace(self.source.sequences(tasks, rows), **self.source.titles([row[:-1] for row in rows]))

    def states(
        self, model: HistoryModel, soft_tokens: torch.Tensor, part: SequenceBatch, places: torch.Tensor
    ) -> torch.Tensor:
        """Run the user tower over the text, one state per title.

        See `SequenceHistory.states`.
        """
        assert part.token_ids is not None and part.token_mask is not None and part.ends is not None
        return model.user_tower.over_text(part.token_ids, part.token_mask, part.ends, part.targets > 0)

    def last_states(self, model: HistoryModel, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return the state at the end of each history's last title.

        See `SequenceHistory.last_states`.
        """
        histories = [self.visible(row) for row in self.source.histories(items, lengths)]
        text = self.source.titles(histories)
        token_ids, token_mask, ends = (
            text["token_ids"].to(model.device),
            text["token_mask"].to(model.device),
            text["ends"].to(model.device),
        )
        shown = torch.tensor([len(row) for row in histories], device=model.device)
        return model.user_tower.over_text(token_ids, token_mask, ends, last_places(ends, shown))
