"""The metric that chooses checkpoints, for each test user: what paired tests need."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader, NegSampleEvalDataLoader
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.register import metrics_dict

TOPK = "rec.topk"
"""RecBole's name of the ranking of an evaluation: hits among the best items, and the number of targets, by row."""


class RankingKeeper:
    """RecBole's evaluator, which keeps the last ranking that it scored.

    Args:
        evaluator: RecBole's.

    Attributes:
        ranking: int64 [rows, topk + 1]; None before a ranking was scored.
    """

    def __init__(self, evaluator: Any) -> None:
        self.evaluator = evaluator
        self.ranking: torch.Tensor | None = None

    def evaluate(self, data: Any) -> Any:
        """Score as RecBole does.

        Args:
            data: what RecBole's collector gives.
        """
        self.ranking = data.get(TOPK) if TOPK in data else None
        return self.evaluator.evaluate(data)

    def by_user(self, config: Any, loader: Any) -> list[float]:
        """Return the metric that chooses of each user of the last evaluation, see `metric_by_user`.

        Args:
            config: settings of the run.
            loader: RecBole's, whose rows were scored.
        """
        return metric_by_user(self.ranking, config["valid_metric"], config["topk"], users_of(loader))


@contextmanager
def kept_ranking(trainer: Any) -> Iterator[RankingKeeper]:
    """Keep the ranking of an evaluation.

    Args:
        trainer: RecBole's Trainer.
    """
    keeper = RankingKeeper(trainer.evaluator)
    trainer.evaluator = keeper
    try:
        yield keeper
    finally:
        trainer.evaluator = keeper.evaluator


def metric_by_user(ranking: torch.Tensor | None, metric: str, topk: list[int], users: np.ndarray) -> list[float]:
    """Return a ranking metric of each user, by ascending user id; the mean where a user has several rows.

    Args:
        ranking: int64 [rows, max(topk) + 1] as RecBole's collector has it; None: no ranking.
        metric: such as `NDCG@10`.
        topk: lengths of the run's ranked lists.
        users: int64 [rows], user id of each row.

    Returns:
        One value for each distinct user; [] without a ranking, or where the metric is not one of ranked lists.
    """
    name, _, length = metric.lower().partition("@")
    kind = metrics_dict.get(name)
    if ranking is None or len(ranking) != len(users) or kind is None or not issubclass(kind, TopkMetric) or not length:
        return []
    scorer = kind({"topk": topk, "metric_decimal_place": 4})
    data = DataStruct()
    data.set(TOPK, ranking.cpu())
    hits, targets = scorer.used_info(data)
    wanted = len(inspect.signature(scorer.metric_info).parameters)
    values = np.asarray(scorer.metric_info(*(hits, targets)[:wanted]), dtype=np.float64)[:, int(length) - 1]
    _, place = np.unique(users, return_inverse=True)
    return np.round(np.bincount(place, values) / np.bincount(place), 6).tolist()


def users_of(loader: Any) -> np.ndarray:
    """Return the user of each row of an evaluation, int64 [rows].

    Args:
        loader: RecBole's; one that ranks nothing has none.
    """
    if isinstance(loader, NegSampleEvalDataLoader):  # one row for each user, if candidates are drawn
        return np.asarray(getattr(loader, "uid_list", ()), dtype=np.int64)
    if not isinstance(loader, FullSortEvalDataLoader):
        return np.zeros(0, dtype=np.int64)
    rows = loader._dataset
    return rows.inter_feat[rows.uid_field].numpy() if loader.is_sequential else loader.uid_list.numpy()
