"""Writing and loading the trained parts of an M6-Rec run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from recbole_recfound.config.configurator import Config
from recbole_recfound.config.models import model_file
from recbole_recfound.config.property_files import read_settings
from recbole_recfound.config.shared import shared_settings
from recbole_recfound.data.split.digest import data_digest
from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.errors import DataError
from recbole_recfound.model.m6rec import M6Rec
from recbole_recfound.model.pretrained.checkpoint import BaseCheckpoint
from recbole_recfound.model.reading.base import SegmentModel
from recbole_recfound.model.reading.generate import GenerateModel
from recbole_recfound.model.trained import load_trained
from recbole_recfound.runtime.run_folder import write_text
from recbole_recfound.runtime.tensor_files import save_tensors
from recbole_recfound.serving.data import splits_of
from recbole_recfound.serving.segments import SegmentRecommender

TEXTS = 3
"""Version of the texts that models are trained on: 2 has ratings where 1 had labels made of them, 3 exact times."""
DOCUMENT = "m6rec.json"
"""Settings of all tasks, with the digests of backbone and data."""
TENSORS = "options.safetensors"
"""End of the name of the file with a task's trained tensors."""


def save_tensors_of(folder: Path, model: SegmentModel) -> Path:
    """Write the trained tensors of a task and return the file.

    Args:
        folder: the run folder.
        model: of the task, at its best weights.
    """
    path = folder / _tensors_of(model)
    save_tensors(model.saved_state(), path)
    return path


def load_tensors_of(folder: Path, model: SegmentModel) -> None:
    """Give a task the trained tensors of a run folder.

    Args:
        folder: the run folder.
        model: of the task.
    """
    load_trained(model.saved_state(), load_file(folder / _tensors_of(model)))


def save_document(folder: Path, tasks: Sequence[tuple[Config, M6Rec]], splits: Splits) -> None:
    """Write settings and digests of a run.

    Args:
        folder: the run folder.
        tasks: settings and model of each task.
        splits: the data.
    """
    config, model = tasks[0]
    document = {
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": config["seed"],
        "texts": TEXTS,
        "backbone": model.lm.fingerprint,
        "data": data_digest(splits),
        "tasks": [_entry(*task) for task in tasks],
    }
    write_text(folder / DOCUMENT, json.dumps(document, indent=1))


def _entry(config: Config, model: M6Rec) -> dict[str, Any]:
    """Return name and settings of a task."""
    path = model_file(config["model"])
    assert path is not None
    own = {setting.key: config[setting.key] for setting in read_settings(path)}
    if Path(own["backbone"]).exists():  # found from any working directory
        own["backbone"] = str(Path(own["backbone"]).resolve())
    settings = {**shared_settings(config), **own, "m6rec_task": [model.task]}
    return {"name": model.option_set, "settings": settings}


def _tensors_of(model: M6Rec) -> str:
    """Return the name of the file with the trained tensors of a task."""
    return f"{model.option_set}.{TENSORS}"


def load_m6rec(folder: Path, backbone: str | None = None, data_path: str | None = None) -> SegmentRecommender:
    """Load the tasks of a finished run; texts and statistics are made from its data set.

    Of a task that was tuned in several ways the first one is loaded.

    Args:
        folder: the run folder.
        backbone: where the backbone lies now; None: where it was for the run.
        data_path: where data sets lie; None: where they were for the run.

    Raises:
        DataError: data, files or the backbone are not those of the run.
    """
    document: dict[str, Any] = json.loads((folder / DOCUMENT).read_text(encoding="utf-8"))
    if document.get("texts") != TEXTS:
        raise DataError(
            f"{folder} was trained on texts of an earlier version, which are made otherwise now: run it again"
        )
    loaded: dict[str, tuple[M6Rec, Splits]] = {}
    for task in document["tasks"]:
        name = task["settings"]["m6rec_task"][0]
        if name in loaded:
            continue
        settings = {**task["settings"], **({"backbone": backbone} if backbone else {})}
        data = None if loaded else document["data"]  # the digests are those of the first task's split
        named = document["model"], document["dataset"], document["seed"]
        checkpoint = BaseCheckpoint(folder, *named, settings, {}, True, data=data)
        splits = splits_of(folder, checkpoint, {"seed": document["seed"]}, data_path)
        shared = next((other for other, _ in loaded.values() if not other.changes_backbone), None)
        model = M6Rec(splits.config, splits.train_set, beside=shared)
        if not loaded:
            if model.lm.fingerprint != document["backbone"]:
                raise DataError(
                    f"{folder} was trained on another backbone than {settings['backbone']}: load it with backbone=PATH "
                    "of its own"
                )
        if isinstance(model, SegmentModel):
            try:
                load_tensors_of(folder, model)
            except DataError as error:
                raise DataError(
                    f"{folder} does not fit the texts of {document['dataset']} as they are now ({error}): use the "
                    "files it was trained on, or run it again"
                ) from None
        loaded[name] = model.eval(), splits
    writer = next((model for model, _ in loaded.values() if isinstance(model, GenerateModel)), None)
    ranking = [each for each in loaded.values() if each[0] is not writer] or list(loaded.values())
    first, *others = (SegmentRecommender(model, splits, writer) for model, splits in ranking)
    return first.beside({other.model.task: other for other in others})
