"""Loading a finished IAK run for serving."""

from __future__ import annotations

from pathlib import Path

from recbole_recfound.config.configurator import Config
from recbole_recfound.model.iak import IAK
from recbole_recfound.model.kernel.files import load_kernels, read_document
from recbole_recfound.model.pretrained import base_hash, read_base
from recbole_recfound.model.pretrained.make import make_base
from recbole_recfound.serving.data import splits_of
from recbole_recfound.serving.domains import DomainRecommender


def load_iak(folder: Path, data_path: str | None = None) -> DomainRecommender:
    """Load a finished IAK run with its base.

    Args:
        folder: the run folder.
        data_path: where data sets lie; None: where they were for the run.

    Raises:
        ConfigError: the base has changed since the kernels were trained.
        DataError: data or files are missing or damaged.
    """
    document, tensors = read_document(folder)
    checkpoint = read_base(folder / document["base"], False)
    splits = splits_of(folder, checkpoint, {"seed": document["seed"]}, data_path)
    base = make_base(splits.train_set, checkpoint)
    shared = {key: splits.config[key] for key in ("use_gpu", "gpu_id", "seed")}
    data_path = str(Path(splits.config["data_path"]).parent)
    config = Config("IAK", splits.config["dataset"], None, {**document["settings"], **shared, "data_path": data_path})
    model = IAK(config, splits.train_set, base, document)
    load_kernels(model, document, tensors, base_hash(base, splits.config["model"]))
    return DomainRecommender(model, splits, config["valid_metric"])
