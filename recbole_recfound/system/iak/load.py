"""Loading a finished IAK run for serving."""

from __future__ import annotations

from pathlib import Path

from recbole_recfound.config.configurator import Config
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.iak import IAK
from recbole_recfound.model.kernel.files import load_kernels, read_document
from recbole_recfound.model.pretrained import base_hash, read_base
from recbole_recfound.model.pretrained.make import make_base
from recbole_recfound.serving.data import splits_of
from recbole_recfound.serving.domains import DomainRecommender


def load_iak(folder: Path, backbone: str | None = None, data_path: str | None = None) -> DomainRecommender:
    """Load a finished IAK run with its base.

    Args:
        folder: the run folder.
        backbone: name or folder of the base's backbone; None: the one that the base was trained with.
        data_path: where data sets lie; None: where they were for the run.

    Raises:
        ConfigError: the base is missing, has changed since the kernels were trained, or has no backbone.
        DataError: data or files are missing or damaged.
    """
    document, tensors = read_document(folder)
    checkpoint = read_base(_base_of(folder, document["base"]), False)
    splits = splits_of(folder, checkpoint, {"seed": document["seed"]}, data_path)
    base = make_base(splits.train_set, checkpoint, backbone)
    shared = {key: splits.config[key] for key in ("use_gpu", "gpu_id", "seed")}
    data_path = str(Path(splits.config["data_path"]).parent)
    config = Config("IAK", splits.config["dataset"], None, {**document["settings"], **shared, "data_path": data_path})
    model = IAK(config, splits.train_set, base, document)
    load_kernels(model, document, tensors, base_hash(base, splits.config["model"]))
    return DomainRecommender(model, splits, config["valid_metric"])


def _base_of(folder: Path, named: str) -> Path:
    """Return the folder of a run's base: where it was for the run, or of the same name beside the run.

    A base is a run, or the folder `base` or `baselines/NAME` of one. Its weights are compared with those of the run
    when it is loaded, so that another one of this name is refused.

    Args:
        folder: the run folder.
        named: path of the base in the run's metadata, relative for a base inside of the run.

    Raises:
        ConfigError: there is none.
    """
    path = folder / named
    if path.exists() or not Path(named).is_absolute():
        return path
    around = folder.resolve().parent
    for depth in (3, 2, 1):
        beside = around.joinpath(*path.parts[-depth:])
        if beside.exists():
            return beside
    raise ConfigError(
        f"{folder}: got no folder {path}, expected the base of the run. Move the base beside it, to {around}"
    )
