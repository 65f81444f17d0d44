"""Scores per domain, weighted over domains, and over all rows, through RecBole's collector and metrics."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct
from recbole.trainer import Trainer
from recbole.utils import EvaluatorType
from torch import nn

from recbole_recfound.data.domain import Domains, eval_domains
from recbole_recfound.data.split.interactions import interactions_of
from recbole_recfound.evaluation.by_user import TOPK, metric_by_user
from recbole_recfound.evaluation.clicks import with_grouped_auc
from recbole_recfound.evaluation.eval_rows import EvalRows
from recbole_recfound.evaluation.report.table import smaller_is_better
from recbole_recfound.model.iak import DOMAIN_FIELD

Collected = dict[str, torch.Tensor]
"""RecBole's resources of an evaluation (`rec.topk`, `rec.score`, `data.label`, ...), one entry per row."""
EXACT = 15
"""Decimal places of values that are averaged further, in place of `metric_decimal_place`."""


class DomainScorer:
    """Score models on held-out rows, in total and by domain.

    Args:
        base: a model of this data set, from which RecBole's Trainer is built for its evaluation code.
        domains: one entry for each type of domain.
        train_data: RecBole's loader of the training rows.
        loaders: evaluation loader of each phase, such as `valid` and `test`.
        selected_by: metric that stops and guards a domain; None: the base's `valid_metric`.
    """

    def __init__(
        self,
        base: nn.Module,
        domains: Sequence[Domains],
        train_data: Any,
        loaders: Mapping[str, Any],
        selected_by: str | None = None,
    ) -> None:
        train_set = train_data._dataset
        self.config = train_set.config
        self.domains = tuple(domains)
        self.selected_by = (selected_by or self.config["valid_metric"]).lower()
        self._train_data, self._lent = train_data, base
        self.clicks = self.config["eval_type"] == EvaluatorType.VALUE
        self.rows = {phase: EvalRows.of(loader) for phase, loader in loaders.items()}
        self.domain = {phase: self._domains(self.rows[phase], loader._dataset) for phase, loader in loaders.items()}
        for phase, rows in self.rows.items():
            rows.interaction.interaction[DOMAIN_FIELD] = self.domain[phase]
        self.uid_field = train_set.uid_field
        self._seen = torch.zeros(train_set.user_num, dtype=torch.bool)
        self._seen[torch.from_numpy(interactions_of(train_set)[0])] = True

    @cached_property
    def _engine(self) -> Trainer:
        """RecBole's Trainer, built on first use, so that invalid settings leave no checkpoint folder behind."""
        engine = Trainer(self.config, self._lent)
        train_set = self._train_data._dataset
        engine.tot_item_num = train_set.item_num
        engine.item_tensor = train_set.get_item_feature().to(engine.device)
        engine.eval_collector.data_collect(self._train_data)
        return engine

    @cached_property
    def _exact(self) -> Evaluator:
        """RecBole's evaluator of values that are averaged further: its own one rounds them."""
        config = copy.copy(self.config)
        config.final_config_dict = {**config.final_config_dict, "metric_decimal_place": EXACT}
        return Evaluator(config)

    def _domains(self, rows: EvalRows, held_out: Any) -> torch.Tensor:
        """Return the domain of each type for each row, int64 [N, types]."""
        found = []
        for domains in self.domains:
            by_user = None
            if domains.field not in rows.interaction:
                by_user = eval_domains(domains, held_out)
            found.append(
                domains.of(rows.interaction) if by_user is None else by_user[rows.interaction[held_out.uid_field]]
            )
        return torch.stack(found, dim=1)

    @torch.no_grad()
    def collect(self, model: nn.Module, phase: str, index: torch.Tensor | None = None) -> Collected:
        """Let a model score some rows.

        Args:
            model: anything with RecBole's `predict` or `full_sort_predict`.
            phase: `valid` or `test`.
            index: int64 [n], ascending; None: all rows.
        """
        rows, engine = self.rows[phase], self._engine
        index = torch.arange(len(rows)) if index is None else index
        was_training = model.training
        model.eval()
        engine.model = model
        step = engine._full_sort_batch_eval if rows.ranking else engine._neg_sample_batch_eval
        for batch in rows.batches(index):
            interaction, scores, positive_u, positive_i = step(batch)
            engine.eval_collector.eval_batch_collect(scores, interaction, positive_u, positive_i)
        struct = engine.eval_collector.get_data_struct()
        model.train(was_training)
        return {key: struct.get(key) for key in _row_keys(struct)}

    def metrics(
        self,
        collected: Collected,
        phase: str,
        index: torch.Tensor | None = None,
        only: str | None = None,
        exact: bool = False,
    ) -> dict[str, float]:
        """Compute RecBole's metrics, with GAUC beside AUC, on some rows.

        Args:
            collected: of all rows of the phase.
            phase: `valid` or `test`.
            index: bool [N] or int64 [n]; None: all rows.
            only: a single metric to compute, e.g. `ndcg@10`; None: all.
            exact: not rounded to `metric_decimal_place`.

        Returns:
            Metric -> value. Empty without rows; AUC and GAUC are omitted if all labels are equal.
        """
        part = collected if index is None else {key: values[index] for key, values in collected.items()}
        return self.part_metrics(part, phase, index, only, exact)

    def part_metrics(
        self,
        part: Collected,
        phase: str,
        index: torch.Tensor | None,
        only: str | None = None,
        exact: bool = False,
    ) -> dict[str, float]:
        """Compute `metrics` if only the rows of `index` were collected.

        Args:
            part: what was collected of these rows alone.
            phase: `valid` or `test`.
            index: bool [N] or int64 [n], places of these rows among those of the phase; None: all rows.
            only: a single metric to compute, e.g. `ndcg@10`; None: all.
            exact: not rounded to `metric_decimal_place`.
        """
        rows = len(next(iter(part.values())))
        if not rows:
            return {}
        if rows == 1 and self.clicks:  # RecBole's metrics cannot read a single click; means over it twice are the same
            part = {key: values.repeat(2, *[1] * (values.dim() - 1)) for key, values in part.items()}
        struct = self._static()
        for key, values in part.items():
            struct.set(key, values)
        evaluator = self._exact if exact else self._engine.evaluator
        one_class = self.clicks and len(part["data.label"].unique()) < 2
        wanted = [only.partition("@")[0]] if only else evaluator.metrics
        found: dict[str, float] = {}
        for name in wanted:
            if not (one_class and name == "auc"):
                found |= evaluator.metric_class[name].calculate_metric(struct)
        if self.clicks and not one_class and not only:
            users = self.rows[phase].interaction[self.uid_field]
            users = users if index is None else users[index]
            found = with_grouped_auc(found, evaluator.config, part["rec.score"], part["data.label"], users)
        return {name: float(value) for name, value in found.items()}

    def _static(self) -> DataStruct:
        """Copy the collector's statistics of the training data (counts)."""
        struct = DataStruct()
        for key, value in self._engine.eval_collector.data_struct._data_dict.items():
            struct.set(key, value)
        return struct

    def by_domain(
        self, collected: Collected, phase: str, number: int, only: str | None = None, exact: bool = False
    ) -> list[dict[str, float]]:
        """Compute the metrics of each domain of type `number`; {} for one without rows.

        Args:
            collected: what `collect` returned for all rows of the phase.
            phase: `valid` or `test`.
            number: place of the type among `domains`.
            only: a single metric to compute, e.g. `ndcg@10`; None: all.
            exact: not rounded to `metric_decimal_place`.
        """
        of_rows = self.domain[phase][:, number]
        return [
            self.metrics(collected, phase, of_rows == domain, only, exact)
            for domain in range(len(self.domains[number]))
        ]

    def _rounded(self, metrics: dict[str, float]) -> dict[str, float]:
        return {name: round(value, self.config["metric_decimal_place"]) for name, value in metrics.items()}

    def valid_scores(self, collected: Collected, number: int) -> np.ndarray:
        """Return each domain's validation score (`selected_by`), float64 [D]: higher is better, NaN where undefined.

        Args:
            collected: what `collect` returned for all validation rows.
            number: place of the type among `domains`.
        """
        return np.array(
            [self.score_of(metrics) for metrics in self.by_domain(collected, "valid", number, self.selected_by)]
        )

    def score_of(self, metrics: dict[str, float]) -> float:
        """Return the metric of early stopping and guard, higher is better; NaN where it is missing."""
        sign = -1.0 if smaller_is_better(self.selected_by) else 1.0
        return sign * metrics.get(self.selected_by, float("nan"))

    def summary(self, collected: Collected, phase: str) -> dict[str, Any]:
        """Return all results of a model for its row of the table.

        Args:
            collected: what `collect` returned for all rows of the phase.
            phase: `valid` or `test`.

        Returns:
            `metrics` of all rows; `weighted`, the mean over the first type's domains weighted by their rows; `domains`,
            for each type, name -> metrics and `rows`; and, at test, `users`: the metrics of users seen in training and
            of new ones, where there are both, and `by_user`, see `metric_by_user`.
        """
        scores: dict[str, Any] = {"metrics": self.metrics(collected, phase), "domains": {}}
        for number, domains in enumerate(self.domains):
            of_rows = self.domain[phase][:, number]
            counts = torch.bincount(of_rows[of_rows >= 0], minlength=len(domains)).tolist()
            found = self.by_domain(collected, phase, number, exact=True)
            if number == 0:
                scores["weighted"] = {name: _weighted(found, counts, name) for name in scores["metrics"]}
            scores["domains"][domains.text] = {
                name: {"rows": rows, **self._rounded(metrics)}
                for name, rows, metrics in zip(domains.names, counts, found, strict=True)
                if rows
            }
        seen = self._seen[self.rows[phase].interaction[self.uid_field]]
        if phase == "test" and 0 < int(seen.sum()) < len(seen):
            scores["users"] = {
                "seen": {"rows": int(seen.sum()), **self.metrics(collected, phase, seen)},
                "new": {"rows": int((~seen).sum()), **self.metrics(collected, phase, ~seen)},
            }
        if phase == "test":
            users = self.rows[phase].interaction[self.uid_field].numpy()
            scores["by_user"] = metric_by_user(collected.get(TOPK), self.selected_by, self.config["topk"], users)
        return scores


def _weighted(domains: Iterable[dict[str, float]], counts: Iterable[int], name: str) -> float | None:
    """Return the mean of a metric over domains, weighted by their rows; None where no domain has it."""
    known = [(found[name], rows) for found, rows in zip(domains, counts, strict=True) if name in found]
    return float(np.average([value for value, _ in known], weights=[rows for _, rows in known])) if known else None


def _row_keys(struct: DataStruct) -> list[str]:
    return [key for key in struct._data_dict if key.startswith("rec.") or key == "data.label"]
