"""The long table: every row is computed once, and belongs to its settings."""

import json
from pathlib import Path

import pytest

from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.study import compare as module
from recbole_recfound.study.compare import CONSTANT, NO_MERGE, POPULARITY, SINGLE_TASKS, compare
from recbole_recfound.system.recfound import variants as room

ALL_VARIANTS = room.VARIANTS
VARIANTS = {
    "- TMoLE (one shared LoRA)": {"adapter": "lora"},
    "control: random item text": {"control": "random_item_text"},
}


@pytest.fixture
def asked(monkeypatch):
    """Names of the models that were trained, in order."""
    made, ours, theirs = [], module.execute, module.run_baseline
    monkeypatch.setattr(room, "VARIANTS", VARIANTS)
    monkeypatch.setattr(module, "execute", lambda *given, **named: (made.append("ours"), ours(*given, **named))[1])
    monkeypatch.setattr(module, "run_baseline", lambda name, *given: (made.append(name), theirs(name, *given))[1])
    return made


def test_rows_are_computed_once_and_belong_to_their_settings(small_run, asked, capsys, tmp_path):
    settings = small_run | {
        "only_tasks": ["U2I"],
        "max_steps": 2,
        "eval_interval": 1,
        "task_test_examples": 0,
        "baseline_time_budget": 50,
    }
    file = tmp_path / "table.yaml"
    file.write_text("baselines: [Pop, BPR]\nbaseline_args: {BPR: {epochs: 1}}\n")
    found = compare("tiny", [str(file)], settings)
    assert asked == ["Pop", "BPR", "ours", "ours", "ours"]
    names = [row["model"] for row in found["rows"]]
    assert names == ["Pop", "BPR", "RecFound", NO_MERGE, "- TMoLE (one shared LoRA)", "control: random item text"]
    assert {row["model"]: row for row in found["rows"]}[NO_MERGE]["metrics"] == found["rows"][2]["candidates"]["test"][
        "best"
    ]
    assert "each baseline: at most 50 s; each row of ours: at most 2 steps" in capsys.readouterr().out
    folder = Path(found["folder"])
    assert json.loads((folder / "results.json").read_text())["rows"] == found["rows"]
    assert "| RecFound |" in (folder / "table.md").read_text()
    # What is there is not computed again, what was lost is.
    (folder / "rows" / "BPR.json").unlink()
    again = compare("tiny", [str(file)], settings)
    assert asked[5:] == ["BPR"] and again["folder"] == found["folder"]
    assert [row["metrics"] for row in again["rows"]] == [row["metrics"] for row in found["rows"]]


def test_another_budget_is_another_table(small_run, asked, monkeypatch):
    monkeypatch.setattr(room, "VARIANTS", {})
    settings = small_run | {"only_tasks": ["U2I"], "max_steps": 1, "task_test_examples": 0, "baselines": ["Pop"]}
    folders = {compare("tiny", None, settings | {"time_budget": seconds})["folder"] for seconds in (0, 300)}
    assert len(folders) == 2 and asked == ["Pop", "ours"] * 2


def test_controls_of_soft_tokens_are_left_out_where_histories_are_text(small_run, asked, capsys):
    settings = small_run | {
        "only_tasks": ["U2I"],
        "max_steps": 1,
        "task_test_examples": 0,
        "baselines": ["Pop"],
        "history": "positions",
    }
    names = [row["model"] for row in compare("tiny", None, settings)["rows"]]
    assert "control: random item text" not in names and "- TMoLE (one shared LoRA)" in names
    assert "left out, histories are read as text: control: random item text" in capsys.readouterr().out


