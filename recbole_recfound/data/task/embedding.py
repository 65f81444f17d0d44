"""Embedding tasks: hard negatives for training, candidates for the test."""

import numpy as np

from recbole_recfound.data.task.base import EMBEDDING, Task
from recbole_recfound.data.task.negatives import draw_negatives, nearest_titles
from recbole_recfound.data.task.settings import EmbeddingOptions

RANKED = 20
"""Candidates in the test of an embedding task, the target included; its metrics are MRR@20 and NDCG@20."""


class EmbeddingTask(Task):
    """A task whose query (a user, an item or a text) has an item as its answer, trained by contrast with negatives."""

    kind = EMBEDDING
    Options = EmbeddingOptions
    options: EmbeddingOptions

    def negatives(self, rng: np.random.Generator, positive: int, known: np.ndarray) -> tuple[int, ...]:
        """Return hard negatives of one example.

        Args:
            rng: generator of the example.
            positive: catalogue row of the target.
            known: int64 [n] rows of all positives.
        """
        known, pool = np.append(known, positive), self.source.candidates
        place = int(np.searchsorted(pool, positive))
        if self.options.negative_source == "title" and place < len(pool) and pool[place] == positive:
            near = np.setdiff1d(self._nearest[place], known)
            pool = near if len(near) >= self.options.hard_negatives else pool
        return draw_negatives(rng, self.options.hard_negatives, pool, known)

    def candidates(self, rng: np.random.Generator, known: np.ndarray) -> tuple[int, ...]:
        """Return the other candidates of a test example: random ones, no positives.

        Args:
            rng: generator of the example.
            known: int64 [n] rows that are none: all positives, and what cannot be ranked.
        """
        return draw_negatives(rng, RANKED - 1, self.source.candidates, known)

    @property
    def _nearest(self) -> np.ndarray:
        # One table serves all three tasks of a run.
        if "nearest_titles" not in self.settings.cache:
            self.settings.cache["nearest_titles"] = nearest_titles(self.source.catalogue, self.source.candidates)
        return self.settings.cache["nearest_titles"]
