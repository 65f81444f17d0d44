"""Serving of a frozen base with kernels by tokens: one pass for a batch of mixed domains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from recbole.data.interaction import Interaction
from torch import nn

from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.domains import DomainScorer
from recbole_recfound.model.iak import DOMAIN_FIELD, IAK
from recbole_recfound.serving.recbole import RecBoleRecommender
from recbole_recfound.serving.request import Domains, Rows


class DomainRecommender(RecBoleRecommender):
    """A base with its kernels.

    `domains` of a request names for each row a domain of the first type, or maps each type (as typed in the setting
    `domain`) to such names; None or an unknown name: the base answers. Where nothing is named, the domain's rule
    decides by the user (or, for click models, the item).

    Args:
        model: IAK, in eval.
        splits: the data: features and histories of users.
        valid_metric: metric by which the run chose its kernels.
    """

    model: IAK

    def __init__(self, model: IAK, splits: Splits, valid_metric: str) -> None:
        super().__init__(model, splits)
        self.valid_metric = valid_metric
        # Kernels change the base's scores: a row of interactions is not enough.
        self._by_row = False

    def _test_metrics(self) -> dict[str, float]:
        scorer = DomainScorer(
            self.model.base,
            self.model.domains,
            self.splits.train_data,
            {"test": self.splits.test_data},
            self.valid_metric,
        )
        return scorer.metrics(scorer.collect(self.model, "test"), "test")

    def _reader(self) -> nn.Module:
        return self.model.base

    def _check_domains(self, domains: Domains) -> None:
        """Accept domains; `_domains` checks them."""

    def _of_row(self, domains: Domains, row: int) -> dict[str, list[str | None]]:
        if domains is None:
            return {}
        by_type = domains if isinstance(domains, Mapping) else {self.model.domains[0].text: domains}
        return {text: [of_type[row]] for text, of_type in by_type.items()}

    def _all_items(self, row: Rows, domains: Any) -> torch.Tensor:
        repeated = {text: names * self.data.item_num for text, names in (domains or {}).items()}
        return super()._all_items(row, repeated)

    def _placed(self, rows: Interaction, domains: Any) -> Interaction:
        """Add the columns that the base reads, and the domain of each row."""
        rows = self._with_columns(rows)
        rows.update(Interaction({DOMAIN_FIELD: self._domains(rows, domains)}))
        return rows.to(self.device)

    def _domains(self, rows: Interaction, names: Domains) -> torch.Tensor:
        by_type = (
            names if isinstance(names, Mapping) else {self.model.domains[0].text: names} if names is not None else {}
        )
        unknown = by_type.keys() - {domains.text for domains in self.model.domains}
        if unknown:
            raise ConfigError(f"domains: no kernels for {', '.join(sorted(unknown))}")
        columns = []
        for domains in self.model.domains:
            named = by_type.get(domains.text)
            if named is not None:
                number_of: dict[str | None, int] = {name: number for number, name in enumerate(domains.names)}
                columns.append(torch.tensor([number_of.get(name, -1) for name in named]))
            elif domains.field in rows:
                columns.append(domains.of(rows))
            else:
                raise ConfigError(
                    f"domains: {domains.text} depends on a column of the interaction. Name the domain of each row, as "
                    f"in {{{domains.text!r}: [...]}}"
                )
        return torch.stack(columns, dim=1)
