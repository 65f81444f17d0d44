"""What benchmarks compute apart from times."""

import json

import pytest

from benchmarks import generation, iak, matching, padding, serving, tmole
from recbole_recfound.errors import DataError


def _write(path, *pairs):
    rows = [
        {"text": [f"Same?\nProduct 1: {a}\nProduct 2: {b}\nAnswer:", answer], "task": "Product_Matching"}
        for a, b, answer in pairs
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_matching_by_common_words(tmp_path, capsys):
    """The threshold comes from the training part (2 of 3 words is yes there): one of two is right, one is wrong."""
    train = _write(
        tmp_path / "train.jsonl", ("red shoe; price: 5", "red shoe x; price: 9", "yes"), ("red shoe", "red hat", "no")
    )
    test = _write(
        tmp_path / "test.jsonl",
        ("a b c", "A, b, c", "yes"),
        ("a b c", "a b c", "no"),
        ("a b", "c d", "yes"),
        ("a b", "c d", "no"),
    )
    assert matching.main([str(train), str(test), "--json", str(tmp_path / "found.json")]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["ratios"] == {
        "always_yes": pytest.approx(2 / 3),
        "jaccard": 0.5,
    }
    assert "jaccard" in capsys.readouterr().out
    (tmp_path / "odd.jsonl").write_text(json.dumps({"text": ["Same?", "no"], "task": "Product_Matching"}))
    with pytest.raises(DataError, match="odd.jsonl: record 1 of PM: the prompt does not hold two products"):
        matching.overlaps(tmp_path / "odd.jsonl")


SMALL = {
    tmole: (
        ["--rows=4", "--length=8", "--layers=1", "--repeats=1"],
        {
            "step_over_lora",
            "step_over_same_rank_lora",
            "one_kind_step_over_lora",
            "layer_over_loop",
            "activations_over_lora",
            "folded_over_lora",
        },
    ),
    generation: (
        ["--rows=2", "--length=4", "--items=200", "--title=3", "--layers=1", "--repeats=1"],
        {"constrained_over_free", "batched_over_single", "large_over_small_mask"},
    ),
    iak: (["--rows=8", "--domains=3", "--items=50", "--length=5", "--repeats=1"], {"bank_over_base", "bank_over_loop"}),
    serving: (["--quick"], {"faiss_over_exact", "recall", "batched_over_single", "clients_over_one"}),
}


@pytest.mark.parametrize("benchmark", SMALL, ids=lambda module: module.__name__)
def test_a_benchmark_measures_what_it_names(benchmark, tmp_path):
    """At a size at which the numbers themselves mean nothing: a missed mark is no failure here."""
    options, names = SMALL[benchmark]
    assert benchmark.main([*options, "--json", str(tmp_path / "found.json")]) in (0, 1)
    told = json.loads((tmp_path / "found.json").read_text())
    assert names <= told["ratios"].keys() and all(0 < ratio < float("inf") for ratio in told["ratios"].values())


def test_the_llm_computes_few_rows_without_an_item(tiny_backbone, tmp_path):
    """Counted, not timed: the sequences of a step fill the rows that the LLM reads."""
    options = ["--quick", "--backbone", str(tiny_backbone), "--json", str(tmp_path / "found.json")]
    assert padding.main(options) in (0, 1)
    ratios = json.loads((tmp_path / "found.json").read_text())["ratios"]
    assert 1.0 <= ratios["rows_over_tokens of ml-100k"] <= padding.MARKS["rows_over_tokens"]
    assert ratios["step_over_frozen_layers of ml-100k"] > 0
