"""The two id spaces of items: RecBole's `item_id` and the `catalogue_index`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from recbole.data.dataset import Dataset

from recbole_recfound.data.text.catalogue import Catalogue


@dataclass(frozen=True)
class ItemIds:
    """Mapping between RecBole's item ids and catalogue indices.

    Attributes:
        index_of_id: int64 [num_items], catalogue index of each item id; -1 for the padding id 0.
        id_of_index: int64 [catalogue], item id of each catalogue index; 0 where RecBole does not know the item.
    """

    index_of_id: np.ndarray
    id_of_index: np.ndarray

    @classmethod
    def of(cls, dataset: Dataset, catalogue: Catalogue) -> ItemIds:
        """Match the tokens of a RecBole data set with those of a catalogue that has all of them.

        Args:
            dataset: RecBole's data set.
            catalogue: items with tokens.
        """
        tokens = dataset.id2token(dataset.iid_field, np.arange(dataset.item_num))
        index_of_id = np.array([-1, *(catalogue.row_of[str(token)] for token in tokens[1:])], dtype=np.int64)
        return cls.from_indices(index_of_id, len(catalogue))

    @classmethod
    def from_indices(cls, index_of_id: np.ndarray, size: int) -> ItemIds:
        """Invert a mapping.

        Args:
            index_of_id: int64 [num_items], -1 first.
            size: length of the catalogue.
        """
        id_of_index = np.zeros(size, dtype=np.int64)
        id_of_index[index_of_id[1:]] = np.arange(1, len(index_of_id))
        return cls(index_of_id, id_of_index)

    @classmethod
    def empty(cls) -> ItemIds:
        """Return the mapping of a data set without items."""
        return cls.from_indices(np.array([-1], dtype=np.int64), 0)

    def to_catalogue(self, item_ids: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the catalogue index (int64) of each item id."""
        return self.index_of_id[np.asarray(item_ids, dtype=np.int64)]

    def to_item_ids(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Return the item id (int64, 0 = unknown to RecBole) of each catalogue index."""
        return self.id_of_index[np.asarray(indices, dtype=np.int64)]

    def extended(self, count: int) -> ItemIds:
        """Return the mapping with `count` further items at the end of both id spaces."""
        new = np.arange(len(self.id_of_index), len(self.id_of_index) + count)
        return self.from_indices(np.concatenate([self.index_of_id, new]), len(self.id_of_index) + count)
