"""M6-Rec's task generate from one command to written texts."""

import json
import time
from pathlib import Path

import pytest

from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.trainer.writing import WritingTrainer
from tests.settings import READING


@pytest.fixture(scope="module")
def settings(tiny_path, tiny_backbone):
    return READING | {
        "data_path": str(tiny_path),
        "backbone": str(tiny_backbone),
        "generate_args": {"max_tokens": 12},
        "m6rec_task": ["generate"],
        "train_batch_size": 32,
    }


def write_records(folder: Path) -> dict[str, str]:
    """Write made records of explanations and conversations."""
    files = {}
    for part, count in (("train", 24), ("valid", 4), ("test", 4)):
        records = [
            {
                "task": ("explanation", "conversation")[number % 2],
                "source": [f"User {part} {number}", "likes films"],
                "target": f"it is {('funny', 'sad')[number % 3 == 0]}",
                "feature": ("funny", "sad")[number % 3 == 0],
            }
            for number in range(count)
        ]
        files[part] = str(folder / f"{part}.jsonl")
        Path(files[part]).write_text("".join(json.dumps(record) + "\n" for record in records))
    return files


def test_sources_that_are_cut_are_said_before_anything_is_trained(settings, tmp_path, capsys):
    options = {"output_dir": str(tmp_path / "runs"), "task_files": write_records(tmp_path)}
    options |= {"generate_args": {"from_items": []}, "text_args": {"max_tokens": 8}, "epochs": 0}
    run_recfound("M6Rec", "tiny", config_dict=settings | options, saved=False)
    said = capsys.readouterr().out
    note = said.index("text_args: max_tokens: 33 of 33 segments of sources are longer than 8 tokens and lose their end")
    assert note < said.index("M6Rec generate ...")


def test_records_and_items_are_one_row_and_a_line_for_each_task(settings, tmp_path):
    options = {"output_dir": str(tmp_path / "runs"), "task_files": write_records(tmp_path)}
    found = run_recfound("M6Rec", "tiny", config_dict=settings | options)
    results = json.loads((Path(found["run_dir"]) / "results.json").read_text())
    page = (Path(found["run_dir"]) / "report.html").read_text()
    assert "Test of the tasks" in page and "untrained loss" not in page
    (row,) = results["rows"]
    assert row["model"] == "M6Rec generate"
    assert {"perplexity", "bleu-4", "rouge-1", "rouge-2", "rouge-l", "usr", "fmr", "fcr", "div"} <= set(row["metrics"])
    tasks = {task["name"]: task["test"] for task in results["tasks"]}
    assert {name: test["source"] for name, test in tasks.items()} == {
        "explanation": "files",
        "conversation": "files",
        "design": "items",
        "query": "items",
    }
    assert tasks["explanation"]["examples"] == 2
    assert not any("fmr" in tasks[task]["metrics"] for task in ("design", "query")), "made of items"
    assert all(point["score"] > 1 for point in row["curve"])
    assert row["valid_metrics"]["perplexity"] == min(point["score"] for point in row["curve"])
    assert row["curve"][-1]["loss"] < row["curve"][0]["loss"]
    assert row["constant"]["usr"] < 1
    model = load_recfound(found["run_dir"])
    written = tasks["explanation"]["texts"][0]
    assert model.generate("explanation", source=written["source"]) == written["written"]
    short = model.generate("explanation", source=written["source"], max_new_tokens=3)
    assert written["written"].startswith(short) and len(short) < len(written["written"])
    with pytest.raises(ConfigError, match="max_new_tokens: got 13, expected at most 12: longer texts were cut"):
        model.generate("explanation", source=written["source"], max_new_tokens=13)
    with pytest.raises(ConfigError, match="key 'task': got 'poem'"):
        model.generate("poem", source=["a"])
    with pytest.raises(ConfigError, match="expected source"):
        model.generate("design", text="a")
    with pytest.raises(ConfigError, match="scores no items"):
        model.recommend(user=model.known_users()[0], k=2)


