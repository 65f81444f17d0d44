"""Embedding tasks from atomic files: U2I, I2I, Q2I."""

from collections import Counter
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from recbole_recfound.data.task.base import (
    Example,
    PairExample,
    SequenceExample,
    Task,
    TaskOptions,
    Unsupported,
    builds,
    kept_for_test,
)
from recbole_recfound.data.task.negatives import draw_negatives, nearest_titles
from recbole_recfound.data.task.source import HeldOut, TrainingData
from recbole_recfound.data.task.spec import RANKED


class EmbeddingTask(Task):
    """Shared by the three: how negatives are drawn."""

    def negatives(self, rng: np.random.Generator, positive: int, known: np.ndarray) -> tuple[int, ...]:
        """Hard negatives of one example, as the options ask."""
        known = np.append(known, positive)
        pool: int | np.ndarray = self.source.catalogue.pool_size
        if self.options.negative_source == "title" and positive < pool:
            near = np.setdiff1d(self._nearest[positive], known)
            pool = near if len(near) >= self.options.hard_negatives else pool
        return draw_negatives(rng, self.options.hard_negatives, pool, known)

    def rivals(self, rng: np.random.Generator, known: np.ndarray) -> tuple[int, ...]:
        """What a right answer is ranked against in the test: random items of the training part that are no right answers."""
        return draw_negatives(rng, RANKED - 1, self._traded, known)

    @cached_property
    def _traded(self) -> np.ndarray:
        # Items that only .item knows have no place in a ranking of users' items.
        return np.unique(self.source.items)

    @property
    def _nearest(self) -> np.ndarray:
        # One table serves all three tasks of a run.
        if "nearest_titles" not in self.options.cache:
            self.options.cache["nearest_titles"] = nearest_titles(self.source.catalogue)
        return self.options.cache["nearest_titles"]


@builds("U2I")
class UserToItem(EmbeddingTask):
    """A user's past items -> the next one."""

    def __init__(self, source: TrainingData, options: TaskOptions) -> None:
        super().__init__(source, options)
        self.eligible = np.flatnonzero(source.lengths >= 2)
        # Example (user, position): every position after a user's first has one target.
        self.ends = np.cumsum(source.lengths[self.eligible] - 1)
        if len(self.eligible) == 0:
            raise Unsupported("no user has two training interactions")

    def __len__(self) -> int:
        return len(self.eligible) if self.options.sequences else int(self.ends[-1])

    @property
    def targets_per_example(self) -> float:
        return float(self.ends[-1] / len(self.eligible)) if self.options.sequences else 1.0

    @property
    def slots(self) -> tuple[str, ...]:
        return ("history",)

    def example(self, index: int) -> Example:
        if self.options.sequences:
            user = self.eligible[index]
            return SequenceExample(self.source.users[user], tuple(self.source.history(user).tolist()))
        number = int(np.searchsorted(self.ends, index, side="right"))
        history = self.source.history(self.eligible[number])
        position = index - (self.ends[number - 1] if number else 0) + 1
        past = history[max(0, position - self.options.history_titles) : position]
        negatives = self.negatives(self.draw(index), history[position], history)
        return PairExample(tuple(past.tolist()), int(history[position]), negatives, tuple(np.unique(history).tolist()))

    def test_examples(self, held_out: HeldOut) -> tuple[list[PairExample], int]:
        """Histories with their test item."""
        examples = []
        places, available = held_out.drawn(self.spec.id, 1, self.options.tested("U2I"))
        for place in places.tolist():
            user = held_out.user[place]
            past, known = (
                held_out.data.items[held_out.data.indptr[user] : place],
                np.unique(held_out.data.history(user)),
            )
            rivals = self.rivals(self.source.draw(self.spec.id, place, 4), known)
            examples.append(
                PairExample(tuple(past.tolist()), int(held_out.data.items[place]), rivals, tuple(known.tolist()))
            )
        return examples, available


