"""RecBole's own models through our command, on today's packages."""

import json

import pytest

from recbole_recfound.cli import main

CLICKS = [
    "--threshold={rating: 4}",
    "--load_col={inter: [user_id, item_id, rating, timestamp], user: [user_id, age], "
    "item: [item_id, release_year, class]}",
]


@pytest.mark.parametrize(
    ("model", "arguments", "metric"),
    [
        ("BPR", ["--baselines=Pop"], "ndcg@10"),
        ("EASE", [], "ndcg@10"),
        ("LightGCN", [], "ndcg@10"),
        ("SASRec", ["--MAX_ITEM_LIST_LENGTH=10"], "ndcg@10"),
        ("DeepFM", CLICKS, "auc"),
    ],
)
def test_one_epoch(model, arguments, metric, tiny_path, tmp_path, capsys):
    common = [
        "--dataset=tiny",
        f"--data_path={tiny_path}",
        "--epochs",
        "1",
        "--show_progress=False",
        "--output_dir=out",
    ]
    assert main(["run", f"--model={model}", *common, *arguments]) == 0
    (results,) = (tmp_path / "out").glob("**/results.json")
    rows = json.loads(results.read_text())["rows"]
    assert [row["model"] for row in rows] == (["Pop", model] if model == "BPR" else [model])
    assert all(metric in row["metrics"] for row in rows)
    told = capsys.readouterr().out
    assert metric in told and "report: " in told, "without progress bars the table is printed all the same"


def test_our_keys_that_a_recbole_model_does_not_read_are_one_note(tiny_path, tmp_path, capsys):
    words = [
        "--model=Pop",
        "--max_steps=0",
        "--merge_method=none",
        "--dataset=tiny",
        f"--data_path={tiny_path}",
        "--epochs=1",
    ]
    assert main(["run", *words, "--output_dir=out", "--show_progress=False"]) == 0
    printed = capsys.readouterr().out
    assert (
        printed.count("note: ") == 1 and "note: max_steps, merge_method: not read by Pop, only by RecFound\n" in printed
    )
