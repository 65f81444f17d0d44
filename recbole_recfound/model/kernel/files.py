"""Kernels on disk: safetensors, and metadata with the hash of their base."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from recbole_recfound.config.configurator import Config
from recbole_recfound.errors import ConfigError, DataError, cause_of
from recbole_recfound.model.iak import IAK
from recbole_recfound.model.kernel.options import KernelOptions
from recbole_recfound.model.pretrained.families import family_of
from recbole_recfound.runtime.finished import check_run
from recbole_recfound.runtime.tensor_files import save_tensors

KERNELS = "kernels.safetensors"
CHOSEN = "chosen.json"
OF_THE_KERNELS = ("domain", "kernel_args", "iak_args", "control")
"""Settings that rebuild a model with kernels around its base."""


def save_kernels(model: IAK, path: Path) -> None:
    """Write the banks alone: what a deployment adds to a base it has already.

    Args:
        model: whose banks are written, from any device.
        path: safetensors file to write.
    """
    save_tensors(model.banks.state_dict(), path)


def kernel_document(model: IAK, config: Config, digest: str, base: Path, folder: Path) -> dict[str, Any]:
    """Return the metadata of the kernels, to be saved as JSON.

    Args:
        model: with trained kernels.
        config: of the run.
        digest: the base's hash.
        base: path of the base.
        folder: the run's folder; the path of a base inside of it is relative.
    """
    inside = base.is_relative_to(folder)
    return {
        "base": os.path.relpath(base, folder) if inside else str(base.resolve()),
        "base_hash": digest,
        "seed": config["seed"],
        "settings": {key: config[key] for key in OF_THE_KERNELS},
        "sizes": [
            [[bank.encoder_bias.shape[1], bank.code_size, bank.aux_size] for bank in kernels.places]
            for kernels in model.banks
        ],
        "domains": [
            {"text": found.text, "names": list(found.names), "edges": list(found.edges)} for found in model.domains
        ],
    }


def read_document(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read the kernels that a run chose.

    Args:
        folder: an IAK run's folder.

    Raises:
        ConfigError: not a finished IAK run.
        DataError: a file is damaged.
    """
    check_run(folder)
    if not (folder / CHOSEN).is_file():
        raise ConfigError(f"{folder} is not a finished IAK run (it has no {CHOSEN})")
    try:
        path = folder / json.loads((folder / CHOSEN).read_text())["kernels"]
        document = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        # A folder brings no other settings than those that it was written with.
        document["settings"] = {key: document["settings"][key] for key in OF_THE_KERNELS}
        return document, load_file(path)
    except Exception as error:
        raise DataError(f"{folder}: the kernels cannot be read ({cause_of(error)})") from None


def load_kernels(model: IAK, document: dict[str, Any], tensors: dict[str, torch.Tensor], digest: str) -> None:
    """Give a model the kernels of a run.

    Args:
        model: with banks of the same sizes.
        document: metadata from `read_document`.
        tensors: weights from `read_document`.
        digest: hash of the model's base.

    Raises:
        ConfigError: the kernels belong to another base.
    """
    if document["base_hash"] != digest:
        raise ConfigError(
            f"the kernels belong to another base (hash {document['base_hash'][:12]}, this one is {digest[:12]}): "
            "train them again; iak_args: {warm_start: FOLDER} starts from these"
        )
    model.banks.load_state_dict(tensors)


@torch.no_grad()
def warm_start(model: IAK, folder: Path) -> None:
    """Start from an earlier run's kernels, matched by domain name; new domains start from their mean.

    Args:
        model: its banks are initialised in place; its base may differ from the earlier run's.
        folder: the earlier run.

    Raises:
        ConfigError: the domains, sizes, kinds or places differ.
    """
    document, tensors = read_document(folder)
    _check_kind(model, KernelOptions.of(document["settings"]["kernel_args"], f"{folder}: kernel_args"), folder)
    earlier = {record["text"]: number for number, record in enumerate(document["domains"])}
    for domains, bank in zip(model.domains, model.banks, strict=True):
        if domains.text not in earlier:
            raise ConfigError(
                f"iak_args: warm_start: {folder} has kernels for {', '.join(earlier)}, not for {domains.text}"
            )
        source = earlier[domains.text]
        row_of = {name: row for row, name in enumerate(document["domains"][source]["names"])}
        rows = torch.tensor([row_of.get(name, -1) for name in domains.names])
        on = tensors[f"{source}._banks.0.enabled"]
        for name, weight in bank.named_parameters():
            theirs = tensors.get(f"{source}.{name}")
            if theirs is None or theirs.shape[1:] != weight.shape[1:]:
                raise ConfigError(f"iak_args: warm_start: {folder} has kernels of another size or kind ({name})")
            mean = theirs[on].mean(0) if on.any() else weight[0].cpu()
            known = (rows >= 0).view(-1, *[1] * (weight.dim() - 1))
            weight.copy_(torch.where(known, theirs[rows.clamp(min=0)], mean).to(weight.device))


def _check_kind(model: IAK, earlier: KernelOptions, folder: Path) -> None:
    """Check that the tensors of an earlier run mean the same in a model: kernels of one kind, at the same places.

    Raises:
        ConfigError: they do not; kernels of other sizes have tensors of other shapes.
    """
    own = model.options
    places = [attachment.place for attachment in model.attachments]
    kinds: dict[str, tuple[Any, Any]] = {
        "layer": ([_place(model, layer) for layer in earlier.layers], places),
        "combine": (earlier.combine, own.combine),
        "stochastic": (earlier.stochastic, own.stochastic),
    }
    if own.stochastic:
        kinds["prior"] = (earlier.prior, own.prior)
    for name, (theirs, ours) in kinds.items():
        if theirs != ours:
            raise ConfigError(
                f"iak_args: warm_start: {folder} has kernels of another kind (kernel_args: {name}: got {ours}, "
                f"expected {theirs})"
            )


def _place(model: IAK, layer: str | None) -> str | None:
    """Return the place that `layer` of `kernel_args` names in a model; None: the base has no place of its own."""
    try:
        return family_of(type(model.base).__name__, model.base, layer).place
    except ConfigError:
        return None
