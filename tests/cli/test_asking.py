"""Commands that ask a finished run: recommend, topk, evaluate and info."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from recbole_recfound.cli import main
from recbole_recfound.cli.words import item_line, tokens
from recbole_recfound.quick_start import load_recfound, run_recfound
from recbole_recfound.serving.recommender import Recommender
from tests.settings import Settings


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_path, tiny_backbone):
    """A finished run."""
    settings = Settings(
        {
            "data_path": str(tiny_path),
            "backbone": str(tiny_backbone),
            "output_dir": str(tmp_path_factory.mktemp("runs")),
            "show_progress": False,
            "use_gpu": False,
            "time_budget": 0,
            "precision": "float32",
            "max_steps": 1,
            "tasks": ["U2I", "SR"],
            "task_test_examples": 4,
            "MAX_ITEM_LIST_LENGTH": 10,
        }
    )
    return run_recfound("RecFound", "tiny", config_dict=settings)["run_dir"]


def test_no_title_steers_the_terminal_or_makes_a_line_of_its_own():
    line = item_line("7", "\x1b[2J\x1b]0;title\x07 two\nlines\tand \u202ereversed, Amélie 映画", 0.5)
    assert line == "7\t0.5000\t�[2J�]0;title� two�lines�and �reversed, Amélie 映画"


def test_blanks_of_a_title_are_printed_as_they_are():
    assert (
        item_line("a\u3000b", "スター\u3000ウォーズ 1977\xa0年\u2028x", 0.5)
        == "a\u3000b\t0.5000\tスター\u3000ウォーズ 1977\xa0年�x"
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("50, 7,", ["50", "7"]),
        ("a,b", ["a,b"]),
        ("a, b", ["a", "b"]),
        ('7,"a,b" , x y', ["7", "a,b", "x y"]),
        ('" x ","say ""no"""', [" x ", 'say "no"']),
        ('5" disk,"open', ['5" disk', '"open']),
        (",", []),
    ],
)
def test_tokens_with_commas_blanks_and_quotes(text, found):
    assert tokens(text, {"a", "b", "a,b"}) == found


def test_a_token_with_a_comma_can_be_asked_for(tmp_path, write_dataset, capsys):
    """In every option that lists tokens; `a` and `b` are items too."""
    names = ["a", "b", "a,b", "c", "d", "e"]
    rows = [[f"u{user}", names[(user + step) % 6], step] for user in range(12) for step in range(4)]
    data = write_dataset("comma", inter=[["user_id:token", "item_id:token", "timestamp:float"], *rows])
    settings = {"data_path": str(data), "output_dir": str(tmp_path / "runs"), "topk": 3, "valid_metric": "NDCG@3"}
    run = run_recfound("EASE", "comma", config_dict=settings)["run_dir"]
    loaded = load_recfound(run)
    for text, given in (("a,b", ["a,b"]), ('"a,b",c', ["a,b", "c"]), ("a, b", ["a", "b"])):
        for words, asked in (
            (["--history", text], {"history": given}),
            (["--history=d", "--exclude", text], {"history": ["d"], "exclude": given}),
            (["--history=d", "--candidates", text], {"history": ["d"], "candidates": given}),
        ):
            assert main(["recommend", run, *words]) == 0
            lines = capsys.readouterr().out.splitlines()
            expected = [token for token, *_ in loaded.recommend(**asked)]
            assert [line.split("\t")[0] for line in lines[len(lines) - len(expected) :]] == expected


def test_recommend(run, capsys):
    assert main(["recommend", run, "--history", "50, 7", "--k", "4", "--exclude", "9"]) == 0
    printed = capsys.readouterr()
    assert not printed.err
    lines = [line.split("\t") for line in printed.out.splitlines()[-4:]]
    expected = load_recfound(run).recommend(["50", "7"], k=4, exclude=["9"])
    assert lines == [[token, f"{score:.4f}", text] for token, text, score in expected]
    assert main(["recommend", run, "--user", "1", "--k=3"]) == 0
    lines = [line.split("\t")[0] for line in capsys.readouterr().out.splitlines()[-3:]]
    assert lines == [token for token, _, _ in load_recfound(run).recommend(user="1", k=3)]


def test_topk(run, tmp_path, capsys):
    out = tmp_path / "best.csv"
    assert main(["topk", run, "--out", str(out), "--k", "3"]) == 0
    assert "3 best items of 48 users" in capsys.readouterr().out
    rows = list(csv.DictReader(out.open()))
    loaded = load_recfound(run)
    assert len(rows) == 3 * 48 and {row["user"] for row in rows} == set(loaded.known_users())
    for user in ("1", "7"):
        found = [(row["item"], row["rank"]) for row in rows if row["user"] == user]
        assert found == [
            (item, str(rank)) for rank, (item, _, _) in enumerate(loaded.recommend(user=user, k=3), start=1)
        ]
    assert not list(tmp_path.glob("*.partial"))


