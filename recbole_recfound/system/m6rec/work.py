"""How the rows of one task of a run are computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour.options import ONLINE_ROW
from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.evaluation.by_user import RankingKeeper
from recbole_recfound.model.m6rec import M6Rec
from recbole_recfound.system.run import Job, Run


class Work(ABC):
    """One task of a run.

    Args:
        run: the run.
        config: settings of the task.
        splits: the data, with the loaders of its evaluation.
        model: the model of the task.
        name: of its row.
    """

    def __init__(self, run: Run, config: Config, splits: Splits, model: M6Rec, name: str) -> None:
        self.run, self.config, self.splits, self.model, self.name = run, config, splits, model, name

    @classmethod
    def validated_by(cls, config: Config) -> str | None:
        """Return the validation metric that chooses among the weights of the task; None: nothing is trained."""
        metric: str = config["valid_metric"]
        return metric

    def other_mode(self) -> dict[str, str]:
        """Return as `mode` in what the scores of the row differ from those of the table, if they do.

        That is what the task is ranked among, or that its texts count held-out rows.
        """
        own = self.splits.config["eval_args"]["mode"]["test"]
        parts = [own] * (own != self.run.protocol.rules["mode"]) + [ONLINE_ROW] * self.model.online
        return {"mode": ", ".join(parts)} if parts else {}

    def comparable(self, kept: RankingKeeper) -> list[float]:
        """Return the metric that chooses of each test user; [] where it is another one than in the table's other rows.

        Args:
            kept: the ranking of the test.
        """
        alike = not self.other_mode() and self.config["valid_metric"] == self.run.config["valid_metric"]
        return kept.by_user(self.config, self.splits.test_data) if alike else []

    def reserve(self, share: float) -> None:
        """Keep time for a task that is not trained, before others are.

        Args:
            share: most of the time that is left which it may keep.
        """

    @abstractmethod
    def jobs(self) -> Iterator[Job]:
        """Yield the rows of the task."""
