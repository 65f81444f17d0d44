"""One ONNX graph for each exit, in float32 or in integers of 8 bits."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from recbole_recfound.edge.answer import graph_name
from recbole_recfound.edge.rounding import as_integers, set_rounding
from recbole_recfound.edge.student import Student
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


def write_exits(student: Student, folder: Path, integers: bool) -> None:
    """Write the graph of every exit.

    Args:
        student: in eval.
        folder: gets `exit1.onnx` and so on.
        integers: multiply integers of 8 bits, as the student does in rounding; otherwise in float32.
    """
    names = ("batch", "source", "rows", "length")
    batch, source, rows, length = (torch.export.Dim(name, min=2, max=1 << 14) for name in names)
    shapes = {"sources": {0: batch, 1: source}, "targets": {0: rows, 1: length}, "source_of": {0: rows}}
    example = (
        torch.tensor([[1, 1, 1], [1, 1, 0]]),
        torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]),
        torch.tensor([0, 1, 1, 0]),
    )
    written = as_integers(student) if integers else copy.deepcopy(student)
    set_rounding(written, False)
    written.set_attention("eager")
    for layer in student.exits:
        graph = ExitGraph(written, layer).eval()
        write_graph(graph, example, folder / graph_name(layer), INPUTS, (OUTPUT,), shapes)


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