def test_topk_asks_for_some_users_at_a_time(run, tmp_path, monkeypatch):
    """What is kept of all users is their tokens; answers are written and forgotten."""
    asked, real = [], Recommender.recommend_batch

    def batch(self, *given, **named):
        asked.append(len(named["users"]))
        return real(self, *given, **named)

    monkeypatch.setattr("recbole_recfound.serving.topk.CHUNK", 10)
    monkeypatch.setattr(Recommender, "recommend_batch", batch)
    assert main(["topk", run, "--out", str(tmp_path / "best.csv"), "--k", "3"]) == 0
    assert asked == [10, 10, 10, 10, 8]


def test_an_interrupted_topk_leaves_the_file_as_it_was(run, tmp_path, monkeypatch):
    (tmp_path / "best.csv").write_text("before")

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(Recommender, "recommend_batch", interrupted)
    assert main(["topk", run, "--out", str(tmp_path / "best.csv")]) == 130
    assert [file.name for file in tmp_path.iterdir()] == ["best.csv"]
    assert (tmp_path / "best.csv").read_text() == "before"


def test_topk_as_parquet(run, tmp_path):
    pandas = pytest.importorskip("pandas")
    assert main(["topk", run, "--out", str(tmp_path / "best.csv"), "--k", "3"]) == 0
    assert main(["topk", run, "--out", str(tmp_path / "best.parquet"), "--k", "3"]) == 0
    plain = pandas.read_csv(tmp_path / "best.csv", dtype={"user": str, "item": str})
    table = pandas.read_parquet(tmp_path / "best.parquet")
    assert table["score"].dtype == "float32"
    for column in ("user", "rank", "item"):
        assert table[column].tolist() == plain[column].tolist()
    assert (table["score"] - plain["score"]).abs().max() < 1e-5


def test_cold_items_are_recommended_when_asked_for(run, tiny_path, tmp_path, capsys):
    loaded = load_recfound(run)
    cold = loaded.cold_items
    assert cold and not set(cold) & set(loaded.item_ids)
    everything = str(len(loaded.tokens) + len(cold))
    assert main(["recommend", run, "--history", "50", "--k", everything]) == 0
    assert not set(cold) & {line.split("\t")[0] for line in capsys.readouterr().out.splitlines()}
    assert main(["recommend", run, "--history", "50", "--k", everything, "--cold_items"]) == 0
    lines = dict(line.split("\t")[::2] for line in capsys.readouterr().out.splitlines())
    for token in cold:
        assert lines[token] == loaded.catalogue.sentence_of(loaded.catalogue.row_of[token])


def test_evaluate(run, tiny_path, tmp_path, capsys):
    assert main(["evaluate", run]) == 0
    out = capsys.readouterr().out
    expected = json.loads((Path(run) / "results.json").read_text())["rows"][-1]["metrics"]
    for name, value in expected.items():
        assert f"{name:<14}{value:.4f}" in out
    moved = tmp_path / "moved"
    shutil.copytree(tiny_path, moved)
    assert main(["evaluate", run, "--data_path", str(moved)]) == 0
    assert "new to the run" not in (again := capsys.readouterr().out) and again == out


def test_info(run, capsys):
    assert main(["info", run]) == 0
    out = capsys.readouterr().out
    assert out.startswith("RecFound on tiny (RecFound)\ntiny: {'LS': 'valid_and_test'}")
    assert "ndcg@10" in out and "SR: recall@1" in out and "torch" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["recommend"], "the following arguments are required: RUN"),
        (
            ["recommend", "RUN", "--history", "1", "--user", "1"],
            "give either --history=TOKENS, --user=TOKEN or --query=TEXT",
        ),
        (["recommend", "RUN"], "give either --history=TOKENS, --user=TOKEN or --query=TEXT"),
        (
            ["recommend", "RUN", "--history", "1", "--k", "x"],
            "argument --k: got x, expected a whole number",
        ),
        (["topk", "nowhere", "--out", "best.csv", "--k", "0"], "argument --k: got 0, expected a whole number"),
        (["recommend", "RUN", "--history", "none"], "unknown token 'none'"),
        (["topk", "RUN", "--out", "best.txt"], "expected a name that ends in .csv or .parquet"),
        (["topk", "RUN", "--out", "nowhere/best.csv"], "there is no folder"),
        (["recommend", "RUN", "--query", "fish"], "query: the run was not trained on Q2I"),
        (["topk", "RUN"], "the following arguments are required: --out"),
        (["info", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_mistakes(run, capsys, words, said):
    assert main([run if word == "RUN" else word for word in words]) == 2
    assert said in capsys.readouterr().err
