"""What an evaluation costs beside the work that cannot be left out.

    python -m benchmarks.evaluation --json evaluation.json

Ratio:
    over_bare_encoding  a validation of ml-100k (masks, ranking, RecBole's collector and metrics) over encoding the same
                        users' histories in batches of the same size
"""

from __future__ import annotations

import sys
from tempfile import TemporaryDirectory

import torch

from benchmarks.frame import Mark, finish, in_turn, options
from benchmarks.prepared import Prepared, precision_of
from recbole_recfound.backbone import BUNDLED

MARKS = {"over_bare_encoding": Mark(1.2)}


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; 1 if the mark is missed."""
    given = options(__doc__, argv, 100.0, backbone=(BUNDLED, BUNDLED, "causal LM"))
    with TemporaryDirectory() as folder:
        settings = {"backbone": given.backbone, "precision": precision_of(given.dtype), "only_tasks": ["U2I"]}
        bench = Prepared("ml-100k", folder, settings)
        model, loader = bench.model, bench.splits.valid_data
        batches = [interaction for interaction, *_ in loader]

        @torch.no_grad()
        def encode() -> None:
            model.eval()
            with bench.trainer.accelerator.autocast():
                model.item_vectors()
                for rows in batches:
                    items, lengths = rows[model.history_field], rows[model.length_field]
                    model.user_vectors(items.to(bench.device), lengths.to(bench.device))

        bench.trainer.eval_collector.data_collect(bench.splits.train_data)
        sides = {"evaluation": lambda: bench.trainer.evaluate(loader, load_best_model=False), "encoding": encode}
        times = in_turn(sides, bench.device, given.seconds, least=2)
    return finish({"over_bare_encoding": times.ratio("evaluation", "encoding")}, MARKS, given, seconds=times.medians())


if __name__ == "__main__":
    sys.exit(main())
