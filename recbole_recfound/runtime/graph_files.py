"""ONNX graphs on disk."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from recbole_recfound.errors import ConfigError

WRITERS = ("onnx", "onnxscript")
"""Packages that writing a graph needs."""
OF_THE_EXPORTER = (r"`isinstance\(treespec, LeafSpec\)` is deprecated", "# The axis name: .* will not be used")
"""Beginnings of torch's warnings about its own code, and about inputs that share a dynamic dimension as they should."""
FOLDED = 1 << 40
"""Bytes of a constant that is computed in advance, at most."""


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
    """Write a module as an ONNX graph; a matrix that is used several times is written once.

    Args:
        module: in eval.
        example: arguments of its `forward`.
        path: of the file.
        inputs: names of the arguments.
        outputs: names of the results.
        shapes: dynamic dimensions of each input.
    """
    from onnxscript import optimizer  # of the extra `export`

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        for message in OF_THE_EXPORTER:
            warnings.filterwarnings("ignore", message)
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
    # Transposed matrices of any size become constants: a graph quantiser skips products with anything else.
    optimizer.fold_constants(program.model, input_size_limit=FOLDED, output_size_limit=FOLDED)
    optimizer.remove_unused_nodes(program.model)
    for node in program.model.graph:
        node.metadata_props.clear()  # lines of Python, many times the size of a small model
    _join_equal(program.model.graph)
    program.save(str(path))


def _join_equal(graph: Any) -> None:
    """Use one of several equal initialisers: the exporter transposes a matrix again for each of its uses."""
    first: dict[tuple[Any, ...], Any] = {}
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is None:
            continue
        kept = first.setdefault((tensor.dtype, tuple(tensor.shape), tensor.tobytes()), value)
        if kept is not value:
            value.replace_all_uses_with(kept)
            del graph.initializers[name]
