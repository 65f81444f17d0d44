"""The trained models of a table, kept without pickles: written by a run, loaded by its name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from recbole.utils import ModelType, init_seed
from safetensors.torch import load_file
from scipy import sparse
from torch import nn

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.digest import check_data, data_digest
from recbole_recfound.data.split.protocol import Splits, build_splits
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.results import Row
from recbole_recfound.model.pretrained import read_base
from recbole_recfound.model.pretrained.checkpoint import write_base
from recbole_recfound.model.pretrained.make import make_base
from recbole_recfound.runtime.file_digests import whole_folder
from recbole_recfound.runtime.tensor_files import save_tensors

ATTRIBUTES, FORMS = "attributes.safetensors", "attributes.json"
"""Tensors and matrices of a model that are no parameters, and the form of each."""


@dataclass(frozen=True)
class LoadedBaseline:
    """A trained model of a table.

    Attributes:
        model: in eval, as it was tested.
        splits: its data; `splits.config` are its settings.
    """

    model: nn.Module
    splits: Splits


def save_baseline(folder: Path, model: nn.Module, splits: Splits, row: Row) -> None:
    """Write a trained RecBole model; the folder is a base of IAK as well (`base_checkpoint`).

    Models without gradients (ItemKNN, EASE, Pop) keep what they learned in attributes: all their tensors, arrays and
    sparse matrices are written too. Decision trees are no tensors, and nothing is written of them.

    Args:
        folder: written whole or not at all.
        model: at its best checkpoint.
        splits: its data, with its settings.
        row: of the table.
    """
    config = splits.config
    if config["MODEL_TYPE"] == ModelType.DECISIONTREE:
        return
    tensors: dict[str, torch.Tensor] = {}
    forms: dict[str, Any] = {}
    if config["MODEL_TYPE"] == ModelType.TRADITIONAL:
        for name, value in vars(model).items():
            if isinstance(value, (torch.Tensor, np.ndarray)) or sparse.issparse(value):
                forms[name] = _take_apart(name, value, tensors)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with whole_folder(folder) as partial:
        write_base(partial, model, config, config["seed"], None, data_digest(splits), row.training)
        save_tensors(tensors, partial / ATTRIBUTES)
        document = {"repeatable": config.repeats, "attributes": forms}
        (partial / FORMS).write_text(json.dumps(document, indent=1), encoding="utf-8")


def load_baseline(run_dir: str | Path, name: str, data_path: str | Path) -> LoadedBaseline:
    """Load a baseline of a finished run as it was tested.

    Args:
        run_dir: the run folder; the model lies in its `baselines/`.
        name: RecBole's name of the model.
        data_path: where data sets lie.

    Raises:
        ConfigError: the run has no such model.
        DataError: files are damaged, or the data are not those that it was trained on.
    """
    folder = Path(run_dir) / "baselines" / name
    if not folder.is_dir():
        raise ConfigError(f"{run_dir} has no trained {name} (no folder baselines/{name})")
    checkpoint = read_base(folder, False)
    document = json.loads((folder / FORMS).read_text(encoding="utf-8"))
    changes = {"show_progress": False, "data_path": str(data_path), "seed": checkpoint.seed}
    if document["repeatable"]:
        changes |= {"repeatable": True, "mask_history": False}
    config = Config(checkpoint.model, checkpoint.dataset, None, {**checkpoint.settings, **changes}, is_base=True)
    init_seed(checkpoint.seed, config["reproducibility"])
    splits = build_splits(config)
    check_data(checkpoint.data, splits, folder)
    model = make_base(splits.train_set, checkpoint)
    tensors = load_file(folder / ATTRIBUTES)
    for attribute, form in document["attributes"].items():
        setattr(model, attribute, _put_together(attribute, form, tensors, config["device"]))
    return LoadedBaseline(model.eval(), splits)


def _take_apart(name: str, value: Any, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Add a value's tensors to `tensors`, and return the form that puts it together again."""
    if isinstance(value, torch.Tensor):
        tensors[name] = value.detach().clone()
        return {"kind": "tensor"}
    if isinstance(value, np.ndarray):
        tensors[name] = torch.from_numpy(np.array(value))
        return {"kind": "matrix" if isinstance(value, np.matrix) else "array"}
    rows = value.tocsr()
    for part in ("data", "indices", "indptr"):
        tensors[f"{name}.{part}"] = torch.from_numpy(np.array(getattr(rows, part)))
    return {"kind": "sparse", "format": value.format, "shape": list(rows.shape)}


def _put_together(name: str, form: dict[str, Any], tensors: dict[str, torch.Tensor], device: torch.device) -> Any:
    if form["kind"] == "sparse":
        parts = [tensors[f"{name}.{part}"].numpy() for part in ("data", "indices", "indptr")]
        return sparse.csr_matrix(tuple(parts), shape=tuple(form["shape"])).asformat(form["format"])
    if form["kind"] == "tensor":
        return tensors[name].to(device)
    return np.asmatrix(tensors[name].numpy()) if form["kind"] == "matrix" else tensors[name].numpy()