@builds("I2I")
class ItemToItem(EmbeddingTask):
    """An item -> items that follow it or share its users.

    The score of a pair is the number of users in whose history j follows i within a window, plus the number who have
    both, divided by the root of the two items' popularities; each item keeps its best neighbours.
    """

    def __init__(self, source: TrainingData, options: TaskOptions) -> None:
        super().__init__(source, options)
        if len(self.pairs[0]) == 0:
            raise Unsupported("no two items share a user in the training rows")

    def __len__(self) -> int:
        return len(self.pairs[0])

    def example(self, index: int) -> Example:
        anchors, positives = self.pairs
        anchor, positive = int(anchors[index]), int(positives[index])
        left, right = np.searchsorted(anchors, [anchor, anchor + 1])
        known = np.append(positives[left:right], anchor)
        negatives = self.negatives(self.draw(index), positive, known)
        return PairExample(anchor, positive, negatives, tuple(known.tolist()))

    def test_examples(self, held_out: HeldOut) -> tuple[list[PairExample], int]:
        """The item before a user's test item, and the test item, where the two were no pair of the training part."""
        places, _ = held_out.drawn(self.spec.id, 1, len(held_out.places))
        size, items = len(self.source.catalogue), held_out.data.items
        before, after = items[places - 1], items[places]
        new = (before != after) & ~np.isin(before * size + after, self.pairs[0] * size + self.pairs[1])
        places = self.source.draw(self.spec.id, len(places), 5).permutation(places[new])
        examples = []
        for place in places[: self.options.tested("I2I")].tolist():
            anchor, positive = int(items[place - 1]), int(items[place])
            left, right = np.searchsorted(self.pairs[0], [anchor, anchor + 1])
            known = np.append(self.pairs[1][left:right], [anchor, positive])
            rivals = self.rivals(self.source.draw(self.spec.id, place, 4), known)
            examples.append(PairExample(anchor, positive, rivals, tuple(known.tolist())))
        return examples, len(places)

    @cached_property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Anchors (sorted) and positives, [pairs] each."""
        seen = self.source.seen
        popularity = np.asarray(seen.sum(0)).ravel()
        score = ((seen.T @ seen) + self._follows()).tocsr()
        score.setdiag(0)
        score.eliminate_zeros()
        scale = sp.diags(1.0 / np.sqrt(np.maximum(popularity, 1.0)))
        return _best_per_row((scale @ score @ scale).tocsr(), self.options.neighbours)

    def _follows(self) -> sp.csr_matrix:
        """[items, items] how often a column's item comes within the window after a row's."""
        items, size = self.source.items, len(self.source.catalogue)
        user = np.repeat(np.arange(len(self.source.users)), self.source.lengths)
        counts = sp.csr_matrix((size, size), dtype=np.float32)
        for gap in range(1, self.options.neighbour_window + 1):
            same = user[:-gap] == user[gap:]
            ones = np.ones(int(same.sum()), dtype=np.float32)
            counts = counts + sp.csr_matrix((ones, (items[:-gap][same], items[gap:][same])), shape=(size, size))
        return counts


def _best_per_row(score: sp.csr_matrix, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the `count` largest entries of each row; equal scores are kept by column."""
    rows = np.repeat(np.arange(score.shape[0]), np.diff(score.indptr))
    order = np.lexsort((score.indices, -score.data, rows))
    position = np.arange(len(order)) - score.indptr[rows[order]]
    kept = order[position < count]
    return rows[kept], score.indices[kept]


@builds("Q2I")
class QueryToItem(EmbeddingTask):
    """A search query -> the item; keyword queries from the item's own fields when there is no .query file."""

    words_per_query = 3

    def __init__(self, source: TrainingData, options: TaskOptions) -> None:
        super().__init__(source, options)
        catalogue = source.catalogue
        if source.queries:
            self.note = "queries from the .query file"
            self.answers: dict[str, list[int]] = {}
            for text, row in source.queries:
                self.answers.setdefault(text, []).append(row)
            texts = sorted(self.answers)
            kept = [texts[number] for number in kept_for_test(source, options, len(texts))]
            self.kept = [(text, row) for text in kept for row in self.answers[text]]
            self.trained = [pair for pair in source.queries if pair[0] not in set(kept)]
            return
        self.note = "keyword queries from the items' own fields"
        rows = [row for row in range(catalogue.pool_size) if catalogue.values[row]]
        if not rows:
            raise Unsupported("no .query file and no item has text")
        # Items of one text answer each other's queries.
        self.twins: dict[str, list[int]] = {}
        for row in rows:
            self.twins.setdefault(catalogue.sentence_of(row), []).append(row)
        kept = kept_for_test(source, options, catalogue.pool_size)
        self.kept = kept[np.isin(kept, rows)].tolist()
        self.trained = np.setdiff1d(rows, catalogue.same_title(kept)).tolist()
        self.words = {row: self._words(row) for row in rows}
        self.frequency = Counter(word for words in self.words.values() for word in set(words))

    def __len__(self) -> int:
        return len(self.trained)

    def example(self, index: int) -> Example:
        rng = self.draw(index)
        text, row, known = self._query(self.trained[index], rng)
        return PairExample(text, row, self.negatives(rng, row, known), tuple(known.tolist()))

    def _query(self, asked: tuple[str, int] | int, rng: np.random.Generator) -> tuple[str, int, np.ndarray]:
        """Query, item, and every right answer, from a row of the .query file or from an item."""
        if isinstance(asked, tuple):
            return *asked, np.asarray(self.answers[asked[0]])
        return self._keywords(asked, rng), asked, np.asarray(self.twins[self.source.catalogue.sentence_of(asked)])

    def test_examples(self, held_out: HeldOut) -> tuple[list[PairExample], int]:
        """Queries (keywords of items) that were kept from training."""
        examples = []
        for number, asked in enumerate(self.kept[: self.options.tested("Q2I")]):
            rng = self.source.draw(self.spec.id, number, 4)
            text, row, known = self._query(asked, rng)
            examples.append(PairExample(text, row, self.rivals(rng, np.append(known, row)), tuple(known.tolist())))
        return examples, len(self.kept)

    def _words(self, row: int) -> list[str]:
        text = " ".join(self.source.catalogue.values[row].values()).lower()
        words = (word.strip(".,;:()[]\"'!?") for word in text.split())
        return list(dict.fromkeys(word for word in words if word)) or [self.source.catalogue.title_of(row).lower()]

    def _keywords(self, row: int, rng: np.random.Generator) -> str:
        """A few words of the item, rare ones more often, as a searcher would type them."""
        words = self.words[row]
        rarity = 1.0 / np.array([self.frequency[word] for word in words], dtype=np.float64)
        count = min(self.words_per_query, len(words))
        return " ".join(rng.choice(words, size=count, replace=False, p=rarity / rarity.sum()).tolist())
