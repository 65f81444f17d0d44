"""The base of IAK as a model, and the loader of its training rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from recbole.data.dataloader import TrainDataLoader
from recbole.data.dataset import Dataset
from recbole.data.utils import get_dataloader
from recbole.sampler import RepeatableSampler, Sampler
from torch import nn

from recbole_recfound.config.models import get_model
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.pretrained.checkpoint import BaseCheckpoint, load_weights


def make_base(dataset: Dataset, checkpoint: BaseCheckpoint | None, backbone: str | None = None) -> nn.Module:
    """Build the base, with the weights of its checkpoint or untrained.

    A model class with a `from_run(folder, dataset, backbone)` of its own loads itself from its run folder.

    Args:
        dataset: RecBole's built training set, with the base's settings.
        checkpoint: None: an untrained base.
        backbone: name or folder of the base's backbone; None: where it was for the base, or none.

    Raises:
        ConfigError: the checkpoint belongs to other data or another model, or the base has no backbone.
    """
    config = dataset.config
    model = get_model(config["model"])
    if checkpoint is not None and hasattr(model, "from_run"):
        return model.from_run(checkpoint.path, dataset, backbone)
    if backbone:
        raise ConfigError(f"backbone: the base {config['model']} has no language model: leave it out")
    base = model(config, dataset).to(config["device"])
    if checkpoint is not None:
        load_weights(base, checkpoint)
    return base


def training_loader(dataset: Dataset) -> Any:
    """Return RecBole's loader of the training rows; a base class may bring its own (`training_loader(dataset)`)."""
    config = dataset.config
    own = getattr(get_model(config["model"]), "training_loader", None)
    if own is not None:
        return own(dataset)
    negatives = config["train_neg_sample_args"]
    sampler = None
    if negatives["distribution"] != "none":
        distribution, alpha = negatives["distribution"], negatives["alpha"]
        if config["repeatable"]:
            sampler = RepeatableSampler(["train"], dataset, distribution, alpha)
        else:
            sampler = Sampler(["train"], [dataset], distribution, alpha)
        sampler = sampler.set_phase("train")
    loader = get_dataloader(config, "train")
    return (loader if issubclass(loader, TrainDataLoader) else TrainDataLoader)(config, dataset, sampler, shuffle=False)


def training_rows(base: nn.Module, dataset: Dataset) -> np.ndarray:
    """Return which training rows a kernel can learn from, bool [N]; all unless the base says otherwise.

    Args:
        base: the pretrained model.
        dataset: the N training rows.
    """
    rows = getattr(base, "training_rows", None)
    return np.ones(len(dataset), dtype=bool) if rows is None else rows(dataset)
