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
        divided: whether each process has scored a share of the rows; False: all rows.
    """

    def __init__(self, evaluator: Evaluator, divided: bool) -> None:
        self.evaluator, self.divided = evaluator, divided

    def evaluate(self, struct: DataStruct) -> dict[str, float]:
        """Compute the metrics on the main process.

        Args:
            struct: resources of the rows that this process has scored.
        """
        if self.divided:
            found = gather({key: struct.get(key) for key in OF_ROWS if key in struct})
            for key in found[0]:
                struct.set(key, in_order([share[key] for share in found if key in share]))
        return on_main(lambda: self.evaluator.evaluate(struct))


def share_of(loader: Any) -> Any:
    """Return a loader of this process's share of the rows, without padding.

    Args:
        loader: of all rows. It is returned itself where every process scores all rows: where processes divide the
            frozen weights, they must make the same passes.
    """
    if world() == 1 or shards() or not isinstance(loader, FairEvalDataLoader):
        return loader
    return loader.share(rank(), world())
