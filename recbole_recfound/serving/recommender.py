"""Asking a trained model: scores of users and items, and the best items for a user."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import ModelType
from torch import nn

from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.errors import ConfigError


class Recommender:
    """A model with its data, asked by the tokens of users and items. Histories are whole: validation and test items are part of them.

    Args:
        model: trained.
        splits: the data: features and histories of users.
    """

    def __init__(self, model: nn.Module, splits: Splits) -> None:
        self.model, self.splits = model.eval(), splits
        self.device = splits.config["device"]
        test = splits.test_set
        held_out = test.inter_feat[test.uid_field].numpy(), test.inter_feat[test.iid_field].numpy()
        self.histories = splits.known_at_test.followed_by(*held_out)

    @torch.no_grad()
    def score(self, users: Sequence[str], items: Sequence[str]) -> torch.Tensor:
        """Score pairs of users and items.

        Args:
            users, items: tokens, one pair per row.

        Returns:
            float32 [rows]; of RecFound the cosine of user and item.

        Raises:
            ConfigError: an unknown user or item, or not as many items as users.
        """
        return self.model.predict(self._batch(self._pairs(users, items)).to(self.device)).float().cpu()

    @torch.no_grad()
    def recommend(self, users: Sequence[str], k: int = 10) -> list[list[tuple[str, float]]]:
        """The best items for each user that the user has not had.

        Args:
            users: tokens.
            k: items per user, at least 1.

        Returns:
            For each user up to k pairs of item token and score, best first.

        Raises:
            ConfigError: an unknown user, or no item asked for.
        """
        rows = self._users(users)
        return self._best(rows, self.model.full_sort_predict(self._batch(rows).to(self.device)), k)

    def _pairs(self, users: Sequence[str], items: Sequence[str]) -> Interaction:
        data = self.splits.train_set
        found = {data.uid_field: self._ids(data.uid_field, users), data.iid_field: self._ids(data.iid_field, items)}
        if len(users) != len(items):
            raise ConfigError(f"score: {len(users)} users and {len(items)} items, one of each is a row")
        return Interaction(found)

    def _users(self, users: Sequence[str]) -> Interaction:
        field = self.splits.train_set.uid_field
        return Interaction({field: self._ids(field, users)})

    def _ids(self, field: str, tokens: Sequence[str]) -> torch.Tensor:
        if isinstance(tokens, str):
            raise ConfigError(f"{field}: a list of tokens is wanted, as in [{tokens!r}]")
        if not len(tokens):
            raise ConfigError(f"{field}: no token is given")
        known = self.splits.train_set.field2token_id[field]
        # The padding has a token and the number 0.
        unknown = [token for token in tokens if not known.get(token)]
        if unknown:
            hint = "" if isinstance(unknown[0], str) else " (tokens are text)"
            raise ConfigError(f"{field} {unknown[0]!r} is not in the data set{hint}")
        return torch.tensor([int(known[token]) for token in tokens], dtype=torch.long)

    def _batch(self, rows: Interaction) -> Interaction:
        """What the model reads of these rows."""
        data, config = self.splits.train_set, self.splits.config
        if config["MODEL_TYPE"] == ModelType.CONTEXT:
            return data.join(rows)
        if config["MODEL_TYPE"] == ModelType.SEQUENTIAL or config["model"] == "RecFound":
            users, width = rows[data.uid_field].numpy(), config["MAX_ITEM_LIST_LENGTH"]
            items, lengths = self.histories.padded(users, width)
            full = np.zeros((len(users), width), dtype=np.int64)
            full[:, : items.shape[1]] = items
            fields = data.iid_field + config["LIST_SUFFIX"], config["ITEM_LIST_LENGTH_FIELD"]
            rows.update(Interaction({fields[0]: torch.from_numpy(full), fields[1]: torch.from_numpy(lengths)}))
        return rows

    def _best(self, rows: Interaction, scores: torch.Tensor, k: int) -> list[list[tuple[str, float]]]:
        """Tokens and scores of the k best items of each row; `scores` of all items, in RecBole's form."""
        data = self.splits.train_set
        if k < 1:
            raise ConfigError(f"recommend: k is {k}, at least 1 item is wanted")
        scores = scores.view(len(rows), data.item_num).float().cpu()
        scores[:, 0] = -torch.inf
        for row, user in enumerate(rows[data.uid_field].tolist()):
            scores[row, torch.from_numpy(self.histories.of(user))] = -torch.inf
        best = scores.topk(min(k, scores.shape[1] - 1), dim=1)
        return [
            [(str(data.id2token(data.iid_field, item)), value) for item, value in zip(*pair) if value > -torch.inf]
            for pair in zip(best.indices.tolist(), best.values.tolist())
        ]
