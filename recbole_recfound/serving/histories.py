"""Histories of known users, for serving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from recbole.data.dataset import Dataset
from safetensors.torch import load_file, save_file

from recbole_recfound.data.split.histories import Histories
from recbole_recfound.data.split.interactions import interactions_of
from recbole_recfound.data.split.protocol import Splits

FILE = "histories.safetensors"


@dataclass(frozen=True)
class UserHistories:
    """Whole histories: training, validation and test items, as item ids.

    Attributes:
        histories: by user id, as models read them: without rows that `cold_items` dropped.
        had: by user id, all items of the data set that a user has had; they are not recommended again.
        users: user id of each token.
    """

    histories: Histories
    had: Histories
    users: dict[str, int]

    @classmethod
    def of(cls, splits: Splits) -> UserHistories:
        """Join the three parts of a data set."""
        test, dataset = splits.test_set, splits.dataset
        if splits.config["test_users"] or splits.config["cold_items"]:  # the parts lack rows of other users
            read = had = Histories.from_pairs(*interactions_of(dataset), test.user_num)
            if splits.config["cold_items"]:
                users, items = dataset.all_pairs
                had = Histories.from_pairs(users, items, test.user_num)
            return cls(read, had, user_ids(test))
        held_out = test.inter_feat[test.uid_field].numpy(), test.inter_feat[test.iid_field].numpy()
        whole = splits.known_at_test.followed_by(*held_out)
        return cls(whole, whole, user_ids(test))

    def known(self) -> list[str]:
        """Return the tokens of the users who have a history; `.user` can name others."""
        lengths = np.diff(self.histories.indptr)
        return [token for token, number in self.users.items() if lengths[number]]

    def save(self, folder: Path) -> None:
        """Write `histories.safetensors`: the histories, and the users' tokens as text."""
        tokens = "\n".join(self.users).encode("utf-8")
        tensors = {
            "indptr": torch.from_numpy(self.histories.indptr),
            "items": torch.from_numpy(self.histories.items),
            "users": torch.frombuffer(bytearray(tokens), dtype=torch.uint8),
        }
        if self.had is not self.histories:
            tensors["had_indptr"] = torch.from_numpy(self.had.indptr)
            tensors["had_items"] = torch.from_numpy(self.had.items)
        save_file(tensors, folder / FILE)

    @classmethod
    def load(cls, folder: Path) -> UserHistories:
        """Read what `save` wrote."""
        tensors = load_file(folder / FILE)
        tokens = tensors["users"].numpy().tobytes().decode("utf-8").split("\n")
        histories = Histories(tensors["indptr"].numpy(), tensors["items"].numpy())
        had = histories
        if "had_items" in tensors:
            had = Histories(tensors["had_indptr"].numpy(), tensors["had_items"].numpy())
        return cls(histories, had, _numbered(tokens))


def user_ids(dataset: Dataset) -> dict[str, int]:
    """Return the id of each user token; the padding has none."""
    return _numbered(list(map(str, dataset.field2id_token[dataset.uid_field][1:])))


def item_ids(dataset: Dataset) -> dict[str, int]:
    """Return the id of each item token; the padding has none."""
    return _numbered(list(map(str, dataset.field2id_token[dataset.iid_field][1:])))


def _numbered(tokens: Sequence[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens, start=1)}
