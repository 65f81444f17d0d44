"""Vectors of an embedding task's queries, items and texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch

from recbole_recfound.data import Collator
from recbole_recfound.data.multi_task import USERS
from recbole_recfound.data.padding import pad
from recbole_recfound.data.record_pairs import text_tensors
from recbole_recfound.data.records.records import Text
from recbole_recfound.model.recfound import RecFound


class TaskVectors:
    """Encode texts, items and queries with a model and the collator of its batches.

    Args:
        model: RecFound.
        collator: of its data.
    """

    def __init__(self, model: RecFound, collator: Collator) -> None:
        self.model, self.collator = model, collator
        self.item_ids = model.history.source.item_ids

    @torch.no_grad()
    def texts(self, texts: Sequence[Text], task: str, rows: int = 32) -> torch.Tensor:
        """Encode (instruction, text) pairs; similar lengths together.

        Args:
            texts: instruction and text of each.
            task: embedding task whose route is used.
            rows: texts encoded at once.

        Returns:
            [texts, d], normalised.
        """
        order = sorted(range(len(texts)), key=lambda index: -sum(map(len, texts[index])))
        vectors = torch.zeros(len(texts), len(self.model.text_mean), device=self.model.device)
        tokenizer, longest = self.collator.tokenizer, self.collator.max_prompt_tokens

        def encode(part: slice) -> torch.Tensor:
            chosen = [texts[index] for index in order[part]]
            return self.model.encode(task, *text_tensors(chosen, tokenizer, longest))

        if order:
            vectors[order] = self._by_rows(len(order), encode, rows)
        return vectors

    @torch.no_grad()
    def queries(self, task: str, queries: Sequence[str | int | tuple[int, ...]]) -> torch.Tensor:
        """Encode an embedding task's queries.

        Args:
            task: embedding task whose route is used.
            queries: texts, catalogue indices, or histories of catalogue indices (U2I).

        Returns:
            [queries, d], normalised.
        """
        if task != USERS:
            return self._by_rows(
                len(queries),
                lambda rows: self.model.encode(
                    task, *self.collator.queries([task] * len(queries[rows]), queries[rows])
                ),
            )
        longest = self.collator.max_history
        users = cast(Sequence[tuple[int, ...]], queries)
        histories = [self.item_ids.to_item_ids(history[-longest:]) for history in users]
        lengths = torch.tensor([len(history) for history in histories], device=self.model.device)
        return self._by_rows(
            len(queries),
            lambda rows: self.model.user_vectors(
                torch.from_numpy(pad(histories[rows], fill=0)[0]).to(self.model.device), lengths[rows]
            ),
        )

    @torch.no_grad()
    def items(self, task: str, items: Sequence[int]) -> torch.Tensor:
        """Encode items as an embedding task's queries are ranked against them.

        Args:
            task: embedding task whose route is used.
            items: catalogue indices.

        Returns:
            [items, d], normalised.

        Raises:
            ValueError: an item without interactions has no vector in the table that users are ranked against.
        """
        if task == USERS and self.model.history.uses_item_table:
            ids = self.item_ids.to_item_ids(items)
            if not ids.all():
                raise ValueError("items without interactions have no vector in the item table")
            return self._by_rows(len(items), lambda rows: self.model.item_vectors()[ids[rows]])
        return self._by_rows(len(items), lambda rows: self.model.encode(task, *self.collator.item_texts(items[rows])))

    def _by_rows(self, count: int, encode: Callable[[slice], torch.Tensor], rows: int = 32) -> torch.Tensor:
        """Concatenate the results of some rows at a time, without dropout."""
        was_training = self.model.training
        self.model.eval()
        parts = [encode(slice(start, start + rows)).float() for start in range(0, count, rows)]
        self.model.train(was_training)
        return torch.cat(parts)
