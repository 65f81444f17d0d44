"""RecBole data sets whose rows carry each user's history."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction

from recbole_recfound.data.split.histories import Histories


def add_histories(rows: Interaction, histories: Histories, dataset: Dataset) -> Interaction:
    """Add RecBole's sequential fields to rows of users.

    Args:
        rows: with the user field [B].
        histories: of all users.
        dataset: names the fields and, in its config, the longest history.

    Returns:
        `rows` with `item_id_list` int64 [B, L], oldest first, padded with 0 on the right and cut to the last
        `MAX_ITEM_LIST_LENGTH` items, and `item_length` int64 [B].
    """
    users = rows[dataset.uid_field].numpy()
    rows.update(history_fields(dataset, *histories.padded(users, dataset.config["MAX_ITEM_LIST_LENGTH"])))
    return rows


def history_fields(dataset: Dataset, items: Any, lengths: Any) -> Interaction:
    """Return padded histories [B, L] and their lengths [B], both int64 arrays, under RecBole's names of the fields.

    Args:
        dataset: RecBole's data set, for the names.
        items: [B, L] item ids, 0 is padding.
        lengths: [B] items per row.
    """
    config = dataset.config
    return Interaction(
        {
            dataset.iid_field + config["LIST_SUFFIX"]: torch.from_numpy(items),
            config["ITEM_LIST_LENGTH_FIELD"]: torch.from_numpy(lengths),
        }
    )


class RecFoundDataset(Dataset):
    """RecBole's `Dataset` for models that read histories, so that RecBole's own evaluation loaders can feed them.

    `build` gives the validation and the test part each user's history before that phase, and `join` adds it to rows of
    users as `item_id_list` and `item_length` (see `add_histories`). The training part carries the training histories.

    Attributes:
        histories: of this part; None before `build`.
        keeps_missing: an interaction without a rating has no rating (NaN), rather than the mean of others.
    """

    keeps_missing = True
    histories: Histories | None = None

    def build(self) -> list[Dataset]:
        """Split as RecBole does; every part gets the interactions of all parts before it."""
        parts = super().build()
        known = Histories.from_pairs(*_pairs(parts[0]), self.user_num)
        self.histories = parts[0].histories = known
        for before, part in zip([None, *parts[1:]], parts[1:], strict=False):
            if before is not None:
                known = known.followed_by(*_pairs(before))
            part.histories = known
        return parts

    def join(self, df: Interaction) -> Interaction:
        """Add user features, item features and histories to rows."""
        joined = super().join(df)
        if self.histories is None or self.uid_field not in joined:
            return joined
        return add_histories(joined, self.histories, self)


def _pairs(part: Dataset) -> tuple[Any, Any]:
    """Return users and items of a part, int64 [n] each, in RecBole's order."""
    return part.inter_feat[part.uid_field].numpy(), part.inter_feat[part.iid_field].numpy()


class HistoryCollate:
    """Collate function of training rows with the histories before them, in the columns of the evaluation loader.

    Args:
        train_set: RecFound's data: interactions in the order of time, without histories.
    """

    def __init__(self, train_set: Dataset) -> None:
        config = train_set.config
        self.rows = train_set.inter_feat
        self.longest: int = config["MAX_ITEM_LIST_LENGTH"]
        self.train_set = train_set
        self.histories = Histories.from_pairs(*_pairs(train_set), train_set.user_num)
        self.users = self.rows[train_set.uid_field].numpy()
        order = np.argsort(self.users, kind="stable")
        self.before = np.empty(len(order), dtype=np.int64)
        self.before[order] = np.arange(len(order)) - self.histories.indptr[self.users[order]]

    def __call__(self, index: list[int]) -> Interaction:
        """Add `item_id_list` (int64 [B, L], oldest first, right-padded with 0) and `item_length` ([B]) to a batch."""
        chosen = np.asarray(index)
        batch = self.rows[chosen]
        padded = self.histories.padded_before(self.users[chosen], self.before[chosen], self.longest)
        batch.update(history_fields(self.train_set, *padded))
        return batch


class HistoryLoader:
    """Loader of training rows with the histories before them, in the form of RecBole's loaders.

    Args:
        dataset: training part.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset, self.collate_fn = dataset, HistoryCollate(dataset)


class NoInteractions:
    """The attributes that RecBole's models read of a data set, for runs without users and items."""

    def num(self, field: str) -> int:
        """Return the number of ids of a field: the padding alone."""
        return 1