def test_no_examples_are_made_of_items_where_none_are_to_be(settings, tmp_path):
    options = settings | {"generate_args": {"from_items": []}}
    with pytest.raises(ConfigError, match="no records in task_files, and generate_args"):
        run_recfound("M6Rec", "tiny", config_dict=options, saved=False)
    options |= {"task_files": write_records(tmp_path), "epochs": 0}
    found = run_recfound("M6Rec", "tiny", config_dict=options | {"output_dir": str(tmp_path / "runs")})
    results = json.loads((Path(found["run_dir"]) / "results.json").read_text())
    assert {task["name"] for task in results["tasks"]} == {"explanation", "conversation"}


def test_beside_another_task(settings, tmp_path):
    options = {
        "output_dir": str(tmp_path),
        "m6rec_task": ["ctr", "generate"],
        "threshold": {"rating": 4},
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "labeled"},
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
    }
    found = run_recfound("M6Rec", "tiny", config_dict=settings | options)
    assert [row["model"] for row in found["comparison"]] == ["M6Rec ctr", "M6Rec generate"]
    model = load_recfound(found["run_dir"])
    assert list(model.tasks) == ["ctr"]  # those that rank
    assert dict(model.evaluate().metrics) == pytest.approx(found["test_result"])
    tested = json.loads((Path(found["run_dir"]) / "results.json").read_text())["tasks"][0]
    written = tested["test"]["texts"][0]
    assert model.generate(tested["name"], source=written["source"]) == written["written"]


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ('{"task": "explanation", "source": "a", "target": "b"}', "train.jsonl:25: key 'source'"),
        ('{"task": "explanation", "source": ["a", 1], "target": "b"}', "train.jsonl:25: key 'source'"),
        ('{"task": "explanation", "source": ["a"], "target": " "}', "train.jsonl:25: key 'target'"),
        ('{"task": "poem", "source": ["a"], "target": "b"}', "train.jsonl:25: key 'task'"),
        ('{"task": "query", "source": ["a"], "target": "b", "feature": 3}', "train.jsonl:25: key 'feature'"),
        ("{", "train.jsonl:25: no JSON"),
    ],
)
def test_malformed_records_are_refused(settings, tmp_path, record, words):
    files = write_records(tmp_path)
    with open(files["train"], "a") as file:
        file.write(record + "\n")
    with pytest.raises(DataError, match=words):
        run_recfound("M6Rec", "tiny", config_dict=settings | {"output_dir": str(tmp_path / "r"), "task_files": files})
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"generate_args": {"from_items": []}}, "from_items"),
        ({"task_files": ["x.jsonl"]}, "no file of valid, test"),
        ({"item_args": {"text_fields": ["movie_title"]}}, "0 items with a title and another text"),
    ],
)
def test_a_run_without_examples_is_refused(settings, tmp_path, wrong, words):
    with pytest.raises((ConfigError, DataError), match=words):
        run_recfound("M6Rec", "tiny", config_dict=settings | {"output_dir": str(tmp_path / "r")} | wrong)


def test_the_time_budget_is_kept(settings, tmp_path):
    options = {"output_dir": str(tmp_path), "time_budget": 4, "epochs": 1000, "stopping_step": 1000}
    found = run_recfound("M6Rec", "tiny", config_dict=settings | options, saved=False)
    assert "not converged" in found["comparison"][0]["note"]


def test_as_many_texts_are_written_as_there_is_time_for(settings, tmp_path, monkeypatch):
    """One batch of each task where no time is left; the perplexity is that of all records."""
    monkeypatch.setattr("recbole_recfound.system.m6rec.generate.WRITTEN", 1)
    options = {"output_dir": str(tmp_path), "epochs": 1}
    whole = run_recfound("M6Rec", "tiny", config_dict=settings | options, saved=False)["comparison"][0]
    fit = WritingTrainer.fit

    def late(self, *args, **given):
        result = fit(self, *args, **given)
        self.deadline = time.monotonic()
        return result

    monkeypatch.setattr(WritingTrainer, "fit", late)
    found = run_recfound("M6Rec", "tiny", config_dict=settings | options, saved=False)["comparison"][0]
    tests, all_tests = ([task["test"] for task in row["written"]] for row in (found, whole))
    assert all(test["examples"] == 1 for test in tests) and all(test["examples"] > 1 for test in all_tests)
    assert [test["available"] for test in tests] == [test["examples"] for test in all_tests]
    assert found["metrics"]["perplexity"] == whole["metrics"]["perplexity"]
