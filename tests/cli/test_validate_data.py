"""`recfound validate-data`: what it prints of files, and that every broken line of all of them is named."""

import json

import pytest

from recbole_recfound.cli import main


@pytest.fixture(autouse=True)
def tokenizer(monkeypatch, tmp_path):
    """A tokenizer of words in place of a backbone's."""

    def split(texts, **options):
        return {"input_ids": [text.split() for text in texts]}

    monkeypatch.setattr("recbole_recfound.backbone.load.load_tokenizer", lambda name: split)
    monkeypatch.chdir(tmp_path)


def _write(tmp_path, name, *rows):
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (tmp_path / name).write_text("".join(line + "\n" for line in lines))


def _pm(prompt, **more):
    return {"text": [prompt, "no"], "task": "Product_Matching", **more}


def test_every_broken_line_of_every_file_is_named(tmp_path, capsys):
    _write(tmp_path, "a.jsonl", _pm("one"), "{", _pm("two"), {"task": "Product_Matching"}, "[1]")
    _write(tmp_path, "b.jsonl", *["x"] * 130)
    _write(tmp_path, "c.jsonl")
    assert main(["validate-data", "a.jsonl", "b.jsonl", "c.jsonl", "absent.jsonl"]) == 2
    out, err = capsys.readouterr()
    lines = [line.strip() for line in err[err.index("error:") :].splitlines()]
    assert lines[0] == "error: 135 problems in the data"
    assert [line.partition(": ")[0] for line in lines[1:5]] == ["a.jsonl:2", "a.jsonl:4", "a.jsonl:5", "b.jsonl:1"]
    assert lines[103:] == [
        "b.jsonl:100: not JSON: Expecting value (character 1 of the record)",
        "b.jsonl: 30 more broken lines, 130 in all",
        "c.jsonl:1: no record in this file",
        "absent.jsonl cannot be read (No such file or directory)",
    ]
    assert "a.jsonl: 2 records, PM 2" in out and "3 bad lines" in out, "the rest of the file is described"


def test_questions_are_compared_verbatim_and_without_regard_to_spelling(tmp_path, capsys):
    _write(tmp_path, "train.jsonl", _pm("Same? A / B"), _pm("same a/b"), _pm("Other?"), _pm("Size 1.5"))
    _write(tmp_path, "test.jsonl", _pm("Other?"), _pm(" SAME?\u200b A / B "), _pm("Size 15"))
    assert main(["validate-data", "train.jsonl", "test.jsonl"]) == 0
    out = capsys.readouterr().out
    ignoring = "when case, blanks, punctuation and invisible characters are ignored"
    assert f"  0 records repeat the question of an earlier one; 1 {ignoring}" in out
    assert f"train.jsonl and test.jsonl: 1 questions in both; 2 {ignoring} (a leak, if one tests the other)" in out


def test_arrays_plain_texts_and_further_keys(tmp_path, capsys):
    pair = {"query": "red shoe", "pos": ["Shoe, red"], "neg": ["Hat"], "task": "Emb_query", "id": 7}
    (tmp_path / "a.json").write_text(json.dumps([pair, _pm("one", source="walmart")], indent=2))
    _write(tmp_path, "b.jsonl", pair, _pm("two", source="walmart"), _pm("three", source="walmart", split="x"))
    assert main(["validate-data", "a.json", "b.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "a.json: 2 records, Q2I 1, PM 1" in out and "Q2I query, tokens: 50%: 2" in out
    assert (
        out.count("were ignored") == 2 and "  keys that records do not have were ignored: source (2), split (1)" in out
    )
