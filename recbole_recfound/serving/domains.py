"""Serving kernels: one pass for a batch of mixed domains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from recbole.data.interaction import Interaction
from recbole.utils import ModelType

from recbole_recfound.errors import ConfigError
from recbole_recfound.model.iak import DOMAIN_FIELD, IAK
from recbole_recfound.serving.recommender import Recommender

Names = Sequence[str | None] | Mapping[str, Sequence[str | None]] | None
"""Names of the rows' domains: of the first type, or by type (as typed in `domain`)."""


class DomainRecommender(Recommender):
    """A base with its kernels, asked by the tokens of users, items and domains.

    Args:
        model: IAK, in eval.
        splits: the data: features and histories of users.
    """

    model: IAK

    @torch.no_grad()
    def score(self, users: Sequence[str], items: Sequence[str], domains: Names = None) -> torch.Tensor:
        """Score pairs of users and items, of any domains, in one pass.

        Args:
            users, items: tokens, one pair per row.
            domains: for each row the name of a domain of the first type, or a mapping from each type (as typed in `domain`) to such
                names; None or an unknown name: the base answers. Where nothing is named, the domain's rule decides by the user (or,
                for click models, the item).

        Returns:
            float32 [rows]: probabilities of click models, scores of others.

        Raises:
            ConfigError: an unknown user or item, or domains that must be named because only an interaction's column tells them.
        """
        return self.model.predict(self._placed(self._pairs(users, items), domains)).float().cpu()

    @torch.no_grad()
    def recommend(self, users: Sequence[str], k: int = 10, domains: Names = None) -> list[list[tuple[str, float]]]:
        """The best items for each user that the user has not had.

        Args:
            users: tokens.
            k: items per user.
            domains: as in `score`.

        Returns:
            For each user up to k pairs of item token and score, best first.

        Raises:
            ConfigError: see `score`.
        """
        rows = self._users(users)
        if self.splits.config["MODEL_TYPE"] == ModelType.CONTEXT:
            first = self.model.domains[0].text
            scores = torch.cat(
                [self._all_items(rows[[row]], _of_row(domains, first, row)) for row in range(len(users))]
            )
        else:
            scores = self.model.full_sort_predict(self._placed(rows, domains))
        return self._best(rows, scores, k)

    def _all_items(self, user: Interaction, domains: dict[str, list[str | None]]) -> torch.Tensor:
        """A click model's probabilities for one user and every item, the padding item included."""
        data = self.splits.train_set
        pairs = user.repeat(data.item_num)
        pairs.update(Interaction({data.iid_field: torch.arange(data.item_num)}))
        named = {text: names * data.item_num for text, names in domains.items()}
        return self.model.predict(self._placed(pairs, named))

    def _placed(self, rows: Interaction, domains: Names) -> Interaction:
        """What the base reads of these rows, and their domains."""
        rows = self._batch(rows)
        if self.splits.config["MODEL_TYPE"] == ModelType.CONTEXT:
            kinds = ("token_field_names", "token_seq_field_names", "float_field_names", "float_seq_field_names")
            read = [name for kind in kinds for name in getattr(self.model.base, kind, ())]
            missing = [name for name in read if name not in rows]
            if missing:
                raise ConfigError(
                    f"the base also reads {', '.join(missing)} of each interaction, which cannot be told here"
                )
        rows.update(Interaction({DOMAIN_FIELD: self._domains(rows, domains)}))
        return rows.to(self.device)

    def _domains(self, rows: Interaction, names: Names) -> torch.Tensor:
        by_type = (
            names if isinstance(names, Mapping) else {self.model.domains[0].text: names} if names is not None else {}
        )
        unknown = by_type.keys() - {domains.text for domains in self.model.domains}
        if unknown:
            raise ConfigError(f"domains: no kernels for {', '.join(sorted(unknown))}")
        found = []
        for domains in self.model.domains:
            told = by_type.get(domains.text)
            if told is not None:
                number_of = {name: place for place, name in enumerate(domains.names)}
                found.append(torch.tensor([number_of.get(name, -1) for name in told]))
            elif domains.field in rows:
                found.append(domains.of(rows))
            else:
                raise ConfigError(
                    f"domains: {domains.text} is told by a column of the interaction: name the domain of each row, as in"
                    f" {{{domains.text!r}: [...]}}"
                )
        return torch.stack(found, dim=1)


def _of_row(names: Names, first: str, row: int) -> dict[str, list[str | None]]:
    """The names of one row, by type."""
    if names is None:
        return {}
    by_type = names if isinstance(names, Mapping) else {first: names}
    return {text: [told[row]] for text, told in by_type.items()}
