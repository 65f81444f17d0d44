"""Writing and loading the trained parts of an M6-Rec run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from recbole_recfound.config.configurator import Config
from recbole_recfound.config.models import model_file
from recbole_recfound.config.property_files import read_settings
from recbole_recfound.config.shared import shared_settings
from recbole_recfound.data.split.digest import check_data, data_digest
from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.errors import DataError
from recbole_recfound.model.m6rec import TASKS, M6Rec
from recbole_recfound.model.pretrained.checkpoint import BaseCheckpoint
from recbole_recfound.model.reading.base import SegmentModel
from recbole_recfound.model.reading.generate import GenerateModel
from recbole_recfound.model.trained import load_trained
from recbole_recfound.runtime.run_folder import write_text
from recbole_recfound.runtime.tensor_files import save_tensors
from recbole_recfound.serving.data import splits_of
from recbole_recfound.serving.segments import SegmentRecommender

TRAINED, DOCUMENT = "options.safetensors", "m6rec.json"
"""Trained tensors of all tasks, and settings with the digests of backbone and data."""


def save_m6rec(folder: Path, config: Config, model: M6Rec, splits: Splits) -> None:
    """Write trained tensors, settings and digests of a task, beside those of tasks that were trained before.

    Args:
        folder: the run folder.
        config: settings of the task.
        model: of the task, at its best weights.
        splits: its data.
    """
    path = model_file(config["model"])
    assert path is not None
    own = {setting.key: config[setting.key] for setting in read_settings(path)}
    document: dict[str, Any] = {
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": config["seed"],
        "backbone": model.lm.fingerprint,
        "data": data_digest(splits),
        "tasks": [],
    }
    tensors: dict[str, torch.Tensor] = {}
    if (folder / DOCUMENT).exists():
        document = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
        tensors = load_file(folder / TRAINED)
    settings = {**shared_settings(config), **own, "m6rec_task": [model.task]}
    others = [task for task in document["tasks"] if task["name"] != model.option_set]  # of a run that was cut off
    document["tasks"] = [*others, {"name": model.option_set, "settings": settings}]
    if isinstance(model, SegmentModel):
        tensors |= {f"{model.option_set}/{name}": value for name, value in model.saved_state().items()}
    save_tensors(tensors, folder / TRAINED)
    write_text(folder / DOCUMENT, json.dumps(document, indent=1))


def load_m6rec(folder: Path, backbone: str | None = None, data_path: str | None = None) -> SegmentRecommender:
    """Load the first task of a finished run, and generate; texts and statistics are made from its data set.

    Args:
        folder: the run folder.
        backbone: where the backbone lies now; None: where it was for the run.
        data_path: where data sets lie; None: where they were for the run.

    Raises:
        DataError: data, files or the backbone are not those of the run.
    """
    document: dict[str, Any] = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
    tensors = load_file(folder / TRAINED)
    model: M6Rec | None = None
    writer: GenerateModel | None = None
    for task in document["tasks"]:
        if model is not None and not issubclass(TASKS[task["settings"]["m6rec_task"][0]], GenerateModel):
            continue  # the first task is served, and texts are written
        settings = {**task["settings"], **({"backbone": backbone} if backbone else {})}
        checkpoint = BaseCheckpoint(
            folder, document["model"], document["dataset"], document["seed"], settings, {}, True, None, document["data"]
        )
        found = splits_of(folder, checkpoint, {"seed": document["seed"]}, data_path)
        shared = None if model is None or model.changes_backbone else model
        loaded = M6Rec(found.config, found.train_set, beside=shared)
        if model is None:
            model, splits = loaded, found
            check_data(document["data"], splits, folder)
            if model.lm.fingerprint != document["backbone"]:
                raise DataError(
                    f"{folder} was trained on another backbone than {settings['backbone']}: load it with backbone=PATH "
                    "of its own"
                )
        own = {name.partition("/")[2]: value for name, value in tensors.items() if name.startswith(f"{task['name']}/")}
        if own:
            load_trained(loaded.saved_state(), own)
        if writer is None and isinstance(loaded, GenerateModel):
            writer = loaded.eval()
    assert model is not None, "a run has a task"
    return SegmentRecommender(model.eval(), splits, writer)
