"""`--list_layers`: the sub-modules of a trained model, read from its weights alone."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from recbole_recfound.model.pretrained.families import FAMILIES


def layer_table(model: str, weights: Mapping[str, torch.Tensor]) -> str:
    """List sub-modules that have weights, with their shapes, and the default place.

    Args:
        model: the model's name.
        weights: its state dict.
    """
    shapes: dict[str, list[str]] = {}
    for name, weight in weights.items():
        module, _, leaf = name.rpartition(".")
        if module:
            shapes.setdefault(module, []).append(f"{leaf} {list(weight.shape)}")
    inner = {module.rpartition(".")[0] for module in shapes} - set(shapes) - {""}
    for module in inner:
        shapes[module] = ["(sub-modules)"]
    width = max([len(name) for name in shapes] or [0])
    place = FAMILIES[model].place if model in FAMILIES else "found by the model's kind"
    lines = [f"{model}: sub-modules that `layer` of kernel_args can name (their output; input:NAME for their input)"]
    lines += [f"  {name.ljust(width)}  {', '.join(found)}" for name, found in sorted(shapes.items())]
    return "\n".join([*lines, f"default: {place}"])
