"""Rankings of all items by given scores, through RecBole's collector and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.evaluator import Collector, Evaluator
from recbole.evaluator.collector import DataStruct

from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.evaluation.drawn_ties import tie_breaker


@torch.no_grad()
def rank_all(
    splits: Splits, loader: Any, scores_of: Callable[[Interaction], Iterable[torch.Tensor]]
) -> list[tuple[dict[str, float], DataStruct]]:
    """Rank all items for the rows of a held-out part by one or several scores, in one pass.

    Args:
        splits: the data, with the settings of the metrics.
        loader: of a held-out part; it masks what each user has had before, as the settings say.
        scores_of: interaction -> scores of all items, float32 [B, num_items] on the host, of each ranking.

    Returns:
        Metrics of each ranking, and what RecBole collected of it.
    """
    config, ordered = splits.config, tie_breaker(splits.config["seed"], loader)
    collectors: list[Collector] = []
    for interaction, masked, positive_u, positive_i in loader:
        for number, scores in enumerate(scores_of(interaction)):
            if number == len(collectors):
                collectors.append(Collector(config))
                collectors[number].data_collect(splits.train_data)
            scores[:, 0] = -torch.inf
            if masked is not None:
                scores[masked] = -torch.inf
            collectors[number].eval_batch_collect(ordered(scores), interaction, positive_u, positive_i)
    evaluator, found = Evaluator(config), []
    for collector in collectors:
        data = collector.get_data_struct()
        found.append(({name: float(value) for name, value in evaluator.evaluate(data).items()}, data))
    return found
