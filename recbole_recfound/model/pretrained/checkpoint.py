"""Checkpoints of trained models: RecBole's pickles (only when trusted), and our own folders of safetensors and JSON."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from recbole_recfound.atomic.dataset import ROUNDED
from recbole_recfound.compat.unpickling import OPENED, load_tensors, trust_checkpoint
from recbole_recfound.config.configurator import Config
from recbole_recfound.config.settings import check_value
from recbole_recfound.errors import ConfigError, DataError, cause_of
from recbole_recfound.runtime.file_digests import check_digests
from recbole_recfound.runtime.finished import check_run
from recbole_recfound.runtime.run_folder import CONFIG
from recbole_recfound.runtime.tensor_files import save_tensors

WEIGHTS, SETTINGS = "base.safetensors", "base.json"
OF_THE_RUN = {
    "base_checkpoint",
    "base_model",
    "trust_checkpoint",
    "list_layers",
    "domain",
    "baselines",
    "baseline_args",
    "baseline_time_budget",
    "config_files",
    "config_file",
    "model",
    "dataset",
    "data_path",
    "checkpoint_dir",
    "output_dir",
    "resume",
    "time_budget",
    "device",
    "use_gpu",
    "gpu_id",
    "show_progress",
    "state",
    "single_spec",
    "local_rank",
    "world_size",
    "nproc",
    "log_wandb",
    "eval_type",
    "valid_metric_bigger",
    "seed",
    "repeatable",
    "save_dataset",
    "dataset_save_path",
    "save_dataloaders",
    "dataloaders_save_path",
    "use_pretrain",
    *OPENED,
}
"""Settings that belong to a run and not to the model it trained; a folder or a pickle never brings them."""


@dataclass(frozen=True)
class BaseCheckpoint:
    """A trained model with its settings.

    Attributes:
        path: where it lies.
        model: its name.
        dataset: what it was trained on.
        seed: with which the data were split.
        settings: the settings that make the same model and the same split again.
        weights: its state dict; {} for a RecFound run, whose parts `base.recfound` loads.
        kept: whether it is a folder that may be named again (not a pickle).
        share: part of the training rows that it has seen (`base_share` of `iak_args`), or None for all.
        data: digests of the data it was trained on (`data.split.digest`); None: not known (RecBole's pickles).
        training: `converged` and `note` of the row of its training; None: not known.
    """

    path: Path
    model: str
    dataset: str
    seed: int
    settings: dict[str, Any]
    weights: dict[str, torch.Tensor]
    kept: bool
    share: float | None = None
    data: Mapping[str, str] | None = None
    training: Mapping[str, Any] | None = None


def read_base(path: str | Path, trust: bool) -> BaseCheckpoint:
    """Read a checkpoint without touching any data set.

    Args:
        path: a RecBole `.pth`, a folder written by `write_base` (or a run folder that holds one as `base/`), or a
            RecFound run.
        trust: whether a pickle may be opened: opening one runs whatever code it holds.

    Raises:
        ConfigError: there is nothing, or a pickle is not trusted.
        DataError: it is not a checkpoint.
    """
    path = Path(path)
    if not path.exists():
        raise ConfigError(f"base_checkpoint: {path} does not exist")
    if path.is_file():
        if not trust:
            raise ConfigError(
                f"base_checkpoint: {path} is a pickle, which can run any code when opened. Add --trust_checkpoint "
                "if you trust its source"
            )
        trust_checkpoint(path)
        return _read_pickle(path)
    folder = path if (path / SETTINGS).is_file() else path / "base"
    if (folder / SETTINGS).is_file():
        try:
            check_digests(folder)
            record = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
            weights = load_file(folder / WEIGHTS)
            share = record.get("share")
            settings = _settings_of(record["settings"])
            named = record["model"], record["dataset"], record["seed"]
            data, training = record["data"], record.get("training")
            return BaseCheckpoint(folder, *named, settings, weights, True, share, data, training)
        except Exception as error:
            raise DataError(
                f"{folder}: the base is damaged ({cause_of(error)}): restore it, or train it again"
            ) from None
    if (path / "adapter").is_dir() and (path / CONFIG).is_file():
        results = check_run(path)
        if not (path / "item_embeddings.safetensors").is_file():
            raise ConfigError(f"{path}: the run was trained without U2I on a data set and ranks nothing")
        try:
            record = yaml.safe_load((path / CONFIG).read_text(encoding="utf-8"))
            data = json.loads((path / "model.json").read_text(encoding="utf-8")).get("data")
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise DataError(f"{path / CONFIG} cannot be read ({error})") from None
        named = record["model"], record["dataset"], record["seed"]
        training = _training_of(results)
        return BaseCheckpoint(path, *named, _settings_of(record), {}, True, data=data, training=training)
    raise DataError(f"base_checkpoint: {path} is neither a RecBole .pth file, nor a base, nor a RecFound run")


def _training_of(results: Mapping[str, Any]) -> dict[str, Any]:
    """Return `BaseCheckpoint.training` of a RecFound run; the note of its row is about merging."""
    model = results["model"]
    row = next(row for row in results["rows"] if row["model"].partition(",")[0] == model)
    return {"converged": row["converged"], "note": "" if row["converged"] else "not converged"}


def _read_pickle(path: Path) -> BaseCheckpoint:
    try:
        saved = load_tensors(path, map_location=lambda storage, _: storage)
        config, weights = saved["config"], saved["state_dict"]
        settings = dict(config.final_config_dict)
    except Exception as error:
        raise DataError(f"{path}: not a checkpoint of RecBole ({type(error).__name__}: {error})") from None
    share = (settings.get("iak_args") or {}).get("base_share")
    kept = {"order_ties": ROUNDED} | _settings_of(settings)  # RecBole without this package has no such key
    return BaseCheckpoint(path, config["model"], config["dataset"], settings["seed"], kept, dict(weights), False, share)


def _settings_of(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run that a new Config takes."""
    plain = str | int | float | bool | list | dict | None
    kept = {}
    for key, value in settings.items():
        if key in OF_THE_RUN or key.startswith(("iak_", "MODEL_")) or not isinstance(value, plain):
            continue
        if key == "train_neg_sample_args" and isinstance(value, dict) and value.get("distribution") == "none":
            continue  # RecBole's word for None, which it does not read itself
        try:
            kept[key] = check_value(key, value)
        except ConfigError:
            continue  # a key of another RecBole, or one that RecBole sets itself
    return kept


def load_weights(base: nn.Module, checkpoint: BaseCheckpoint) -> None:
    """Give a model the weights of a checkpoint.

    Args:
        base: the model, changed in place.
        checkpoint: a trained model of the same kind.

    Raises:
        ConfigError: they belong to another model or other data.
    """
    own = base.state_dict()
    for name in sorted(set(own) | set(checkpoint.weights)):
        theirs = checkpoint.weights.get(name)
        if name not in own or theirs is None or theirs.shape != own[name].shape:
            shapes = [list(tensor.shape) if tensor is not None else "missing" for tensor in (theirs, own.get(name))]
            raise ConfigError(
                f"base_checkpoint: {name} is {shapes[0]} in {checkpoint.path} and {shapes[1]} for this data set: "
                f"the data, load_col or filters are not those it was trained on"
            )
    base.load_state_dict(checkpoint.weights)


def write_base(
    folder: Path,
    base: nn.Module,
    config: Config,
    seed: int,
    share: float | None,
    data: Mapping[str, str],
    training: Mapping[str, Any] | None,
) -> None:
    """Write a trained model without pickles, so that it can be a base again.

    Args:
        folder: of `whole_folder`.
        base: the model.
        config: its settings.
        seed: of the split.
        share: share of the training rows it has seen; None: all.
        data: digests of the data it was trained on.
        training: `converged` and `note` of the row of its training; None: not known.
    """
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in base.state_dict().items()}
    record = {
        "model": config["model"],
        "dataset": config["dataset"],
        "seed": seed,
        "share": share,
        "data": dict(data),
        "training": training,
        "settings": _settings_of(config.final_config_dict),
    }
    save_tensors(weights, folder / WEIGHTS)
    (folder / SETTINGS).write_text(json.dumps(record, indent=1), encoding="utf-8")


def base_hash(base: nn.Module, model: str) -> str:
    """Hash the name and weights of a base, which its kernels depend on.

    Args:
        base: the model.
        model: its name.
    """
    digest = hashlib.sha256(model.encode())
    for name, tensor in sorted(base.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
