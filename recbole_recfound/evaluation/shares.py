"""Evaluation by several processes: each scores a share of the users, RecBole's metrics are computed once."""

from __future__ import annotations

from typing import Any

from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct

from recbole_recfound.data.split.eval_loader import FairEvalDataLoader
from recbole_recfound.runtime.exchange import gather, in_order, on_main
from recbole_recfound.runtime.ranks import rank, shards, world

OF_ROWS = ("rec.items", "rec.topk", "rec.meanrank", "rec.score", "data.label")
"""RecBole's resources that have one entry per evaluated row."""


class SharedEvaluator:
    """RecBole's evaluator over the rows of all processes, in their order; the result is the same on all.

    Args:
        evaluator: RecBole's.
    """

    def __init__(self, evaluator: Evaluator) -> None:
        self.evaluator = evaluator

    def evaluate(self, struct: DataStruct) -> dict[str, float]:
        """Compute the metrics on the main process.

        Args:
            struct: resources of this process's share of the rows.
        """
        if world() > 1 and not shards():
            found = gather({key: struct.get(key) for key in OF_ROWS if key in struct})
            for key in found[0]:
                struct.set(key, in_order([share[key] for share in found if key in share]))
        return on_main(lambda: self.evaluator.evaluate(struct))


def share_of(loader: Any) -> Any:
    """Return a loader of this process's share of the rows, without padding.

    Where processes divide the frozen weights, they must make the same passes: each scores all rows.

    Args:
        loader: of all rows.

    Raises:
        TypeError: the loader cannot be divided.
    """
    if world() == 1 or shards():
        return loader
    if not isinstance(loader, FairEvalDataLoader):
        raise TypeError(f"{type(loader).__name__} cannot be divided among processes")
    return loader.share(rank(), world())
