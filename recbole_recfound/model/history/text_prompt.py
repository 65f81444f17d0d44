"""Histories as prompts: the paper's form, one bidirectional prompt and one target per example (RecFound section 4)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from recbole_recfound.data.batches import PairBatch, SequenceBatch
from recbole_recfound.data.history import Indices, PairCollator
from recbole_recfound.data.task import PairExample
from recbole_recfound.model.history.base import History, HistoryModel, register_history
from recbole_recfound.model.user_tower import ROUTE


@register_history("prompt")
class TextPrompt(History):
    """A prompt that names the newest items, ranked against the texts of the items."""

    sequences = False
    uses_item_table = False

    @classmethod
    def text_depth(cls, layers: int, configured: int | None, user_depth: int) -> int:
        """Return `user_depth`: a prompt and the items it is ranked against need the same layers.

        See `History.text_depth`.
        """
        return user_depth

    def collate(self, tasks: list[str], rows: Sequence[Indices]) -> SequenceBatch:
        """Raise: examples of this mode are pairs, which the collator makes for all embedding tasks.

        See `History.collate`.

        Raises:
            TypeError: always.
        """
        raise TypeError("history mode 'prompt' has no sequences")

    def held_out(
        self, pairs: PairCollator, tasks: list[str], histories: Sequence[np.ndarray], answers: np.ndarray
    ) -> PairBatch:
        """Collate prompts with their held-out item; what the user had is no negative, as in training.

        See `History.held_out`.
        """
        rows = [tuple(row.tolist()) for row in histories]
        return pairs.pairs(
            tasks, [PairExample(row, int(item), (), row) for row, item in zip(rows, answers, strict=True)]
        )

    def losses(self, model: HistoryModel, part: SequenceBatch) -> torch.Tensor:
        """Raise, as `collate` does.

        See `History.losses`.

        Raises:
            TypeError: always.
        """
        raise TypeError("history mode 'prompt' has no sequences")

    def user_vectors(self, model: HistoryModel, items: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return the pooled vector of each history's prompt.

        See `History.user_vectors`.
        """
        histories = self.source.histories(items, lengths)
        return model.encode(ROUTE, *self.source.prompts(histories))

    def item_vectors(self, model: HistoryModel, vectors: torch.Tensor) -> torch.Tensor:
        """Return the pooled vectors of the items' sentences under the route of U2I.

        See `History.item_vectors`.
        """
        return model.text_vectors(ROUTE)
