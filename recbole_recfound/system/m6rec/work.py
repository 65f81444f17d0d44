"""How the rows of one task of a run are computed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import Splits
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

    @abstractmethod
    def jobs(self) -> Iterator[Job]:
        """Yield the rows of the task."""
