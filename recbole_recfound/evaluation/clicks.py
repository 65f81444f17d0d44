"""GAUC of labelled rows, which RecBole computes for rankings only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from recbole.data.dataset import Dataset
from recbole.evaluator.collector import DataStruct
from recbole.evaluator.metrics import GAUC

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import kinds_of_modes

LABELED = "labeled"


def grouped_auc(config: Config, scores: torch.Tensor, labels: torch.Tensor, users: torch.Tensor) -> dict[str, float]:
    """Compute RecBole's GAUC on labelled rows: each user's AUC over that user's rows, weighted by positive rows.

    RecBole computes GAUC for rankings only. Users with one kind of label are excluded.

    Args:
        config: gives `metric_decimal_place`.
        scores: [n] predicted scores, or [n, 1] as some models of RecBole return them.
        labels: [n] 0 or 1.
        users: [n] user ids.

    Returns:
        {"gauc": value}, or {} where no user has both kinds of labels.
    """
    table = pd.DataFrame(
        {"user": users.cpu().numpy(), "score": scores.flatten().cpu().numpy(), "label": labels.cpu().numpy()}
    )
    table["rank"] = table.groupby("user")["score"].rank(ascending=False, method="average") * table["label"]
    of_user = table.groupby("user").agg(ranks=("rank", "sum"), size=("label", "size"), positive=("label", "sum"))
    of_user = of_user[(of_user["positive"] > 0) & (of_user["positive"] < of_user["size"])]
    if not len(of_user):
        return {}
    struct = DataStruct()
    struct.set("rec.meanrank", torch.from_numpy(of_user[["ranks", "size", "positive"]].to_numpy(dtype=np.float64)))
    return GAUC(config).calculate_metric(struct)


def with_grouped_auc(
    metrics: dict[str, float], config: Config, scores: torch.Tensor, labels: torch.Tensor, users: torch.Tensor
) -> dict[str, float]:
    """Return metrics of labelled rows with GAUC behind AUC or LogLoss; ratings and numbers between 0 and 1 have none.

    Args:
        metrics: of these rows.
        config: see `grouped_auc`, as the other arguments.
        scores: [n] or [n, 1].
        labels: [n].
        users: [n].
    """
    if not metrics.keys() & {"auc", "logloss"} or not ((labels == 0) | (labels == 1)).all():
        return metrics
    return metrics | grouped_auc(config, scores, labels, users)


class GroupedEvaluator:
    """RecBole's evaluator of labelled rows, with GAUC behind AUC or LogLoss.

    Args:
        evaluator: RecBole's.
        config: gives `metric_decimal_place`.
        users: int64 [n] user ids of the rows, in their order.
    """

    def __init__(self, evaluator: Any, config: Config, users: torch.Tensor) -> None:
        self.evaluator, self.config, self.users = evaluator, config, users

    def evaluate(self, data: DataStruct) -> dict[str, float]:
        """Score as RecBole does, and by user.

        Args:
            data: what RecBole's collector gives.
        """
        found = dict(self.evaluator.evaluate(data))
        return with_grouped_auc(found, self.config, data.get("rec.score"), data.get("data.label"), self.users)


@contextmanager
def with_gauc(trainer: Any, rows: Dataset) -> Iterator[None]:
    """Add GAUC to the metrics of an evaluation of labelled rows; nothing changes for other evaluations.

    Args:
        trainer: RecBole's Trainer.
        rows: the rows that are evaluated, as RecBole built them.
    """
    if kinds_of_modes(trainer.config) != {LABELED}:
        yield
        return
    own = trainer.evaluator
    trainer.evaluator = GroupedEvaluator(own, trainer.config, rows.inter_feat[rows.uid_field])
    try:
        yield
    finally:
        trainer.evaluator = own
