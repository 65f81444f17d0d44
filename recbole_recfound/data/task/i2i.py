"""I2I: an item to related items."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp

from recbole_recfound.data.task.base import HELD_OUT, Unsupported, register_task
from recbole_recfound.data.task.embedding import EmbeddingTask
from recbole_recfound.data.task.examples import Example, PairExample
from recbole_recfound.data.task.settings import EmbeddingOptions, TaskSettings
from recbole_recfound.data.task.source import HeldOut, TrainingData
from recbole_recfound.runtime.options import option

BLOCK = 20_000_000
"""Products of two interactions that are summed up at once."""


@dataclass(frozen=True)
class ItemToItemOptions(EmbeddingOptions):
    """Options of I2I.

    Attributes:
        neighbours: positives per item.
        window: number of later items in a history that count as following.
    """

    neighbours: int = option(3, minimum=1)
    window: int = option(3, minimum=1)


@register_task("I2I")
class ItemToItem(EmbeddingTask):
    """Predict items that follow an item or share its users.

    The score of a pair is the number of users in whose history j follows i within a window, plus the number who have
    both, divided by the root of the two items' popularities; the positives of an item are its best neighbours.
    """

    id = 2
    title = "item to item"
    record = "Emb_item"
    Options = ItemToItemOptions
    options: ItemToItemOptions
    prompt = "{{ item }}"
    slots = ("item",)
    test = HELD_OUT
    ranking_metric = "NDCG"

    def __init__(self, source: TrainingData, settings: TaskSettings) -> None:
        super().__init__(source, settings)
        if len(self.pairs[0]) == 0:
            raise Unsupported("no two items share a user in the training rows")

    def __len__(self) -> int:
        return len(self.pairs[0])

    def example(self, index: int) -> Example:
        """Return an item with one of its neighbours."""
        anchors, positives = self.pairs
        anchor, positive = int(anchors[index]), int(positives[index])
        left, right = np.searchsorted(anchors, [anchor, anchor + 1])
        known = np.append(positives[left:right], anchor)
        negatives = self.negatives(self.draw(index), positive, known)
        return PairExample(anchor, positive, negatives, tuple(known.tolist()))

    def test_examples(self, held_out: HeldOut) -> tuple[list[Example], int]:
        """Return pairs of a user's test item and the item before it that are no training pairs, and their number.

        A pair that leaves no wrong candidate is none.
        """
        targets, _ = held_out.drawn(self.spec.id, 1, len(held_out.places))
        size, items = len(self.source.catalogue), held_out.data.items
        before, after = items[targets - 1], items[targets]
        new = (before != after) & ~np.isin(before * size + after, self.pairs[0] * size + self.pairs[1])
        neighbours = np.diff(np.searchsorted(self.pairs[0], [before, before + 1]), axis=0)[0]
        known = neighbours + np.isin(before, self.source.candidates) + 1
        new &= known < len(self.source.candidates)
        targets = self.source.draw(self.spec.id, len(targets), 5).permutation(targets[new])
        examples: list[Example] = []
        for target in targets[: self.settings.tested(self.spec.name)].tolist():
            anchor, positive = int(items[target - 1]), int(items[target])
            left, right = np.searchsorted(self.pairs[0], [anchor, anchor + 1])
            known = np.append(self.pairs[1][left:right], [anchor, positive])
            others = self.candidates(self.source.draw(self.spec.id, target, 4), known)
            examples.append(PairExample(anchor, positive, others, tuple(known.tolist())))
        return examples, len(targets)

    @cached_property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Anchors (sorted) and positives, [pairs] each."""
        seen, follows = self.source.seen, self._follows()
        of_item = seen.T.tocsr()
        popularity = np.asarray(seen.sum(0)).ravel()
        scale = sp.diags(1.0 / np.sqrt(np.maximum(popularity, 1.0))).tocsr()
        # A block of anchors has about as many products as BLOCK: the scores of all pairs would not fit in memory.
        products = np.cumsum(of_item @ np.diff(seen.indptr))
        found = []
        start = 0
        while start < len(products):
            past = products[start - 1] if start else 0
            end = max(start + 1, int(np.searchsorted(products, past + BLOCK, side="right")))
            score = (of_item[start:end] @ seen + follows[start:end]).tocsr()
            score.setdiag(0, k=start)
            score.eliminate_zeros()
            anchors, positives = _best_per_row(
                (scale[start:end, start:end] @ score @ scale).tocsr(), self.options.neighbours
            )
            found.append((start + anchors, positives))
            start = end
        return np.concatenate([anchors for anchors, _ in found]), np.concatenate([positives for _, positives in found])

    def _follows(self) -> sp.csr_matrix:
        """Count how often a column's item comes within the window after a row's, [items, items]."""
        items, size = self.source.items, len(self.source.catalogue)
        user = np.repeat(np.arange(len(self.source.users)), self.source.lengths)
        shape: Any = (size, size)  # scipy-stubs expect data here
        counts = sp.csr_matrix(shape, dtype=np.float32)
        for gap in range(1, self.options.window + 1):
            same = user[:-gap] == user[gap:]
            ones = np.ones(int(same.sum()), dtype=np.float32)
            counts = counts + sp.csr_matrix((ones, (items[:-gap][same], items[gap:][same])), shape=(size, size))
        return counts


def _best_per_row(score: sp.csr_matrix, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of the `count` largest entries of each row; equal scores keep the order of columns."""
    score.sort_indices()
    values, lengths = score.data.copy(), np.diff(score.indptr)
    filled = np.flatnonzero(lengths)
    starts, lengths = score.indptr[filled], lengths[filled]
    rows, places = [], []
    for _ in range(count if len(filled) else 0):
        best = np.maximum.reduceat(values, starts)
        equal = np.flatnonzero(values == np.repeat(best, lengths))
        first = equal[np.searchsorted(equal, starts)]
        left = np.isfinite(best)
        rows.append(filled[left])
        places.append(first[left])
        values[first] = -np.inf
    row, place = (np.concatenate(each or [np.zeros(0, np.int64)]) for each in (rows, places))
    order = np.argsort(row, kind="stable")
    return row[order], score.indices[place[order]]
