"""Repeated consumption: how many test items are repeats, and one ranking of old and new items where the user asks."""

import numpy as np
import pytest

from recbole_recfound.baseline.recbole import baseline_config, run_baseline
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.multi_task import catalogue_of
from recbole_recfound.data.records.files import TaskFiles
from recbole_recfound.data.split.protocol import Protocol, build_splits
from recbole_recfound.data.task import HeldOut, TrainingData, build_tasks
from recbole_recfound.data.task_tests import collect_tests
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.report.table import protocol_line
from recbole_recfound.quick_start import load_recfound, run_recfound
from tests.data.task.hand_made import task_settings

HEADER = ["user_id:token", "item_id:token", "timestamp:float"]


@pytest.fixture
def habits(write_dataset):
    """Users who take turns between a few items of their own: every test item is a repeat."""
    rows = [[f"u{user}", f"i{(user * 3 + step % 4) % 20}", 60 * step] for user in range(20) for step in range(9)]
    return str(write_dataset("habits", inter=[HEADER, *rows]))


FEW = {"topk": 5, "valid_metric": "NDCG@5", "use_gpu": False, "show_progress": False}


def _config(path, model="RecFound", **settings):
    return Config(model, "habits", config_dict={"data_path": path, **FEW, **settings})


def test_their_share_is_printed(habits):
    splits = build_splits(_config(habits))
    line = protocol_line(Protocol.of(splits.config, splits).to_json())
    assert "100.0% of the test items are repeats" in line and "these scores are too high: --repeatable=True" in line
    splits = build_splits(_config(habits, repeatable=True))
    line = protocol_line(Protocol.of(splits.config, splits).to_json())
    assert "history NOT masked" in line and "too high" not in line


def test_only_the_users_value_counts(habits):
    assert _config(habits, "SASRec")["repeatable"] and _config(habits, "SASRec")["mask_history"]
    assert not _config(habits, "SASRec", repeatable=True)["mask_history"]
    with pytest.raises(ConfigError, match="repeatable: True ranks a user's old items too"):
        _config(habits, repeatable=True, mask_history=True)
    assert not _config(habits, repeatable=True)["mask_history"]


def test_baselines_rank_and_sample_alike(habits, tmp_path):
    """With the history masked a repeat is the only old item in the ranking."""
    scores = {}
    for repeatable in (False, True):
        config = _config(habits, **({"repeatable": True} if repeatable else {}))
        scores[repeatable] = run_baseline("EASE", config, build_splits(config), tmp_path).metrics["ndcg@5"]
        theirs = baseline_config("BPR", config, tmp_path)
        sampler = build_splits(theirs).train_data._sampler
        assert type(sampler).__name__ == ("RepeatableSampler" if repeatable else "Sampler")
    assert scores[False] > 1.5 * scores[True] > 0


@pytest.mark.parametrize("repeatable", [False, True])
def test_tasks(habits, repeatable):
    splits = build_splits(_config(habits, **({"repeatable": True} if repeatable else {})))
    catalogue = catalogue_of(splits.config, splits.train_set)
    source = TrainingData.of(splits.train_set, catalogue, 0)
    settings = task_settings(sequences=False, test_examples=50, candidates=6, hard_negatives=12)
    settings = type(settings)(settings.args, False, 50, repeatable)
    tasks, _ = build_tasks(["U2I", "SR"], source, settings)
    held_out = HeldOut.of(splits.train_set, splits.valid_set, splits.test_set, catalogue, 0)
    tests = collect_tests(tasks, held_out, TaskFiles.open([], False), 50, 0)
    assert {name for name, test in tests.items() if test.examples} == ({"U2I", "SR"} if repeatable else set())
    old = 0
    for index in range(len(tasks["SR"])):
        slots = tasks["SR"].example(index).slots
        history, listed = set(slots["history"][1]), slots["candidates"][1]
        old += len(history & set(listed))
    assert old > 0 if repeatable else old == 0
    examples = [tasks["U2I"].example(index) for index in range(len(tasks["U2I"]))]
    assert any(set(e.query) & set(e.negatives) for e in examples) == repeatable


def test_serving_agrees_with_the_run(small_run, habits):
    settings = small_run | {"data_path": habits, "repeatable": True, "max_steps": 2, **FEW}
    settings["load_col"] = {"inter": ["user_id", "item_id", "timestamp"]}
    run = run_recfound("RecFound", "habits", config_dict=settings)["run_dir"]
    history = ["i0", "i1", "i2", "i3"]
    served = [token for token, _, _ in load_recfound(run).recommend(history, k=50)]
    assert set(history) < set(served) and len(served) == 20


def test_repeats_of_no_user_are_no_line(tiny_path):
    splits = build_splits(Config("RecFound", "tiny", config_dict={"data_path": str(tiny_path)}))
    rules = Protocol.of(splits.config, splits).to_json()
    assert rules["repeats"] == 0 and "repeats" not in protocol_line(rules)
    assert np.isfinite(rules["tied_test_rows"])
