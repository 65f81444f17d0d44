"""Training examples are a function of the training rows alone, through RecBole's real split."""

import numpy as np
import pytest

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.multi_task import catalogue_of
from recbole_recfound.data.split.protocol import Splits, build_splits
from recbole_recfound.data.task import TrainingData, build_tasks
from tests.data.task.hand_made import task_settings

TASKS = ["U2I", "I2I", "Q2I", "SR", "SA", "IP", "AVE", "UP"]
ITEM = [["item_id:token", "title:token_seq", "genre:token"], *([f"i{n}", f"Film {n}", f"g{n % 3}"] for n in range(20))]
QUERIES = [(f"query {n % 7}", n % 18) for n in range(40)]
PROFILES = {f"u{n}": {"age": str(20 + n)} for n in range(12)}
INTER = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]


def _interactions(held_out_seed: int) -> list[list]:
    """Twelve users; the seed draws the last two rows of each: ratings, times and whether they name new items.

    Some training rows have no rating, which RecBole would fill with the mean of all rows.
    """
    rows, training, held_out = [INTER], np.random.default_rng(0), np.random.default_rng(held_out_seed)
    for user in range(12):
        items = training.permutation(24)[:5]
        ratings = [training.choice(["1", "2", "3", "4", "5", ""]) for _ in items]
        rows += [[f"u{user}", f"i{item}", ratings[at], 100 * user + at] for at, item in enumerate(items)]
        # 24 to 29 have no row in .item and occur in no training row.
        others = held_out.permutation([item for item in range(30) if item not in items])[:2]
        rows += [
            [f"u{user}", f"i{item}", held_out.choice([1, 2, 3, 60]), 5000 + held_out.integers(9)] for item in others
        ]
    return rows


def _examples(path, source_of, sequences: bool) -> bytes:
    examples = []
    columns = {"inter": [c.split(":")[0] for c in INTER]}
    for form, normalize_all in (("letters", False), ("title", False), ("letters", True)):
        settings = {"data_path": str(path), "load_col": columns, "normalize_all": normalize_all}
        splits = build_splits(Config("RecFound", "films", config_dict=settings))
        options = task_settings(
            sequences=sequences, candidates=4, hard_negatives=2, negative_source="title", form=form, test_examples=16
        )
        tasks, left_out = build_tasks(TASKS, source_of(splits), options)
        assert not left_out
        examples += [(name, task.note, [task.example(i) for i in range(len(task))]) for name, task in tasks.items()]
    return repr(examples).encode()


def _source(splits: Splits) -> TrainingData:
    return TrainingData.of(splits.train_set, catalogue_of(splits.config, splits.train_set), 3, QUERIES, PROFILES)


def _planted(splits: Splits) -> TrainingData:
    """What a careless builder would do: look at all interactions."""
    return TrainingData.of(splits.dataset, catalogue_of(splits.config, splits.train_set), 3, QUERIES, PROFILES)


def _same_examples_whatever_is_held_out(write_dataset, source_of, sequences: bool) -> bool:
    found = set()
    for seed in (1, 2, 3):
        path = write_dataset("films", inter=_interactions(seed), item=ITEM)
        found.add(_examples(path, source_of, sequences))
    return len(found) == 1


@pytest.mark.parametrize("sequences", [True, False])
def test_held_out_rows_change_no_training_example(write_dataset, sequences):
    assert _same_examples_whatever_is_held_out(write_dataset, _source, sequences)


@pytest.mark.parametrize("sequences", [True, False])
def test_a_builder_that_sees_all_interactions_is_caught(write_dataset, sequences):
    assert not _same_examples_whatever_is_held_out(write_dataset, _planted, sequences)


