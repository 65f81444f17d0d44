"""Serving of IAK by tokens: one pass for a batch of mixed domains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from recbole.data.interaction import Interaction
from recbole.utils import ModelType

from recbole_recfound.data.multi_task import catalogue_of
from recbole_recfound.data.padding import pad
from recbole_recfound.data.split.history_dataset import RecFoundDataset, history_fields
from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.domains import DomainScorer
from recbole_recfound.model.iak import DOMAIN_FIELD, IAK
from recbole_recfound.serving.evaluate import Evaluation, protocol_of
from recbole_recfound.serving.histories import UserHistories, item_ids
from recbole_recfound.serving.recommender import Domains, Recommender, Rows, one_at_a_time


class DomainRecommender(Recommender):
    """A base with its kernels.

    `domains` of a request names for each row a domain of the first type, or maps each type (as typed in the setting
    `domain`) to such names; None or an unknown name: the base answers. Where nothing is named, the domain's rule
    decides by the user (or, for click models, the item).

    Args:
        model: IAK, in eval.
        splits: the data: features and histories of users.
        valid_metric: metric by which the run chose its kernels.
    """

    def __init__(self, model: IAK, splits: Splits, valid_metric: str) -> None:
        self.model, self.splits, self.valid_metric = model.eval(), splits, valid_metric
        self.device = splits.config["device"]
        self.data = data = splits.train_set
        catalogue = catalogue_of(splits.config, data)
        ids = item_ids(data)
        texts = ["", *(catalogue.sentence_of(catalogue.row_of[token]) for token in ids)]
        super().__init__(ids, texts, data.iid_field, data.uid_field, not splits.config.repeats)
        self.known = UserHistories.of(splits)
        self.reads_items = splits.config["MODEL_TYPE"] == ModelType.CONTEXT
        self.reads_histories = splits.config["MODEL_TYPE"] == ModelType.SEQUENTIAL or isinstance(data, RecFoundDataset)

    def _check_histories(self) -> None:
        if not self.reads_histories:
            name = self.splits.config["model"]
            raise ConfigError(f"history: the base {name} reads no histories but users by their ids: give user=TOKEN")

    def _user_id(self, user: str) -> int | None:
        return self.known.users.get(user)

    def known_users(self) -> list[str]:
        """Return the tokens of all users of the data set."""
        return list(self.known.users)

    def _history_of(self, user_id: int) -> np.ndarray:
        return self.known.histories.of(user_id)

    @one_at_a_time
    def evaluate(self, dataset: str | None = None, data_path: str | None = None) -> Evaluation:
        """Score the test part of the run's data; see `Recommender.evaluate`.

        Args:
            dataset: that of the run, or None.
            data_path: that of loading, or None.
        """
        config = self.splits.config
        own = dataset in (None, config["dataset"])
        if not own or (data_path and Path(data_path).resolve() != Path(config["data_path"]).resolve().parent):
            raise ConfigError(
                f"evaluate: the base {config['model']} knows users and items of {config['dataset']} by their ids: load "
                "the run with data_path= and evaluate it on these data"
            )
        scorer = DomainScorer(
            self.model.base,
            self.model.domains,
            self.splits.train_data,
            {"test": self.splits.test_data},
            self.valid_metric,
        )
        return Evaluation(protocol_of(self.splits), scorer.metrics(scorer.collect(self.model, "test"), "test"))

    def _scores(self, rows: Rows, domains: Domains) -> torch.Tensor:
        if not self.reads_items:
            scores = self.model.full_sort_predict(self._placed(self._interaction(rows), domains))
            return scores.view(len(rows), self.data.item_num)
        first = self.model.domains[0].text
        return torch.stack(
            [self._all_items(rows.take(slice(row, row + 1)), _of_row(domains, first, row)) for row in range(len(rows))]
        )

    def _pair_scores(self, rows: Rows, items: np.ndarray, domains: Domains) -> torch.Tensor:
        batch = self._interaction(rows)
        batch.update(Interaction({self.data.iid_field: torch.from_numpy(items)}))
        return self.model.predict(self._placed(batch, domains))

    def _all_items(self, row: Rows, domains: dict[str, list[str | None]]) -> torch.Tensor:
        """Return a click model's probabilities for one user and every item, including the padding item."""
        pairs = self._interaction(row).repeat(self.data.item_num)
        pairs.update(Interaction({self.data.iid_field: torch.arange(self.data.item_num)}))
        named = {text: names * self.data.item_num for text, names in domains.items()}
        return self.model.predict(self._placed(pairs, named))

    def _interaction(self, rows: Rows) -> Interaction:
        return Interaction({self.data.uid_field: torch.from_numpy(rows.users), **self._lists(rows)})

    def _lists(self, rows: Rows) -> dict[str, torch.Tensor]:
        if not self.reads_histories:
            return {}
        width = self.splits.config["MAX_ITEM_LIST_LENGTH"]
        recent = [history[-width:] for history in rows.histories]
        full = np.zeros((len(rows), width), dtype=np.int64)
        padded, _ = pad(recent, fill=0)
        full[:, : padded.shape[1]] = padded
        lengths = np.array([len(history) for history in recent], dtype=np.int64)
        return history_fields(self.data, full, lengths).interaction

    def _placed(self, rows: Interaction, domains: Domains) -> Interaction:
        """Add the columns that the base reads, and the domain of each row."""
        if self.reads_items:
            rows = self.data.join(rows)
            kinds = ("token_field_names", "token_seq_field_names", "float_field_names", "float_seq_field_names")
            read = [name for kind in kinds for name in getattr(self.model.base, kind, ())]
            missing = [name for name in read if name not in rows]
            if missing:
                raise ConfigError(
                    f"the base also reads {', '.join(missing)} of each interaction, which a request does not have"
                )
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
                if len(named) != len(rows):
                    raise ConfigError(
                        f"domains: {domains.text}: got {len(named)} names, expected one per row ({len(rows)})"
                    )
                number_of = {name: number for number, name in enumerate(domains.names)}
                columns.append(torch.tensor([number_of.get(name, -1) for name in named]))
            elif domains.field in rows:
                columns.append(domains.of(rows))
            else:
                raise ConfigError(
                    f"domains: {domains.text} depends on a column of the interaction. Name the domain of each row, as "
                    f"in {{{domains.text!r}: [...]}}"
                )
        return torch.stack(columns, dim=1)


def _of_row(names: Domains, first: str, row: int) -> dict[str, list[str | None]]:
    """Return the names of one row, by type."""
    if names is None:
        return {}
    by_type = names if isinstance(names, Mapping) else {first: names}
    return {text: [of_type[row]] for text, of_type in by_type.items()}
