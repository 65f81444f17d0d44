"""ONNX graphs on disk."""

import warnings

import pytest
import torch
from torch import nn

from recbole_recfound.runtime.graph_files import write_graph


class Sum(nn.Module):
    """Two inputs with a dimension in common."""

    def forward(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return (one + other) @ torch.ones(3, 2)


def test_a_graph_is_written_without_warnings_and_computes_the_same(tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    rows = {0: torch.export.Dim("rows", min=1)}
    example = torch.rand(4, 3), torch.rand(4, 3)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        write_graph(
            Sum().eval(), example, tmp_path / "sum.onnx", ("one", "other"), ("sum",), {"one": rows, "other": rows}
        )
    assert not [str(each.message) for each in found if each.category in (UserWarning, FutureWarning)]
    one, other = torch.rand(7, 3), torch.rand(7, 3)
    session = runtime.InferenceSession(tmp_path / "sum.onnx", providers=["CPUExecutionProvider"])
    (answer,) = session.run(None, {"one": one.numpy(), "other": other.numpy()})
    torch.testing.assert_close(torch.from_numpy(answer), Sum()(one, other))
