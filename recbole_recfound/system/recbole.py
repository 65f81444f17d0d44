"""RecBole's own models as systems: RecBole's trainer under the protocol of a run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbole_recfound.atomic.find import NO_DATASET
from recbole_recfound.baseline.recbole import check_package, check_stage, fit
from recbole_recfound.baseline.saved import save_baseline
from recbole_recfound.config.configurator import Config
from recbole_recfound.config.models import get_model
from recbole_recfound.config.property_files import defaults_beside_recbole
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.results import Row
from recbole_recfound.serving.baselines import load_recommender
from recbole_recfound.system.base import System
from recbole_recfound.system.run import Job


class RecBoleSystem(System):
    """One of RecBole's models."""

    @classmethod
    def check(cls, config: Config) -> None:
        """Refuse a run without interactions, and a training without validation."""
        if config["dataset"] == NO_DATASET:
            raise ConfigError(f"dataset: got none, but {cls.name} needs interactions")
        check_stage(config)
        check_package(config)

    def rows(self) -> Iterator[Job]:
        """Yield the model's row."""

        def compute() -> Row:
            run = self.run
            assert run.splits is not None
            state = run.folder.trainer_state / "training"
            with run.plan.phase("training and test"):
                row, model = fit(run.config, run.splits, run.plan.deadline(), run.watch, state=state)
            if run.saved:
                save_baseline(run.folder.path / "baselines" / self.name, model, run.splits, row)
            return row

        self.run.folder  # noqa: B018  (opened before training, so that the log is complete)
        yield Job(self.name, compute, resumable=False, alone=True)

    def finished(self) -> None:
        """Remove the state of the training; RecBole's own file of the best epoch stays."""
        shutil.rmtree(self._state, ignore_errors=True)

    @property
    def _state(self) -> Path:
        return self.run.folder.trainer_state / "training"

    def discard(self) -> None:
        """Remove the state of the training."""
        shutil.rmtree(self.run.folder.trainer_state, ignore_errors=True)

    @classmethod
    def load(cls, folder: Path, **options: Any) -> Any:
        """Load the trained model for serving; it needs the data set."""
        if options.get("backbone") and "backbone" not in defaults_beside_recbole(cls.name):
            raise ConfigError(f"backbone: {cls.name} has no language model")
        return load_recommender(folder, cls.name, options.get("data_path"))


def recbole_system(model: str) -> type[System]:
    """Return the system of one of RecBole's models.

    Raises:
        ConfigError: RecBole has no such model.
    """
    get_model(model)
    return type(model, (RecBoleSystem,), {"name": model})
