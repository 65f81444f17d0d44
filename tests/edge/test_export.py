"""Graphs give what torch gives in their arithmetic, hold a matrix once, and in 8 bits no product is in float32."""

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from recbole_recfound.edge.answer import ExitSession, graph_name
from recbole_recfound.edge.distil import Scored
from recbole_recfound.edge.export import graph_facts, write_exits
from recbole_recfound.edge.measure import student_scores
from tests.edge.conftest import NEWLINE


@pytest.fixture(scope="module")
def requests():
    """Sources of 1 to 9 tokens with 1 to 11 targets."""
    generator = np.random.default_rng(0)
    found = []
    for length, count in ((9, 11), (1, 1), (4, 3)):
        targets = [
            [NEWLINE, *generator.integers(3, 300, size), NEWLINE, 7] for size in generator.integers(1, 12, count)
        ]
        targets = [list(map(int, target)) for target in targets]
        nothing = np.full(count, np.nan, dtype=np.float32)
        found.append(Scored(generator.integers(1, 300, length).tolist(), targets, nothing, nothing))
    return found


@pytest.mark.parametrize(("share", "exits"), [(True, [1, 2]), (False, [2])])
def test_graphs_equal_torch(make_student, requests, tmp_path, share, exits):
    student = make_student(300, share_layers=share, layers=2, width=64, exits=exits)
    expected, rounded = student_scores(student, requests), student_scores(student, requests, rounds=True)
    floats, small = tmp_path / "float32", tmp_path / "int8"
    floats.mkdir(), small.mkdir()
    write_exits(student, floats, integers=False)
    write_exits(student, small, integers=True)
    sources, targets = [one.source for one in requests], [one.targets for one in requests]
    for layer in student.exits:
        scores = ExitSession(floats / graph_name(layer), 1).run(sources, targets)
        np.testing.assert_allclose(scores, expected[layer], atol=1e-5)
        alone = [ExitSession(floats / graph_name(layer), 1).run([one.source], [one.targets]) for one in requests]
        np.testing.assert_allclose(np.concatenate(alone), expected[layer], atol=1e-5)
        # Numbers between two levels fall on either side, by machine; then scores differ by less than a level.
        session = ExitSession(small / graph_name(layer), 1)
        np.testing.assert_allclose(session.run(sources, targets), rounded[layer], atol=5e-4)
        alone = [session.run([one.source], [one.targets]) for one in requests]
        np.testing.assert_allclose(np.concatenate(alone), rounded[layer], atol=5e-4)
        assert np.abs(rounded[layer] - expected[layer]).max() > 1e-3
        facts = graph_facts(small / graph_name(layer))
        assert facts["float_products"] == 0
        # Queries, keys, values, output and MLP of the target; keys and values of the source, all of it below the last
        # layer; two projections of embeddings.
        assert facts["integer_products"] == 7 * layer + 2 + 7 * (layer - 1) + 2
        # A matrix is written once, however often it is used.
        weights = sum(weight.numel() for weight in student.parameters())
        whole = graph_facts(floats / graph_name(layer))
        assert 0 < whole["bytes"] - 4 * weights < 0.35 * 4 * weights
        assert facts["bytes"] < 0.6 * whole["bytes"]
    assert student.config._attn_implementation == "sdpa"
