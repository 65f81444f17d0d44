"""Serving of models that read users and items as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from recbole.data.interaction import Interaction

from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.data.text.catalogue import Catalogue
from recbole_recfound.data.writing.records import check_writing
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.m6rec import M6Rec
from recbole_recfound.model.reading.generate import GenerateModel
from recbole_recfound.model.reading.retrieval import RetrievalModel
from recbole_recfound.runtime.arguments import checked_count, checked_list
from recbole_recfound.serving.checks import checked_texts
from recbole_recfound.serving.evaluate import Evaluation
from recbole_recfound.serving.new_items import new_items
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
    tasks: Mapping[str, SegmentRecommender]

    def __init__(self, model: M6Rec, splits: Splits, writer: GenerateModel | None = None) -> None:
        super().__init__(model, splits)
        self.writer = writer
        self.reads_histories = True
        self._changed = False

    def beside(self, others: Mapping[str, SegmentRecommender]) -> Self:
        """Return this recommender, with those of the run's other tasks beside it.

        Args:
            others: by task.
        """
        self.tasks = {self.model.task: self, **others}
        for other in others.values():
            other.tasks, other._lock = self.tasks, self._lock
        return self

    # New items --------------------------------------------------------------------------------------------------------

    @property
    def cold_items(self) -> list[str]:
        """Tokens of `.item` without any interaction, which are not recommended unless `add_items` adds them.

        Those that are part of the data set are recommended where `candidates` names them, too.
        """
        return [token for token in self.catalogue.tokens if token not in self.item_ids] + super().cold_items

    @property
    def item_columns(self) -> list[str]:
        """Names of the columns that describe a new item to the model."""
        return list(self.catalogue.fields)

    @one_at_a_time
    def add_items(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add items to all tasks of the run, which can be recommended at once; nothing is trained.

        Args:
            records: the id field and columns of `.item` for each item; columns that describe no item in this run are
                ignored. Of one of the `cold_items` the id is enough.

        Raises:
            ConfigError: a record without an id or a text, or a known token.
        """
        cold = dict.fromkeys(self.cold_items)
        known = [token for token in self.item_ids if token not in cold]
        new = new_items(records, self.item_field, dict.fromkeys(known), cold, self.catalogue)
        ids, size = [], len(self.tokens)
        for token in new.tokens:  # one of the data set's that nobody has chosen keeps its id
            ids.append(self.item_ids.get(token, size))
            size += token not in self.item_ids
        for task in self.tasks.values():  # what can fail comes first
            task.model.add_items(ids, new)
        for task in self.tasks.values():
            task._name(ids, new)

    def _name(self, ids: Sequence[int], items: Catalogue) -> None:
        """Give tokens and texts to ids that the model knows."""
        self._changed = self._changed or bool(ids)
        self._cold = self._cold[~torch.isin(self._cold, torch.tensor(ids, dtype=torch.int64))]
        for row, (item, token) in enumerate(zip(ids, items.tokens, strict=True)):
            self.item_ids[token] = item
            self.tokens[item : item + 1] = [token]
            self.texts[item : item + 1] = [items.sentence_of(row)]

    def _with_columns(self, rows: Interaction) -> Interaction:
        return rows  # texts are made from ids

    @one_at_a_time
    def evaluate(self, dataset: str | None = None, data_path: str | None = None) -> Evaluation:
        """Score the test part of the run's data, without items that were added; see `Recommender.evaluate`.

        Raises:
            ConfigError: items were added, or other data.
        """
        if self._changed:
            raise ConfigError("evaluate: items were added, which are no part of the table: load the run again")
        return super().evaluate(dataset, data_path)

    # Vectors ----------------------------------------------------------------------------------------------------------

    @one_at_a_time
    def embed_user(self, history: Sequence[str] | Sequence[Sequence[str]]) -> torch.Tensor:
        """Embed one history, or several, for the inner product with `embed_items`.

        Args:
            history: item tokens, oldest first, or a list of such lists.

        Returns:
            float32 [n, d]; n is 1 for one history.

        Raises:
            ConfigError: unknown tokens, or a run without the task retrieval.
        """
        model = self._towers("embed_user")
        given = checked_list(self.item_field, history, ordered=True)
        rows = self._rows([given] if isinstance(given[0], str) else given, by_user=False)
        width = self.splits.config["MAX_ITEM_LIST_LENGTH"]
        return model.history_vectors([own[-width:] for own in rows.histories]).cpu()

    @one_at_a_time
    def embed_items(self, texts: Sequence[str], task: str = "retrieval") -> torch.Tensor:
        """Embed texts of items, for the inner product with `embed_user`.

        Args:
            texts: one text per item, as `title, field: value, ...`.
            task: retrieval.

        Returns:
            float32 [n, d].

        Raises:
            ConfigError: another task, or no texts.
        """
        model = self._towers("embed_items")
        if task != model.task:
            raise ConfigError(f"embed_items: task: got {task!r}, expected {model.task}")
        return model.text_vectors(checked_texts("texts", texts)).cpu()

    def _towers(self, asked: str) -> RetrievalModel:
        """Return the model of the task retrieval."""
        found = next((task.model for task in self.tasks.values() if isinstance(task.model, RetrievalModel)), None)
        if found is None:
            raise ConfigError(f"{asked}: {self.model.task} scores pairs and has no vectors; the task retrieval has")
        return found

    def _text_scores(self, texts: Sequence[str]) -> torch.Tensor:
        raise ConfigError("query: M6Rec is not trained on queries: give a history of item tokens or user=TOKEN")

    @one_at_a_time
    def generate(self, task: str, *, max_new_tokens: int | None = None, **fields: Any) -> str:
        """Write a text behind a source.

        Args:
            task: explanation, design, query or conversation.
            max_new_tokens: longest text, in tokens; a longer one is cut. None: the longest of the run's training
                (`generate_args: {max_tokens}`), which is the largest value.
            fields: `source`, a list of texts.

        Raises:
            ConfigError: the run has no task generate, another task, other fields, or texts longer than those of the
                training.
        """
        if self.writer is None:
            return super().generate(task, max_new_tokens=max_new_tokens, **fields)
        if set(fields) != {"source"}:
            raise ConfigError(f"generate: {task}: got {', '.join(sorted(fields)) or 'no fields'}, expected source")
        longest = self.writer.options.max_tokens
        if max_new_tokens is not None and checked_count("max_new_tokens", max_new_tokens) > longest:
            raise ConfigError(
                f"max_new_tokens: got {max_new_tokens}, expected at most {longest}: longer texts were cut in training "
                "(generate_args: {max_tokens})"
            )
        self.writer.eval()
        return self.writer.write([check_writing(task, fields["source"])], max_new_tokens)[0]
