"""Evaluation of a finished run on the test part of a data set, through RecBole's collector and metrics."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from recbole.evaluator import Collector, Evaluator

from recbole_recfound.data.split.protocol import Protocol, Splits


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


@torch.no_grad()
def rank_test(splits: Splits, scores_of: Callable[[np.ndarray], torch.Tensor]) -> dict[str, float]:
    """Rank all items for the users of the test part.

    Args:
        splits: the data; its loader masks what each user has had before, as the settings say.
        scores_of: user ids [B] -> scores of all items of these data, float32 [B, num_items].
    """
    config = splits.config
    collector = Collector(config)
    collector.data_collect(splits.train_data)
    for interaction, masked, positive_u, positive_i in splits.test_data:
        scores = scores_of(interaction[splits.test_set.uid_field].numpy()).float().cpu()
        scores[:, 0] = -torch.inf
        if masked is not None:
            scores[masked] = -torch.inf
        collector.eval_batch_collect(scores, interaction, positive_u, positive_i)
    found = Evaluator(config).evaluate(collector.get_data_struct())
    return {name: float(value) for name, value in found.items()}


def protocol_of(splits: Splits) -> dict[str, Any]:
    """Return the rules of an evaluation on split data.

    Args:
        splits: the data.
    """
    return Protocol.of(splits.config, splits).to_json()
