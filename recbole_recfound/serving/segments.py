"""Serving of models that read users and items as text."""

from __future__ import annotations

from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.model.m6rec import M6Rec
from recbole_recfound.serving.recbole import RecBoleRecommender


class SegmentRecommender(RecBoleRecommender):
    """A model that knows users by their profile and behaviours, or a history of items alone.

    Args:
        model: in eval.
        splits: its data: texts and statistics come from the training part.
    """

    model: M6Rec

    def __init__(self, model: M6Rec, splits: Splits) -> None:
        super().__init__(model, splits)
        self.reads_histories, self._reads_last_item = True, False
