"""What benchmarks compute apart from times."""

import json

import pytest

from benchmarks import matching
from recbole_recfound.errors import DataError


def _write(path, *pairs):
    rows = [
        {"text": [f"Same?\nProduct 1: {a}\nProduct 2: {b}\nAnswer:", answer], "task": "Product_Matching"} for a, b, answer in pairs
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_matching_by_common_words(tmp_path, capsys):
    """The threshold comes from the training part: 2 of 3 words is yes there, so that it finds one of two and is wrong once."""
    train = _write(tmp_path / "train.jsonl", ("red shoe; price: 5", "red shoe x; price: 9", "yes"), ("red shoe", "red hat", "no"))
    test = _write(
        tmp_path / "test.jsonl", ("a b c", "A, b, c", "yes"), ("a b c", "a b c", "no"), ("a b", "c d", "yes"), ("a b", "c d", "no")
    )
    assert matching.main([str(train), str(test), "--json", str(tmp_path / "found.json")]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["ratios"] == {"always_yes": pytest.approx(2 / 3), "jaccard": 0.5}
    assert "jaccard" in capsys.readouterr().out
    (tmp_path / "odd.jsonl").write_text(json.dumps({"text": ["Same?", "no"], "task": "Product_Matching"}))
    with pytest.raises(DataError, match="odd.jsonl:1: the prompt does not hold two products"):
        matching.overlaps(tmp_path / "odd.jsonl")
