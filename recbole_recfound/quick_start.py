"""The public functions of the package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recbole_recfound.serving.recommender import Recommender
from recbole_recfound.system.execute import execute
from recbole_recfound.system.load import load_run
from recbole_recfound.system.request import Request


def run_recfound(
    model: str | None = None,
    dataset: str | None = None,
    config_file_list: Sequence[str] | None = None,
    config_dict: dict[str, Any] | None = None,
    saved: bool = True,
    baselines: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Train a model, compare it with RecBole's models under one protocol, and write a run folder.

    Args:
        model: a system of this package (`RecFound`, `IAK`, `M6Rec`), one registered elsewhere, or any of RecBole's
            models. None: `model` of `config_dict` or of the files, else RecFound.
        dataset: RecBole data set name, in the folder `data_path`. None: as for `model`, else ml-100k.
        config_file_list: YAML files, weakest first.
        config_dict: settings by key; they win over files.
        saved: keep weights and checkpoints in the run folder (results and report are always written).
        baselines: RecBole models for the table; None: the setting `baselines`.

    Returns:
        RecBole's four results (`best_valid_score`, `valid_score_bigger`, `best_valid_result`, `test_result`),
        `comparison` (rows of the table) and `run_dir`.

    Raises:
        ConfigError, DataError, BackboneError: raised before anything expensive starts.
        TrainingError: training cannot continue; the last good checkpoint stays.
    """
    return execute(Request.of(model, dataset, config_file_list, config_dict, baselines), saved)


def load_recfound(run_dir: str | Path, backbone: str | None = None, data_path: str | None = None) -> Recommender:
    """Load a finished run of a system of this package for serving.

    Args:
        run_dir: the run folder; of a run of RecFound, it and the backbone are enough.
        backbone: name or folder of the backbone (of IAK, of its base); None: the one that the run was trained with.
        data_path: where data sets lie, for known users (`user=`) and for all systems but RecFound; None: where they
            were for the run.

    Raises:
        ConfigError: no such run, or it cannot be served.
        DataError: data or files are missing or damaged.
    """
    return load_run(run_dir, backbone=backbone, data_path=data_path)
