"""Rankings of new items alone, in which equal scores have a drawn order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


@contextmanager
def drawn_ties(trainer: Any, loader: Any) -> Iterator[None]:
    """Rank items of equal score in an order that is drawn by the run's seed, where a loader ranks some items alone.

    Models of ids give all new items one score. Items are numbered as they come first in the file, often chosen ones
    before others, so that the order of the numbers would look like skill. (So equal scores have the same drawn order in
    RecBole's GAUC as well, which averages their ranks elsewhere.)

    Args:
        trainer: RecBole's Trainer.
        loader: of the rows that it is about to score.
    """
    items = getattr(loader, "among", None)
    if items is None:
        yield
        return
    drawn = torch.from_numpy(np.random.default_rng([trainer.config["seed"], 0x71E5]).permutation(items))
    collector = trainer.eval_collector
    collect = collector.eval_batch_collect

    def collected(scores: torch.Tensor, *others: Any) -> None:
        columns = drawn.to(scores.device)
        best_first = scores[:, columns].argsort(dim=1, descending=True, stable=True)
        ranked = torch.full_like(scores, -torch.inf)
        ranked[:, columns] = -best_first.argsort(dim=1).to(scores.dtype)
        collect(ranked, *others)

    collector.eval_batch_collect = collected
    try:
        yield
    finally:
        del collector.eval_batch_collect
