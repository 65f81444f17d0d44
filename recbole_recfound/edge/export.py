"""One ONNX graph for each exit, in float32 or with 8-bit weights."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic
from torch import nn

from recbole_recfound.edge.answer import graph_name
from recbole_recfound.edge.student import Student
from recbole_recfound.errors import TrainingError
from recbole_recfound.runtime.graph_files import write_graph

INPUTS, OUTPUT = ("sources", "targets", "source_of"), "probabilities"


class ExitGraph(nn.Module):
    """The student up to one exit.

    Args:
        student: in eval.
        layer: of the exit.
    """

    def __init__(self, student: Student, layer: int) -> None:
        super().__init__()
        self.student, self.layer = student, layer

    def forward(self, sources: torch.Tensor, targets: torch.Tensor, source_of: torch.Tensor) -> torch.Tensor:
        """Return the probability of a click of each target, float32 [N]; arguments as of `Student`."""
        return self.student(sources, targets, source_of, [self.layer])[0].softmax(-1)[:, 1]


def write_exits(student: Student, folder: Path) -> None:
    """Write the graph of every exit in float32.

    Args:
        student: in eval.
        folder: gets `exit1.onnx` and so on.
    """
    names = ("batch", "source", "rows", "length")
    batch, source, rows, length = (torch.export.Dim(name, min=2, max=1 << 14) for name in names)
    shapes = {"sources": {0: batch, 1: source}, "targets": {0: rows, 1: length}, "source_of": {0: rows}}
    example = (
        torch.tensor([[1, 1, 1], [1, 1, 0]]),
        torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]),
        torch.tensor([0, 1, 1, 0]),
    )
    student.set_attention("eager")
    try:
        for layer in student.exits:
            graph = ExitGraph(student, layer).eval()
            write_graph(graph, example, folder / graph_name(layer), INPUTS, (OUTPUT,), shapes)
    finally:
        student.set_attention("sdpa")


def quantise_exits(exits: list[int], source: Path, folder: Path) -> None:
    """Write graphs with 8-bit weights.

    Args:
        exits: layers of the exits.
        source: folder of the float32 graphs.
        folder: to fill.

    Raises:
        TrainingError: onnxruntime left a product with a constant matrix in float32.
    """
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it recommends preparing models with a tool that adds nothing here
    try:
        for layer in exits:
            quantize_dynamic(
                source / graph_name(layer), folder / graph_name(layer), per_channel=True, weight_type=QuantType.QInt8
            )
    finally:
        logging.getLogger().setLevel(level)
    for layer in exits:
        facts = graph_facts(folder / graph_name(layer))
        if facts["float_products"] or not facts["integer_products"]:
            raise TrainingError(
                f"int8: onnxruntime {onnxruntime.__version__} left {facts['float_products']} products of exit {layer} "
                "in float32: distil without --int8, or with another version"
            )


def graph_facts(path: Path) -> dict[str, Any]:
    """Return size and numbers of products of a graph: in integers, and with a constant matrix in float32.

    Args:
        path: of an ONNX file.
    """
    graph = onnx.load(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm")]
    return {
        "bytes": path.stat().st_size,
        "integer_products": sum(node.op_type == "MatMulInteger" for node in graph.node),
        "float_products": sum(node.input[1] in constants for node in products),
    }
