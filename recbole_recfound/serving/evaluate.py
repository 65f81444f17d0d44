"""Evaluation of a finished run on the test part of a data set, through RecBole's collector and metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from recbole_recfound.data.split.protocol import Protocol, Splits
from recbole_recfound.evaluation.rankings import rank_all


@dataclass(frozen=True)
class Evaluation:
    """What a finished run reaches on a test part.

    Attributes:
        protocol: the rules, see `Protocol.to_json`.
        metrics: of the test part.
        new_items: items of the data set that the run has not been trained with.
    """

    protocol: dict[str, Any]
    metrics: dict[str, float]
    new_items: int = 0


def rank_test(splits: Splits, scores_of: Callable[[np.ndarray], torch.Tensor]) -> dict[str, float]:
    """Rank all items for the users of the test part.

    Args:
        splits: the data; its loader masks what each user has had before, as the settings say.
        scores_of: user ids [B] -> scores of all items of these data, float32 [B, num_items].
    """
    users = splits.test_set.uid_field
    ((metrics, _),) = rank_all(
        splits, splits.test_data, lambda interaction: [scores_of(interaction[users].numpy()).float().cpu()]
    )
    return metrics


def protocol_of(splits: Splits) -> dict[str, Any]:
    """Return the rules of an evaluation on split data.

    Args:
        splits: the data.
    """
    return Protocol.of(splits.config, splits).to_json()
