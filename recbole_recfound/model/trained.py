"""The trained parameters of a model: by name, copied, and put back."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn

from recbole_recfound.errors import DataError


def trained_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return all trained parameters by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def layer_of(name: str) -> int | None:
    """Return the index of a parameter's decoder layer, by the parameter's name; None outside of layers."""
    match = re.search(r"\.layers\.(\d+)\.", name)
    return int(match[1]) if match else None


def trained_tensors(parameters: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Copy the trained parameters, detached."""
    return {name: weight.detach().clone() for name, weight in parameters.items()}


@torch.no_grad()
def load_trained(parameters: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> None:
    """Copy saved tensors into the parameters.

    Args:
        parameters: trained parameters by name, changed in place.
        tensors: saved values by the same names.

    Raises:
        DataError: names or shapes differ.
    """
    missing = set(parameters) ^ set(tensors)
    if missing:
        raise DataError(f"checkpoint and model differ in '{sorted(missing)[0]}': it belongs to other settings")
    for name, weight in parameters.items():
        if weight.shape != tensors[name].shape:
            raise DataError(f"checkpoint has '{name}' as {tuple(tensors[name].shape)}, the model {tuple(weight.shape)}")
        weight.copy_(tensors[name])
