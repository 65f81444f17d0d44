"""Data from which tasks are built: the catalogue and the training interactions, and for tests the held-out ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from recbole.data.dataset import Dataset
from recbole.utils import FeatureType

from recbole_recfound.compat.raw_column import as_in_file, raw_range
from recbole_recfound.data.item_ids import ItemIds
from recbole_recfound.data.split.histories import Histories
from recbole_recfound.data.text.catalogue import Catalogue

TRAINED, ALL = "trained", "all"
"""Items that tasks are about: those with a training interaction, or every row of .item as well."""


@dataclass(frozen=True)
class TrainingData:
    """Training interactions as catalogue rows, grouped by user (CSR), oldest first.

    Held-out interactions never reach this class, so nothing that is built from it can leak them.

    Attributes:
        catalogue: all items.
        users: user tokens, sorted, so that the order does not depend on held-out interactions.
        indptr: [users + 1] offsets into `items`.
        items: [interactions] catalogue rows.
        ratings: [interactions] float32, NaN where a row has none; None if the data set has no rating.
        queries: (query text, catalogue row) pairs of an optional .query file; only items that training knows.
        seed: seed of all random draws.
        candidates: sorted catalogue rows that examples ask for, draw negatives from and rank: items with a training
            interaction, or all rows that do not depend on held-out interactions.
        profiles: columns of an optional .user file by user token.
        unlisted: candidates that only .item has: users are ranked against the items that RecBole knows.
    """

    catalogue: Catalogue
    users: list[str]
    indptr: np.ndarray
    items: np.ndarray
    ratings: np.ndarray | None
    queries: list[tuple[str, int]]
    seed: int
    candidates: np.ndarray
    profiles: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    unlisted: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @classmethod
    def of(
        cls,
        train: Dataset,
        catalogue: Catalogue,
        seed: int,
        queries: list[tuple[str, int]] | None = None,
        profiles: Mapping[str, Mapping[str, str]] | None = None,
        candidates: str = TRAINED,
    ) -> "TrainingData":
        """Return the training interactions of RecBole's split, in RecBole's order within each user.

        Args:
            train: RecBole's training data set.
            catalogue: all items.
            seed: seed of all random draws.
            queries: (query text, catalogue row) pairs of a .query file.
            profiles: columns of a .user file by user token.
            candidates: `trained` (items with a training interaction) or `all` (also those that only .item has).
        """
        return cls._grouped([train], catalogue, seed, queries or [], profiles or {}, candidates)[0]

    @classmethod
    def _grouped(
        cls,
        parts: Sequence[Dataset],
        catalogue: Catalogue,
        seed: int,
        queries: list[tuple[str, int]],
        profiles: Mapping[str, Mapping[str, str]],
        candidates: str,
    ) -> tuple["TrainingData", np.ndarray]:
        """Return the interactions of several parts by user, earlier parts first, and the part of each interaction."""
        train, rating_field = parts[0], parts[0].config["RATING_FIELD"]
        uids, iids = (
            np.concatenate([part.inter_feat[name].numpy() for part in parts])
            for name in (train.uid_field, train.iid_field)
        )
        part_of = np.repeat(np.arange(len(parts)), [len(part.inter_feat) for part in parts])
        user_tokens = np.asarray(train.id2token(train.uid_field, np.arange(train.user_num)), dtype=str)
        # Rank of each user id among the sorted tokens; a stable sort by it keeps RecBole's order of time.
        rank = np.empty(train.user_num, dtype=np.int64)
        rank[np.argsort(user_tokens, kind="stable")] = np.arange(train.user_num)
        order = np.argsort(rank[uids], kind="stable")
        present, counts = np.unique(rank[uids], return_counts=True)
        # Of tokens RecBole keeps ids, which are no ratings.
        rated = rating_field in train.inter_feat and train.field2type[rating_field] == FeatureType.FLOAT
        rating = _stars(train, torch.cat([part.inter_feat[rating_field] for part in parts])) if rated else None
        item_ids = ItemIds.of(train, catalogue)
        to_catalogue = item_ids.to_catalogue
        trained = np.unique(to_catalogue(iids[part_of == 0]))
        chosen = trained if candidates == TRAINED else np.arange(catalogue.pool_size)
        asked = set(chosen.tolist())
        grouped = cls(
            catalogue=catalogue,
            users=np.sort(user_tokens)[present].tolist(),
            indptr=np.concatenate([[0], np.cumsum(counts)]),
            items=to_catalogue(iids[order]),
            ratings=None if rating is None else rating[order].astype(np.float32),
            queries=[(text, row) for text, row in queries if row in asked],
            seed=seed,
            profiles=profiles,
            candidates=chosen,
            unlisted=np.setdiff1d(chosen, item_ids.index_of_id),
        )
        return grouped, part_of[order]

    def history(self, user: int) -> np.ndarray:
        """Return the catalogue indices of one user, oldest first."""
        return self.histories.of(user)

    @cached_property
    def histories(self) -> Histories:
        """The interactions as histories of catalogue indices."""
        return Histories(self.indptr, self.items)

    @cached_property
    def lengths(self) -> np.ndarray:
        """Training interactions per user."""
        return np.diff(self.indptr)

    @cached_property
    def repeated(self) -> np.ndarray:
        """Whether the user has had the item before, bool [interactions]."""
        user = np.repeat(np.arange(len(self.users)), self.lengths)
        first = np.unique(user * len(self.catalogue) + self.items, return_index=True)[1]
        repeated = np.ones(len(self.items), dtype=bool)
        repeated[first] = False
        return repeated

    @cached_property
    def popularity(self) -> np.ndarray:
        """Interactions per item, int64 [catalogue]."""
        return np.bincount(self.items, minlength=len(self.catalogue))

    @cached_property
    def seen(self) -> sp.csr_matrix:
        """Sparse [users, items]: 1 where a user has a training interaction."""
        ones = np.ones(len(self.items), dtype=np.float32)
        matrix = sp.csr_matrix((ones, self.items, self.indptr), shape=(len(self.users), len(self.catalogue)))
        matrix.sum_duplicates()
        matrix.data[:] = 1.0
        return matrix

    def unseen(self, pool: np.ndarray) -> np.ndarray:
        """Return how many items of a pool each user has not had, [users]: the possible wrong candidates.

        Args:
            pool: catalogue rows, each once.
        """
        return len(pool) - np.asarray(self.seen[:, pool].sum(1), dtype=np.int64).ravel()

    def draw(self, *key: int) -> np.random.Generator:
        """Return a generator that depends on the run's seed and `key` only, not on earlier draws."""
        return np.random.default_rng([self.seed, *key])


