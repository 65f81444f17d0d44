"""Q2I: a search query to an item."""

from collections import Counter

import numpy as np

from recbole_recfound.data.records.normal import normal_form
from recbole_recfound.data.task.base import KEPT, Unsupported, register_task
from recbole_recfound.data.task.embedding import EmbeddingTask
from recbole_recfound.data.task.examples import Example, PairExample
from recbole_recfound.data.task.kept import kept_for_test
from recbole_recfound.data.task.settings import TaskSettings
from recbole_recfound.data.task.source import HeldOut, TrainingData


@register_task("Q2I")
class QueryToItem(EmbeddingTask):
    """Predict the item of a search query: a row of the .query file, or without one keywords from the item's fields."""

    id = 1
    title = "query to item"
    record = "Emb_query"
    prompt = "Search query: {{ query }}"
    slots = ("query",)
    test = KEPT

    words_per_query = 3

    def __init__(self, source: TrainingData, settings: TaskSettings) -> None:
        super().__init__(source, settings)
        catalogue = source.catalogue
        if source.queries:
            self.note = "queries from the .query file"
            # All spellings of a query are tested, or all are trained.
            by_query: dict[str, list[tuple[str, int]]] = {}
            for text, row in sorted(source.queries, key=lambda pair: pair[0]):
                by_query.setdefault(normal_form(text), []).append((text, row))
            queries = list(by_query.values())
            self.positives = {text: [row for _, row in query] for query in queries for text, _ in query}
            numbers = kept_for_test(source, settings, np.arange(len(queries)))
            self.kept = [pair for number in numbers for pair in queries[number]]
            tested = {text for text, _ in self.kept}
            self.trained = [pair for pair in source.queries if pair[0] not in tested]
            return
        self.note = "keyword queries from the items' own fields"
        rows = [row for row in source.candidates.tolist() if catalogue.values[row]]
        if not rows:
            raise Unsupported("no .query file and no item has text")
        # Items with the same text are positives of each other's queries.
        by_text: dict[str, list[int]] = {}
        for row in rows:
            by_text.setdefault(normal_form(catalogue.sentence_of(row)), []).append(row)
        self.same_text = {row: same for same in by_text.values() for row in same}
        kept = kept_for_test(source, settings, source.candidates)
        self.kept = kept[np.isin(kept, rows)].tolist()
        self.trained = np.setdiff1d(rows, catalogue.same_title(kept)).tolist()
        self.words = {row: self._words(row) for row in rows}
        self.frequency = Counter(word for words in self.words.values() for word in set(words))

    def __len__(self) -> int:
        return len(self.trained)

    def example(self, index: int) -> Example:
        """Return a query with its item."""
        rng = self.draw(index)
        text, row, known = self._query(self.trained[index], rng)
        return PairExample(text, row, self.negatives(rng, row, known), tuple(known.tolist()))

    def _query(self, query: tuple[str, int] | int, rng: np.random.Generator) -> tuple[str, int, np.ndarray]:
        """Return query text, item and all positives, given a row of the .query file or an item."""
        if isinstance(query, tuple):
            return *query, self._known(query)
        return self._keywords(query, rng), query, self._known(query)

    def _known(self, query: tuple[str, int] | int) -> np.ndarray:
        """Return all positives, given a row of the .query file or an item."""
        return np.asarray(self.positives[query[0]] if isinstance(query, tuple) else self.same_text[query])

    def test_examples(self, held_out: HeldOut) -> tuple[list[Example], int]:
        """Return queries (keywords of items) that are excluded from training, and their number.

        A query for which all candidates are right is none.
        """
        examples: list[Example] = []
        kept = [query for query in self.kept if len(np.unique(self._known(query))) < len(self.source.candidates)]
        for number, query in enumerate(kept[: self.settings.tested(self.spec.name)]):
            rng = self.source.draw(self.spec.id, number, 4)
            text, row, known = self._query(query, rng)
            examples.append(PairExample(text, row, self.candidates(rng, np.append(known, row)), tuple(known.tolist())))
        return examples, len(kept)

    def _words(self, row: int) -> list[str]:
        text = " ".join(self.source.catalogue.values[row].values()).lower()
        words = (word.strip(".,;:()[]\"'!?") for word in text.split())
        return list(dict.fromkeys(word for word in words if word)) or [self.source.catalogue.title_of(row).lower()]

    def _keywords(self, row: int, rng: np.random.Generator) -> str:
        """Return a few words of the item, rare ones more often."""
        words = self.words[row]
        rarity = 1.0 / np.array([self.frequency[word] for word in words], dtype=np.float64)
        count = min(self.words_per_query, len(words))
        return " ".join(rng.choice(words, size=count, replace=False, p=rarity / rarity.sum()).tolist())
