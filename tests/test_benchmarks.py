"""What benchmarks compute apart from times."""

import json
from types import SimpleNamespace

import pytest
import torch

from benchmarks import frame, generation, iak, matching, padding, serving, tmole
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


NAMES = {
    tmole: {
        "step_over_lora",
        "step_over_lora of 3 experts",
        "step_over_lora of 12 experts",
        "step_over_same_rank_lora",
        "one_kind_step_over_lora",
        "layer_over_loop",
        "activations_over_lora",
        "folded_over_lora",
    },
    generation: {"constrained_over_free", "batched_over_single", "large_over_small_mask"},
    iak: {"bank_over_base", "bank_over_loop", "training_over_loop"},
    serving: {"faiss_over_exact", "recall", "batched_over_single", "clients_over_one"},
}


@pytest.mark.parametrize("benchmark", NAMES, ids=lambda module: module.__name__)
def test_a_benchmark_measures_what_it_names(benchmark, tmp_path):
    """At a size at which the numbers themselves mean nothing: a missed mark is no failure here."""
    seconds = [] if benchmark is serving else ["--seconds", "1"]
    assert benchmark.main(["--quick", *seconds, "--json", str(tmp_path / "found.json")]) in (0, 1)
    told = json.loads((tmp_path / "found.json").read_text())
    assert NAMES[benchmark] == set(told["ratios"]) and all(
        0 < ratio < float("inf") for ratio in told["ratios"].values()
    )
    for name, (low, high) in told.get("quartiles", {}).items():
        assert low <= told["ratios"][name] <= high


def test_the_llm_computes_few_rows_without_an_item(tiny_backbone, tmp_path):
    """Counted, not timed: the sequences of a step fill the rows that the LLM reads."""
    options = ["--quick", "--backbone", str(tiny_backbone), "--seconds", "1", "--json", str(tmp_path / "found.json")]
    assert padding.main(options) in (0, 1)
    ratios = json.loads((tmp_path / "found.json").read_text())["ratios"]
    assert 1.0 <= ratios["rows_over_tokens of ml-100k"] <= padding.MARKS["rows_over_tokens"].value
    assert ratios["step_over_frozen_layers of ml-100k"] > 0


def test_sides_are_timed_in_turn():
    """By a clock of the test: medians of the ratios of each round, the first of which only warms up."""
    order = []
    times = frame.in_turn(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")}, torch.get_default_device(), 0.0, least=2
    )
    assert "".join(order) == "baabba" and [len(found) for found in times.seconds.values()] == [2, 2]
    found = frame.Times({"a": [2.0, 8.0, 3.0, 3.0, 30.0], "b": [1.0, 2.0, 3.0, 6.0, 10.0]})
    assert found.ratio("a", "b")[0] == 2.0 and found.medians() == {"a": 3.0, "b": 3.0}


def test_a_missed_mark_is_said(tmp_path, capsys):
    given = SimpleNamespace(json=tmp_path / "found.json")
    marks = {"fast": frame.Mark(0.9, least=True), "small": frame.Mark(1.1)}
    assert frame.finish({"fast": 0.95, "small of x": (1.0, 0.9, 1.2)}, marks, given) == 0
    assert frame.finish({"fast": 0.5, "small of x": (1.2, 1.2, 1.2)}, marks, given) == 1
    assert capsys.readouterr().out.count("MISSED") == 2
    assert json.loads(given.json.read_text())["ratios"] == {"fast": 0.5, "small of x": 1.2}
