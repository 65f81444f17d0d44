"""Rankings besides the table's own; of new items alone, equal scores have a drawn order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from recbole_recfound.data.split.protocol import Splits, further_tests


def further_rankings(
    trainer: Any, splits: Splits, score: Callable[[Any], Mapping[str, float]]
) -> dict[str, dict[str, float]]:
    """Return the metrics of a trained model in the rankings besides the table's own; every system asks here.

    Args:
        trainer: RecBole's Trainer.
        splits: the data of the model.
        score: loader -> metrics, by this trainer.
    """
    found = {}
    for name, loader in further_tests(splits).items():
        with drawn_ties(trainer, loader):
            found[name] = {metric: float(value) for metric, value in score(loader).items()}
    return found


@contextmanager
def drawn_ties(trainer: Any, loader: Any) -> Iterator[None]:
    """Rank items of equal score in an order that is drawn by the run's seed, where a loader ranks some items alone.

    Models of ids give all new items one score, models of texts those whose texts are alike. Items are numbered as they
    come first in the file, often chosen ones before others, so that the order of the numbers would look like skill. (So
    equal scores have the same drawn order in RecBole's GAUC as well, which averages their ranks elsewhere.)

    Args:
        trainer: RecBole's Trainer.
        loader: of the rows that it is about to score.
    """
    collector, ordered = trainer.eval_collector, tie_breaker(trainer.config["seed"], loader)
    collect = collector.eval_batch_collect

    def collected(scores: torch.Tensor, *others: Any) -> None:
        collect(ordered(scores), *others)

    collector.eval_batch_collect = collected
    try:
        yield
    finally:
        del collector.eval_batch_collect


def tie_breaker(seed: int, loader: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what makes scores [B, num_items] different ones, see `drawn_ties`; of other loaders they stay.

    Args:
        seed: of the run.
        loader: of the rows that are scored.
    """
    items = getattr(loader, "among", None)
    if items is None:
        return lambda scores: scores
    drawn = torch.from_numpy(np.random.default_rng([seed, 0x71E5]).permutation(items))

    def ordered(scores: torch.Tensor) -> torch.Tensor:
        columns = drawn.to(scores.device)
        own = scores[:, columns]
        places = own.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        ranked = torch.full_like(scores, -torch.inf, dtype=torch.float32)  # bfloat16 has no place for each rank
        ranked[:, columns] = torch.where(own > -torch.inf, -places.float(), -torch.inf)
        return ranked

    return ordered