def test_a_model_for_each_task_has_as_many_examples(small_run, asked, monkeypatch):
    monkeypatch.setattr(room, "VARIANTS", {"control: untrained": {"max_steps": 0}})
    settings = small_run | {
        "tasks": ["U2I", "SR", "IP"],
        "max_steps": 4,
        "task_test_examples": 2,
        "baselines": ["Pop"],
        "batch_args": {"accumulation": 2},
    }
    found = compare("tiny", None, settings)
    rows = {row["model"]: row for row in found["rows"]}
    assert list(rows) == ["Pop", "RecFound", NO_MERGE, "control: untrained", SINGLE_TASKS, CONSTANT, POPULARITY]
    assert asked == ["Pop", *["ours"] * 5]
    together, ours = rows[SINGLE_TASKS], rows["RecFound"]
    assert rows[NO_MERGE]["task_metrics"].keys() == ours["task_metrics"].keys() == {"U2I", "SR", "IP"}
    alone = {
        name: json.loads((Path(found["folder"]) / "rows" / f"only_{name}.json").read_text()) for name in ours["tasks"]
    }
    for name, row in alone.items():
        told = row["tasks"][name]
        assert list(row["tasks"]) == [name] and 0 <= told["seen"] - ours["tasks"][name]["seen"] < told["step_alone"]
        assert together["task_metrics"][name] == row["task_metrics"][name]
    assert together["metrics"] == alone["U2I"]["metrics"] and not alone["SR"]["metrics"]
    assert together["train_seconds"] == sum(row["train_seconds"] for row in alone.values())
    assert rows["control: untrained"]["steps"] == 0 and list(rows[CONSTANT]["task_metrics"]) == ["SR"]
    table = (Path(found["folder"]) / "table.md").read_text()
    assert "| examples seen (distinct) | U2I | SR | IP |" in table
    assert f"| {CONSTANT} | - |" in table and f"| {SINGLE_TASKS} |" in table
    with pytest.raises(ConfigError, match="compare: the table needs a data set and the task U2I"):
        compare("tiny", None, settings | {"only_tasks": ["SR"]})


@pytest.mark.parametrize(
    ("changes", "own"),
    [
        ({"tower_args": {"user_layers": 1}}, "RecFound"),
        ({"control": "small_reader"}, "RecFound, control: small_reader"),
    ],
    ids=str,
)
def test_controls_replace_what_the_user_has_set(small_run, asked, monkeypatch, changes, own):
    """A row that is refused would stop the table, and every later call of it, behind hours of training."""
    names = ("control: LLM body bypassed", "control: small transformer instead of the LLM")
    monkeypatch.setattr(room, "VARIANTS", {name: ALL_VARIANTS[name] for name in names})
    settings = small_run | {"tasks": ["U2I", "SR"], "max_steps": 1, "task_test_examples": 0, "baselines": ["Pop"]}
    found = [row["model"] for row in compare("tiny", None, settings | changes)["rows"]]
    assert found == ["Pop", own, NO_MERGE, *names, SINGLE_TASKS]


def test_blends_are_refused_before_anything_is_trained(small_run, asked):
    with pytest.raises(ConfigError, match="blend: got EASE, but compare has no rows of blends"):
        compare("tiny", config_dict=small_run | {"baselines": ["EASE"], "blend": ["EASE"]})
    assert not asked


def test_data_that_change_between_rows_stop_the_table(small_run, data_that_change):
    """The row is not saved among those of the other data; see `test_seeds` for the rest."""
    data = str(data_that_change(module))
    settings = small_run | {"data_path": data, "only_tasks": ["U2I"], "baselines": ["Pop", "EASE"]}
    with pytest.raises(DataError, match=r"^tiny\.item changed since this study began"):
        compare("tiny", None, settings)
    assert [path.name for path in Path(small_run["output_dir"]).glob("compare-*/rows/*")] == ["Pop.json"]


def test_a_run_that_ended_before_its_row_was_saved_is_taken(small_run, asked, monkeypatch, capsys):
    monkeypatch.setattr(room, "VARIANTS", {})
    settings = small_run | {"only_tasks": ["U2I"], "max_steps": 1, "task_test_examples": 0, "baselines": ["Pop"]}

    def stopped(run_dir):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "read_results", stopped)
        with pytest.raises(KeyboardInterrupt):
            compare("tiny", None, settings)
    found = compare("tiny", None, settings)
    (run,) = Path(found["folder"]).glob("runs/*")
    assert f"taken from the finished run {run}" in capsys.readouterr().out
    assert found["rows"][1]["metrics"] == json.loads((run / "results.json").read_text())["rows"][-1]["metrics"]
