"""From a run to answers without torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

from recbole_recfound.cli import main
from recbole_recfound.edge.answer import SETTINGS, TEXTS, TOKENIZER, VOCABULARY, EdgeRecommender, graph_name
from recbole_recfound.edge.make import Edge
from recbole_recfound.edge.options import DistilOptions
from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.file_digests import whole_folder

SMALL = [
    "--layers=2", "--width=32", "--embedding_size=16", "--share_layers", "--exits=1,2", "--sparsity=0.8", "--int8",
    "--steps=4", "--examples=60", "--relation_texts=4", "--compared=2",
]  # fmt: skip
WITHOUT_TORCH = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "transformers", "peft", "accelerate", "pandas", "scipy", "sklearn"):
            raise ImportError(f"{name} is not for devices")

sys.meta_path.insert(0, Refused())
from recbole_recfound.cli import main

code = main(sys.argv[1:])
assert {"onnxruntime", "tokenizers"} <= set(sys.modules) and "torch" not in sys.modules
sys.exit(code)
"""


@pytest.fixture(scope="module")
def distilled(finished, tmp_path_factory):
    """The folder of a student."""
    out = tmp_path_factory.mktemp("edge") / "student"
    assert main(["distill", str(finished), f"--out={out}", *SMALL]) == 0
    return out


def test_the_folder_and_its_report(distilled, teacher):
    report = json.loads((distilled / "report.json").read_text())
    assert report["form"] == "int8" and report["files"].keys() >= {"exit1.onnx", "exit2.onnx", "tokenizer.json"}
    sizes = report["student"]
    assert sizes["nonzero"] < 0.5 * sizes["parameters"]
    assert sizes["matrix_zeros"] / sizes["matrix_weights"] == pytest.approx(0.8, abs=1e-3)
    assert sizes["parameters"] == max(exit_["parameters"] for exit_ in report["exits"])
    for exit_ in report["exits"]:
        assert 0 < exit_["nonzero"] < exit_["parameters"] * 4 <= exit_["forms"]["float32"]["bytes"]
        floats, small = exit_["forms"]["float32"], exit_["forms"]["int8"]
        assert floats["torch"]["largest_difference"] < 1e-5 and floats["torch"]["same_top"] == 1.0
        assert floats["unrounded"] == floats["torch"]
        assert small["torch"]["largest_difference"] < 1e-3 < small["unrounded"]["largest_difference"]
        assert small["integer_products"] > 0 and small["bytes"] == report["files"][f"exit{exit_['layer']}.onnx"]
        assert 0 <= small["auc"] <= 1 and small["milliseconds"] > 0
    expected = teacher.splits.test_set
    assert report["tested"] == len(expected.inter_feat)
    page = (distilled / "README.md").read_text()
    assert "| exit 2, int8 |" in page and "| teacher |" in page


@pytest.mark.parametrize("layer", [1, 2])
def test_sizes_are_those_of_the_files_that_an_exit_needs(distilled, tmp_path, layer):
    """A folder of its graph and the files that all exits share gives the same answer."""
    report = json.loads((distilled / "report.json").read_text())
    shared = {SETTINGS, TEXTS, TOKENIZER, VOCABULARY}
    assert set(report["files"]) == shared | {graph_name(1), graph_name(2)}
    with whole_folder(tmp_path / "device") as folder:
        for name in (*shared, graph_name(layer)):
            shutil.copy(distilled / name, folder)
            assert report["files"][name] == (folder / name).stat().st_size
    alone, whole = (EdgeRecommender(each, layer, threads=1) for each in (tmp_path / "device", distilled))
    assert alone.recommend(["50", "100"]) == whole.recommend(["50", "100"])
    graph = report["exits"][layer - 1]["forms"]["int8"]["bytes"]
    assert graph == (distilled / graph_name(layer)).stat().st_size
    header, _, *rows = [
        [cell.strip() for cell in line.split("|")]
        for line in (distilled / "README.md").read_text().splitlines()
        if line.startswith("|")
    ]
    said = {row[1]: row[header.index("KiB of the graph")] for row in rows}
    assert said[f"exit {layer}, int8"] == f"{graph / 1024:,.0f}"


def test_the_teachers_row_has_the_metrics_of_the_run(distilled, finished):
    results = json.loads((finished / "results.json").read_text())
    teacher = json.loads((distilled / "report.json").read_text())["teacher"]
    metrics = results["rows"][-1]["metrics"]
    assert (teacher["auc"], teacher["logloss"]) == pytest.approx((metrics["auc"], metrics["logloss"]), abs=1e-4)


def test_answers_without_torch(distilled, checkout, tmp_path):
    moved = tmp_path / "device"
    shutil.copytree(distilled, moved)
    words = ["edge", str(moved), "--history=50,100", "--k=3"]
    found = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True, cwd=checkout, timeout=120
    )
    assert found.returncode == 0, found.stderr
    lines = [line.split("\t") for line in found.stdout.splitlines()]
    expected = EdgeRecommender(distilled).recommend(["50", "100"], 3)
    assert [(token, text) for token, _, text in lines] == [(token, text) for token, text, _ in expected]
    assert [float(score) for _, score, _ in lines] == pytest.approx([score for *_, score in expected], abs=1e-4)


