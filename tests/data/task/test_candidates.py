"""One definition of candidates for every task: no question can be answered by what everybody has had."""

from dataclasses import replace

import numpy as np
import pytest

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.multi_task import catalogue_of
from recbole_recfound.data.records.files import TaskFiles
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.data.task import HeldOut, TrainingData, build_tasks
from recbole_recfound.data.task_tests import TaskTest, collect_tests
from recbole_recfound.evaluation.tasks import popularity_guess
from tests.data.task.hand_made import task_settings

NAMES = ["U2I", "Q2I", "I2I", "SR", "IP"]
USERS, ITEMS, METADATA = 400, 60, 600


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return a function that builds tasks and tests on data whose targets are drawn uniformly.

    Training interactions are not uniform: a few items are popular. The metadata file has ten times as many items.
    """
    root = tmp_path_factory.mktemp("big")
    rng = np.random.default_rng(3)
    share = 1 / np.arange(1, ITEMS + 1)
    rows = []
    for user in range(USERS):
        history = rng.choice(ITEMS, size=7, replace=False, p=share / share.sum())
        free = np.setdiff1d(np.arange(ITEMS), history)
        for step, item in enumerate([*history, *rng.choice(free, 2, replace=False)]):
            rows.append(f"u{user}\ti{item}\t{1_600_000_000 + 60 * step}")
    (root / "big").mkdir()
    head = "user_id:token\titem_id:token\ttimestamp:float"
    (root / "big" / "big.inter").write_text("\n".join([head, *rows]) + "\n")
    items = [f"i{number}\tFilm number {number}\t{1900 + number % 90}" for number in range(METADATA)]
    (root / "big" / "big.item").write_text("\n".join(["item_id:token\ttitle:token_seq\tyear:token", *items]) + "\n")

    def build(candidates="trained"):
        splits = build_splits(Config("RecFound", "big", config_dict={"data_path": str(root)}))
        catalogue = catalogue_of(splits.config, splits.train_set)
        source = TrainingData.of(splits.train_set, catalogue, 0, candidates=candidates)
        tasks, _ = build_tasks(NAMES, source, task_settings(sequences=False, test_examples=400))
        held_out = HeldOut.of(splits.train_set, splits.valid_set, splits.test_set, catalogue, 0, candidates)
        return source, tasks, collect_tests(tasks, held_out, TaskFiles.open([], False), 400, 0)

    return build


def _rows(example):
    """All catalogue rows of an example, by their part in it."""
    if hasattr(example, "negatives"):
        return [example.positive, *example.negatives]
    return [row for form, rows in example.slots.values() if form == "lettered" for row in rows]


def test_every_task_asks_for_items_with_training_interactions(built):
    source, tasks, tests = built()
    trained = set(source.items.tolist())
    assert source.candidates.tolist() == sorted(trained) and len(trained) <= ITEMS < len(source.catalogue)
    assert set(tasks) == set(NAMES)
    for name, task in tasks.items():
        examples = [task.example(index) for index in range(0, len(task), 7)]
        for example in [*examples, *tests[name].examples]:
            assert set(_rows(example)) <= trained, name
    assert len(tasks["Q2I"]) <= ITEMS and len(tasks["IP"]) <= ITEMS


@pytest.mark.parametrize("name", ["SR", "U2I"])
def test_popularity_guesses_no_better_than_chance_where_targets_are_uniform(built, name):
    """And it guesses well where candidates are drawn from the whole metadata file: this is what is avoided."""
    settings = {"test_args": {}, "metric_decimal_place": 4}
    chance = {"SR": 1 / 20, "U2I": float(np.mean(1 / np.arange(1, 21)))}[name]
    _, _, tests = built()
    (guess,) = popularity_guess(tests[name], settings).values()
    assert guess < chance + 3 * 0.25 / np.sqrt(len(tests[name].examples))
    _, _, tests = built("all")
    (guess,) = [*popularity_guess(tests["SR"], settings).values()]
    assert guess > 0.2


@pytest.mark.parametrize("name", ["SR", "U2I", "I2I", "Q2I"])
def test_equal_popularity_is_chance(built, name):
    """Where all items have as many interactions, and in the mean over all orders where some have."""
    settings = {"metric_decimal_place": 6}
    test = built()[2][name]
    ranks = np.arange(1, 21)
    chance = {"SR": 1 / 20, "I2I": float(np.mean(1 / np.log2(1 + ranks)))}.get(name, float(np.mean(1 / ranks)))
    (guess,) = popularity_guess(replace(test, popularity=np.full(METADATA, 7)), settings).values()
    assert guess == pytest.approx(chance, abs=1e-6)
    rng = np.random.default_rng(1)
    few = rng.integers(1, 4, METADATA)
    (guess,) = popularity_guess(replace(test, popularity=few), settings).values()
    orders = [replace(test, popularity=few + rng.random(METADATA) / 2) for _ in range(200)]
    means = [next(iter(popularity_guess(each, settings).values())) for each in orders]
    assert guess == pytest.approx(np.mean(means), abs=4 * np.std(means) / np.sqrt(len(means)))


def test_users_are_ranked_against_items_that_recbole_knows(built):
    """Rows that only .item has are read as texts by other tasks, but have no vector in the table of items."""
    source, _, tests = built("all")
    assert len(source.unlisted) >= METADATA - ITEMS
    only_texts = set(source.unlisted.tolist())
    asked = {name: {row for example in tests[name].examples for row in _rows(example)} for name in ("U2I", "I2I")}
    assert only_texts & asked["I2I"] and not only_texts & asked["U2I"]


def test_records_have_no_popularity():
    assert popularity_guess(TaskTest("SR", [], (), "test files", 0), {}) is None
