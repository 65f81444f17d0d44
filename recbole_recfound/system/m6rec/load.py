"""Writing and loading the trained parts of an M6-Rec run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from recbole_recfound.config.configurator import Config
from recbole_recfound.config.models import model_file
from recbole_recfound.config.property_files import read_settings
from recbole_recfound.config.shared import shared_settings
from recbole_recfound.data.split.digest import check_data, data_digest
from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.errors import DataError
from recbole_recfound.model.m6rec import M6Rec, saved_state
from recbole_recfound.model.pretrained.checkpoint import BaseCheckpoint
from recbole_recfound.model.trained import load_trained
from recbole_recfound.runtime.run_folder import write_text
from recbole_recfound.runtime.tensor_files import save_tensors
from recbole_recfound.serving.data import splits_of
from recbole_recfound.serving.segments import SegmentRecommender

TRAINED, DOCUMENT = "options.safetensors", "m6rec.json"
"""Trained tensors, and settings with the digests of backbone and data."""


def save_m6rec(folder: Path, model: M6Rec, config: Config, splits: Splits) -> None:
    """Write trained tensors, settings and digests.

    Args:
        folder: the run folder.
        model: at its best weights.
        config: settings of the run.
        splits: its data.
    """
    path = model_file(config["model"])
    assert path is not None
    own = {setting.key: config[setting.key] for setting in read_settings(path)}
    document = {
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": config["seed"],
        "settings": {**shared_settings(config), **own},
        "segments": model.cache.digest,
        "data": data_digest(splits),
    }
    save_tensors(saved_state(model), folder / TRAINED)
    write_text(folder / DOCUMENT, json.dumps(document, indent=1))


def load_m6rec(folder: Path, backbone: str | None = None, data_path: str | None = None) -> SegmentRecommender:
    """Load a finished run; texts and statistics are made from its data set.

    Args:
        folder: the run folder.
        backbone: where the backbone lies now; None: where it was for the run.
        data_path: where data sets lie; None: where they were for the run.

    Raises:
        DataError: data, files or the backbone are not those of the run.
    """
    document: dict[str, Any] = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
    settings = {**document["settings"], **({"backbone": backbone} if backbone else {})}
    checkpoint = BaseCheckpoint(
        folder, document["model"], document["dataset"], document["seed"], settings, {}, True, None, document["data"]
    )
    splits = splits_of(folder, checkpoint, {"seed": document["seed"]}, data_path)
    check_data(document["data"], splits, folder)
    model = M6Rec(splits.config, splits.train_set)
    if model.cache.digest != document["segments"]:
        raise DataError(
            f"{folder} was trained on another backbone than {settings['backbone']}: load it with backbone=PATH of its "
            "own"
        )
    load_trained(saved_state(model), load_file(folder / TRAINED, device=str(model.device)))
    return SegmentRecommender(model.eval(), splits)