def test_the_last_line_of_the_chain_is_the_first_of_the_training(distilled, teacher):
    """A history becomes the same tokens on the device as in training: segments, tokenizer and vocabulary."""
    device = EdgeRecommender(distilled)
    edge = Edge(teacher, DistilOptions())
    kept = json.loads((distilled / "vocabulary.json").read_text())
    generator = np.random.default_rng(0)
    for length in (1, 2, 3, 7):
        items = generator.integers(1, len(teacher.items) + 1, length)
        source = teacher.model.texts.source_of_history(items)
        ids = edge._tokens(source.segments)
        assert set(ids) <= set(kept)
        tokens = [teacher.items[item - 1] for item in items]
        assert [kept[number - 2] for number in device.source_of(tokens)] == ids
    targets = teacher.item_targets()
    for item in generator.integers(0, len(targets), 20):
        own = device.target_of(teacher.items[item])
        assert [kept[number - 2] for number in own] == edge._tokens(targets[item])


def test_recommendations(distilled, loaded):
    device = EdgeRecommender(distilled, exit_layer=1, threads=1)
    best = device.recommend(["50", "100"], k=1000)
    assert [score for *_, score in best] == sorted((score for *_, score in best), reverse=True)
    served = loaded.recommend(history=["50", "100"], k=1000)
    assert {token: text for token, text, _ in best} == {token: text for token, text, _ in served}
    few = [token for token, *_ in best[:3]]
    assert {token for token, *_ in device.recommend(["50"], exclude=few, candidates=[*few, "1"])} == {"1"} - {
        "50",
        *few,
    }
    assert len(device.recommend(["50"], k=2)) == 2


@pytest.mark.parametrize(
    ("history", "others", "message"),
    [
        ("42", {}, r"history: got '42', expected a list, as in \['42'\]"),
        (None, {}, "history: got None, expected a list"),
        ([], {}, "history: got an empty list"),
        ({"4", "2"}, {}, "history: got a set, which has no order: give a list, oldest first"),
        ([42], {}, r"history: unknown items: 42 \(tokens are text\)"),
        (["50"], {"exclude": "42"}, "exclude: got '42', expected a list"),
        (["50"], {"candidates": "42"}, "candidates: got '42', expected a list"),
        (["50"], {"candidates": []}, "candidates: got an empty list"),
        (["50"], {"k": 2.5}, "k: got 2.5, expected a whole number"),
        (["50"], {"k": True}, "k: got True, expected a whole number"),
    ],
)
def test_what_a_caller_passes_is_refused_as_by_a_served_run(distilled, history, others, message):
    device = EdgeRecommender(distilled, threads=1)
    assert {"42", "4", "2"} <= set(device.tokens)  # each letter is an item, too
    with pytest.raises(ConfigError, match=message):
        device.recommend(history, **others)


def test_edge_reads_tokens_in_quotes(distilled, capsys):
    best = EdgeRecommender(distilled, threads=1).recommend(["50", "100"], k=3, exclude=["7", "9"])
    words = ["--history", '"50", 100', "--k=3", "--exclude", '7,"9"', "--threads=1"]
    assert main(["edge", str(distilled), *words]) == 0
    assert [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()] == [token for token, *_ in best]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--history=50,nothing"], "history: unknown items: 'nothing'"),
        (["--history=,"], "history: got an empty list"),
        (["--history=50", "--k=0"], "--k: got 0"),
        (["--history=50", "--exit=3"], "exit: got 3, expected one of 1, 2"),
        (["--history=50", "--candidates=x"], "candidates: unknown items: 'x'"),
        ([], "--history"),
    ],
)
def test_edge_refuses_in_one_line(distilled, capsys, words, message):
    assert main(["edge", str(distilled), *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_other_and_damaged_folders_are_refused(distilled, finished, tmp_path, capsys):
    assert main(["edge", str(finished), "--history=50"]) == 2
    assert "was not written by recfound distill" in capsys.readouterr().err
    damaged = tmp_path / "damaged"
    shutil.copytree(distilled, damaged)
    with (damaged / "texts.json").open("a") as file:
        file.write(" ")
    assert main(["edge", str(damaged), "--history=50"]) == 2
    assert "texts.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layers=2", "--exits=1,3"], "exits: got 3, beyond the 2 layers"),
        (["--exits=1,two"], "exits: got 1,two"),
        (["--sparsity=1.5"], "sparsity: got 1.5"),
        (["--layers=none"], "--layers"),
        (["--relation_layer=9"], "relation_layer: got 9"),
    ],
)
def test_distill_refuses_in_one_line(finished, tmp_path, capsys, words, message):
    out = tmp_path / "student"
    assert main(["distill", str(finished), f"--out={out}", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.strip().count("\n") == 0
    assert not Path(out).exists()


def test_distill_refuses_a_folder_that_exists_and_another_teacher(finished, distilled, tmp_path, capsys):
    assert main(["distill", str(finished), f"--out={distilled}"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["distill", str(tmp_path), f"--out={tmp_path / 'new'}"]) == 2
    assert "is not a finished run" in capsys.readouterr().err


def test_distill_refuses_a_folder_that_cannot_be_written_before_the_teacher_is_loaded(tmp_path, capsys):
    (tmp_path / "file").write_text("text")
    assert main(["distill", str(tmp_path), f"--out={tmp_path / 'file' / 'student'}"]) == 2
    assert f"out: {tmp_path / 'file'} cannot be written: " in capsys.readouterr().err
