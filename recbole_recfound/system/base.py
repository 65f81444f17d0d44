"""The interface of a published system: settings, rows of the table, report and serving."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from recbole.utils import init_seed

from recbole_recfound.atomic.find import NO_DATASET
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import Splits, build_splits, check_labels, check_topk, with_side_files
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.report.card import render_card
from recbole_recfound.evaluation.report.page import render_report
from recbole_recfound.evaluation.results import Row
from recbole_recfound.system.request import Request
from recbole_recfound.system.run import Job, Run


class System(ABC):
    """Configuration, computation, report and loading of a published system.

    A run makes one instance. All input is validated by `check` (settings alone), `open_data` and `__init__` (data and
    backbone), before the first job starts.

    Args:
        run: settings, data, clock and folder.
    """

    name: ClassVar[str]

    def __init__(self, run: Run) -> None:
        self.run = run

    @classmethod
    def configure(cls, request: Request) -> Config:
        """Return the settings of a run."""
        return Config(cls.name, request.dataset, None, request.settings)

    @classmethod
    def variants(cls, config: Config) -> dict[str, dict[str, Any]]:
        """Return ablations and controls for the long table: name -> changed settings."""
        return {}

    @classmethod
    def row_name(cls, config: Config) -> str:
        """Return the name of the system's own row in the table."""
        return config["model"]

    @classmethod
    def validated_by(cls, config: Config) -> str | None:
        """Return the validation metric that chooses among the system's own weights; None: nothing is validated."""
        metric: str = config["valid_metric"]
        return metric

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuse settings that cannot work, before any data are read.

        Raises:
            ConfigError: names the keys.
        """

    @classmethod
    def open_data(cls, config: Config) -> Splits | None:
        """Read and split the data set; None where all tasks come from JSON-lines files.

        Raises:
            ConfigError: settings that do not fit the data.
            DataError: missing or malformed data.
        """
        init_seed(config["seed"], config["reproducibility"])
        if config["dataset"] == NO_DATASET:
            return None
        splits = build_splits(config)
        check_topk(splits)
        check_labels(splits)
        return cls.with_side_files(splits)

    @classmethod
    def with_side_files(cls, splits: Splits) -> Splits:
        """Compare .item and .user with the interactions, and note what was found.

        Raises:
            DataError: a file that the system needs does not fit.
        """
        return with_side_files(splits)

    def baselines(self) -> Iterator[Job]:
        """Yield the rows of RecBole's own models, in the order of the setting `baselines`."""
        yield from self.run.baseline_jobs()

    @abstractmethod
    def rows(self) -> Iterator[Job]:
        """Yield the system's own rows, in the order of the table."""

    def choose(self, rows: Sequence[Row]) -> Row:
        """Return the row whose metrics are RecBole's four results; by default the last one."""
        return rows[-1]

    def details(self) -> dict[str, Any]:
        """Return JSON values for `results.json` and the report, besides the rows; `run` is a dict of facts."""
        return {}

    def lines(self, results: dict[str, Any]) -> Iterable[str]:
        """Return lines to print below the table.

        Args:
            results: the content of `results.json`.
        """
        return ()

    def report(self, results: dict[str, Any]) -> str:
        """Return the HTML page of the run.

        Args:
            results: the content of `results.json`.
        """
        return render_report(results)

    def card(self, results: dict[str, Any], chosen: Row) -> str:
        """Return the model card of the run, Markdown.

        Args:
            results: the content of `results.json`.
            chosen: the row of `choose`.
        """
        return render_card(results, chosen.model)

    def finished(self) -> None:
        """Remove what only an unfinished run needs."""

    def discard(self) -> None:
        """Remove weights and checkpoints from the run folder (`saved=False`)."""

    @classmethod
    def load(cls, folder: Path, **options: Any) -> Any:
        """Load a finished run for serving.

        Args:
            folder: the run folder.
            options: `backbone` and `data_path` of `load_recfound`.

        Raises:
            ConfigError: runs of this system cannot be served.
        """
        raise ConfigError(f"{folder}: runs of {cls.name} cannot be loaded for serving")
