"""Serving of models that read users and items as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.data.writing.records import check_writing
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.m6rec import M6Rec
from recbole_recfound.model.reading.generate import GenerateModel
from recbole_recfound.serving.recbole import RecBoleRecommender
from recbole_recfound.serving.recommender import one_at_a_time


class SegmentRecommender(RecBoleRecommender):
    """A model that knows users by their profile and behaviours, or a history of items alone.

    The tasks of a run share a backbone, and so a lock: only one of them reads at a time.

    Args:
        model: in eval.
        splits: its data: texts and statistics come from the training part.
        writer: model of the task generate, if the run has it.
    """

    model: M6Rec

    def __init__(self, model: M6Rec, splits: Splits, writer: GenerateModel | None = None) -> None:
        super().__init__(model, splits)
        self.writer = writer
        self.reads_histories, self._reads_last_item = True, False

    def beside(self, others: Mapping[str, SegmentRecommender]) -> Self:
        """Return this recommender, with those of the run's other tasks beside it.

        Args:
            others: by task.
        """
        self.tasks = {self.model.task: self, **others}
        for other in others.values():
            other.tasks, other._lock = self.tasks, self._lock
        return self

    @one_at_a_time
    def generate(self, task: str, **fields: Any) -> str:
        """Write a text behind a source.

        Args:
            task: explanation, design, query or conversation.
            fields: `source`, a list of texts.

        Raises:
            ConfigError: the run has no task generate, another task, or other fields.
        """
        if self.writer is None:
            return super().generate(task, **fields)
        if set(fields) != {"source"}:
            raise ConfigError(f"generate: {task}: got {', '.join(sorted(fields)) or 'no fields'}, expected source")
        self.writer.eval()
        return self.writer.write([check_writing(task, fields["source"])])[0]
