"""The trained baselines of a run, beside its own model."""

from __future__ import annotations

from pathlib import Path

from recbole_recfound.baseline.saved import load_baseline
from recbole_recfound.errors import RecFoundError
from recbole_recfound.serving.data import record_of, tell_changes
from recbole_recfound.serving.recbole import RecBoleRecommender


def load_recommender(run_dir: str | Path, name: str, data_path: str | Path | None = None) -> RecBoleRecommender:
    """Load a model of RecBole that a run has trained.

    Args:
        run_dir: the run folder.
        name: of the model.
        data_path: where data sets lie; None: where they were for the run.

    Raises:
        ConfigError: the run has no such model.
        DataError: data or files are missing or damaged.
    """
    folder = Path(run_dir)
    record = record_of(folder)
    loaded = load_baseline(folder, name, data_path or Path(record["data_path"]).parent)
    tell_changes(record, folder, loaded.splits.config)
    return RecBoleRecommender(loaded.model, loaded.splits)


def load_baselines(
    run_dir: str | Path, data_path: str | Path | None = None
) -> tuple[dict[str, RecBoleRecommender], list[str]]:
    """Load all baselines of a run that can be loaded.

    Args:
        run_dir: the run folder.
        data_path: where data sets lie; None: where they were for the run.

    Returns:
        Recommenders by name, and a note on each that cannot be loaded.
    """
    found, notes = {}, []
    for folder in sorted((Path(run_dir) / "baselines").glob("*/")):
        try:
            found[folder.name] = load_recommender(run_dir, folder.name, data_path)
        except RecFoundError as error:
            notes.append(f"{folder.name} is not shown beside the run: {error}")
    return found, notes