@dataclass(frozen=True)
class HeldOut:
    """All interactions, with the indices of the test interactions. No training example is made from it.

    Attributes:
        data: training, validation and test interactions, each user's in this order.
        places: indices of the test interactions in `data.items` whose item is one of the candidates.
    """

    data: TrainingData
    places: np.ndarray

    @cached_property
    def user(self) -> np.ndarray:
        """User of each interaction, [interactions]."""
        return np.repeat(np.arange(len(self.data.users)), self.data.lengths)

    def only(self, suits: np.ndarray) -> "HeldOut":
        """Return some of the test interactions.

        Args:
            suits: whether each of `places` is among them.
        """
        return replace(self, places=self.places[suits])

    def drawn(self, task: int, earlier: int, count: int) -> tuple[np.ndarray, int]:
        """Return sorted indices of some test interactions, and the number of suitable ones.

        Args:
            task: id of the task; enters the seed.
            earlier: smallest number of earlier interactions of the same user.
            count: number of indices, or all if there are fewer.
        """
        before = self.places - self.data.indptr[self.user[self.places]]
        suitable = self.places[before >= earlier]
        rng = self.data.draw(task, len(suitable), 3)
        return np.sort(rng.choice(suitable, min(len(suitable), count), replace=False)), len(suitable)

    @classmethod
    def of(
        cls, train: Dataset, valid: Dataset, test: Dataset, catalogue: Catalogue, seed: int, candidates: str = TRAINED
    ) -> "HeldOut":
        """Return the interactions of RecBole's three parts.

        Args:
            train: RecBole's training data set.
            valid: validation data set.
            test: test data set.
            catalogue: all items.
            seed: seed of all random draws.
            candidates: as for `TrainingData.of`.
        """
        data, part = TrainingData._grouped([train, valid, test], catalogue, seed, [], {}, candidates)
        return cls(data, np.flatnonzero((part == 2) & np.isin(data.items, data.candidates)))


def _stars(dataset: Dataset, ratings: torch.Tensor) -> np.ndarray:
    """Return ratings as in the file, where RecBole has scaled them to 0 to 1."""
    return np.round(as_in_file(ratings, raw_range(dataset, dataset.config["RATING_FIELD"])).numpy(), 4)
