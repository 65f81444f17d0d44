"""ONNX graphs on disk."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from recbole_recfound.errors import ConfigError

WRITERS = ("onnx", "onnxscript")
"""Packages that writing a graph needs."""


def check_packages(subject: str, names: Sequence[str] = WRITERS) -> None:
    """Refuse to begin without the packages that are needed at the end.

    Args:
        subject: what needs them, at the beginning of the message.
        names: of the packages.

    Raises:
        ConfigError: some are not installed.
    """
    if missing := [name for name in names if find_spec(name) is None]:
        raise ConfigError(f"{subject} needs the packages {' and '.join(names)}: pip install {' '.join(missing)}")


def write_graph(
    module: nn.Module,
    example: tuple[torch.Tensor, ...],
    path: Path,
    inputs: Sequence[str],
    outputs: Sequence[str],
    shapes: dict[str, dict[int, torch.export.Dim]],
) -> None:
    """Write a module as an ONNX graph; a parameter that is used several times is written once.

    Args:
        module: in eval.
        example: arguments of its `forward`.
        path: of the file.
        inputs: names of the arguments.
        outputs: names of the results.
        shapes: dynamic dimensions of each input.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad():
        program = torch.onnx.export(
            module,
            example,
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_shapes=shapes,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(str(path))