def test_histories_keep_recboles_order_with_equal_times(tiny_path):
    """Rows with equal timestamps must never be sorted again: the last of them is held out."""
    settings = {"data_path": str(tiny_path), "load_col": {"inter": [c.split(":")[0] for c in INTER]}}
    splits = build_splits(Config("RecFound", "tiny", config_dict=settings))
    source = TrainingData.of(splits.train_set, catalogue_of(splits.config, splits.train_set), seed=0)
    train = splits.train_set
    tokens_of = {str(train.id2token("user_id", user)): user for user in range(1, train.user_num)}
    assert set(source.users) == {token for token, user in tokens_of.items() if len(splits.known_at_valid.of(user))}
    for index, token in enumerate(source.users):
        expected = train.id2token("item_id", splits.known_at_valid.of(tokens_of[token]))
        assert [source.catalogue.tokens[row] for row in source.history(index)] == expected.tolist()
    rating = {(str(u), str(i)): r for u, i, r in _raw_ratings(tiny_path)}
    for index, token in enumerate(source.users):
        start, stop = source.indptr[index], source.indptr[index + 1]
        found = [
            (source.catalogue.tokens[row], value)
            for row, value in zip(source.items[start:stop], source.ratings[start:stop], strict=True)
        ]
        assert all(rating[token, item] == value for item, value in found)


@pytest.mark.parametrize("stars", [(1, 2, 3, 4, 5), (0.5, 1, 2.5, 4.5, 5), (0, 1)])
def test_ratings_are_those_of_the_file_though_recbole_normalises_them(write_dataset, stars):
    rows = [
        [f"u{user}", f"i{(user + step) % 9}", stars[(user + step) % len(stars)], step]
        for user in range(9)
        for step in range(6)
    ]
    path = write_dataset("shop", inter=[INTER, *rows])
    splits = build_splits(Config("RecFound", "shop", config_dict={"data_path": str(path), "normalize_all": True}))
    assert splits.train_set.inter_feat["rating"].max() <= 1
    source = TrainingData.of(splits.train_set, catalogue_of(splits.config, splits.train_set), seed=0)
    told = {(user, item): value for user, item, value, _ in rows}
    for index, token in enumerate(source.users):
        start, stop = source.indptr[index], source.indptr[index + 1]
        for row, value in zip(source.items[start:stop], source.ratings[start:stop], strict=True):
            assert value == told[token, source.catalogue.tokens[row]]


def _raw_ratings(path):
    for line in (path / "tiny" / "tiny.inter").read_text().splitlines()[1:]:
        user, item, rating, _ = line.split("\t")
        yield user, item, float(rating)


def test_queries_for_held_out_items_are_left_out(write_dataset):
    path = write_dataset("films", inter=_interactions(1), item=ITEM)
    splits = build_splits(Config("RecFound", "films", config_dict={"data_path": str(path)}))
    catalogue = catalogue_of(splits.config, splits.train_set)
    seen = catalogue.row_of[str(splits.train_set.id2token("item_id", splits.train_set.inter_feat["item_id"][0]))]
    source = TrainingData.of(splits.train_set, catalogue, 0, [("seen", seen), ("unseen", catalogue.pool_size)])
    assert len(catalogue) > catalogue.pool_size
    assert source.queries == [("seen", seen)]


def test_an_interaction_without_a_rating_has_none(write_dataset):
    path = write_dataset("films", inter=_interactions(1), item=ITEM)
    settings = {"data_path": str(path), "load_col": {"inter": [c.split(":")[0] for c in INTER]}}
    splits = build_splits(Config("RecFound", "films", config_dict=settings))
    source = _source(splits)
    tasks, _ = build_tasks(["SA"], source, task_settings())
    assert tasks["SA"].choices == ("1", "2", "3", "4", "5")
    assert 0 < np.isnan(source.ratings).sum() < len(source.ratings)
    examples = [tasks["SA"].example(index) for index in range(len(tasks["SA"]))]
    assert {example.answer for example in examples} == {"1", "2", "3", "4", "5"}
    shown = {rating for example in examples for _, rating in example.slots["history"][1]}
    assert "not rated" in shown and "nan" not in shown
