"""Add a system: models of your own in the table, from the settings in a YAML file to the report.

Importing this file registers the system; no file of the package is edited. Its keys stand in examples/RecentPop.yaml,
with their hints. It is then used like any other:

    python examples/add_a_system.py --config_files=examples/add_a_system.yaml

In a notebook, import this file and call `run_recfound(config_file_list=["examples/add_a_system.yaml"])`.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.trainer import Trainer
from recbole.utils import InputType

from recbole_recfound.cli import main
from recbole_recfound.evaluation.results import Row
from recbole_recfound.system.base import System
from recbole_recfound.system.registry import register_system
from recbole_recfound.system.run import Job


class RecentPop(GeneralRecommender):
    """Rank items by the number of their latest training interactions.

    Args:
        config: settings of the run.
        dataset: RecBole's training part.
        part: share of the training interactions, latest first, that is counted.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config: Any, dataset: Any, part: float) -> None:
        super().__init__(config, dataset)
        latest = dataset.inter_feat[config["TIME_FIELD"]].argsort(stable=True, descending=True)
        recent = latest[: max(1, round(part * len(latest)))]
        counts = torch.bincount(dataset.inter_feat[self.ITEM_ID][recent], minlength=self.n_items)
        self.register_buffer("counts", counts.float())
        self.fake_loss = torch.nn.Parameter(torch.zeros(1))  # RecBole's trainer needs a parameter, as in its own Pop

    def predict(self, interaction: Any) -> torch.Tensor:
        """Return the scores [B] of one item per row."""
        return self.counts[interaction[self.ITEM_ID]]

    def full_sort_predict(self, interaction: Any) -> torch.Tensor:
        """Return the scores [B, n_items] of all items."""
        return self.counts.repeat(len(interaction), 1)


@register_system("RecentPop", model=RecentPop, properties=Path(__file__).with_name("RecentPop.yaml"))
class RecentPopSystem(System):
    """Popularity in several parts of the training interactions; validation chooses the one that counts."""

    def rows(self) -> Iterator[Job]:
        """Yield one row for each value of the setting `recent_parts`."""
        self.run.folder  # noqa: B018  (opened before the first row, so that the log is complete)
        for part in self.run.config["recent_parts"]:
            yield Job(f"RecentPop {part:.0%}", lambda part=part: self._row(part))

    def choose(self, rows: Sequence[Row]) -> Row:
        """Return the best of the system's rows on the validation part."""
        metric = self.run.protocol.valid_metric.lower()
        own = [row for row in rows if row.model.startswith("RecentPop")]
        return max(own, key=lambda row: row.valid_metrics[metric])

    def details(self) -> dict[str, Any]:
        """Return further values for `results.json`."""
        return {"recent_parts": self.run.config["recent_parts"]}

    def _row(self, part: float) -> Row:
        config, splits = self.run.config, self.run.splits
        started = time.monotonic()
        model = RecentPop(config, splits.train_set, part).to(config["device"])
        trainer = Trainer(config, model)
        valid, test = (
            dict(trainer.evaluate(data, load_best_model=False, show_progress=config["show_progress"]))
            for data in (splits.valid_data, splits.test_data)
        )
        return Row(
            model=f"RecentPop {part:.0%}",
            metrics=test,
            valid_metrics=valid,
            train_seconds=0.0,
            eval_seconds=time.monotonic() - started,
            trainable_parameters=0,
            converged=True,  # nothing is trained
        )


if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
