"""Items held out of training: no part that a model learns from has any, for every kind of model."""

import numpy as np
import pytest
import torch
from recbole.trainer import Trainer

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.comparison import check_same_rows
from recbole_recfound.data.split.interactions import interactions_of
from recbole_recfound.data.split.protocol import build_splits, further_tests, held_out
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.evaluation.drawn_ties import drawn_ties, tie_breaker
from recbole_recfound.evaluation.report.table import format_table, protocol_line


def splits_of(model, path, **settings):
    given = {"data_path": str(path), "show_progress": False, "use_gpu": False, "cold_items": 0.2, **settings}
    return build_splits(Config(model, "tiny", config_dict=given))


MODELS = ["BPR", "SASRec", "RecFound", "TextKNN"]


@pytest.fixture
def path(write_dataset):
    """Eighty users with nine of thirty items each, three of them at a time."""
    rng = np.random.default_rng(5)
    rows = [
        [f"u{user}", f"i{item}", step // 3] for user in range(80) for step, item in enumerate(rng.permutation(30)[:9])
    ]
    names = [[f"i{item}", f"item {item}"] for item in range(30)]
    return write_dataset(
        "tiny",
        inter=[["user_id:token", "item_id:token", "timestamp:float"], *rows],
        item=[["item_id:token", "title:token_seq"], *names],
    )


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("ties", ["file", "shuffle"])
def test_a_cold_item_is_nowhere_but_in_the_test(path, model, ties):
    splits = splits_of(model, path, order_ties=ties)
    cold = splits.dataset.cold
    whole = splits_of(model, path, order_ties=ties, cold_items=0)
    known = np.union1d(whole.known_at_test.items, held_out(whole.test_set)[:, 1])
    assert len(cold) == round(0.2 * len(known))
    assert not np.isin(interactions_of(splits.train_set)[1], cold).any()
    assert not np.isin(held_out(splits.valid_set)[:, 1], cold).any()
    assert not np.isin(splits.known_at_test.items, cold).any()
    names = splits.dataset.iid_field + splits.config["LIST_SUFFIX"]
    for part in (splits.train_set, splits.valid_set, splits.test_set):
        if names in part.inter_feat:  # of a sequential model
            assert not np.isin(part.inter_feat[names].numpy(), cold).any()
    # Exactly the users whose last item is cold are tested, on that item.
    expected = [pair for pair in held_out(whole.test_set).tolist() if pair[1] in cold]
    assert held_out(splits.test_set).tolist() == expected != []
    assert splits.test_set.item_num == whole.test_set.item_num


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("ties", ["file", "shuffle"])
def test_models_are_chosen_by_other_items_that_training_has_not_seen(path, model, ties):
    splits = splits_of(model, path, order_ties=ties)
    whole = splits_of(model, path, order_ties=ties, cold_items=0)
    cold, chosen_by = splits.dataset.cold, splits.dataset.cold_valid
    new = np.concatenate([cold, chosen_by])
    assert len(np.unique(new)) == 2 * len(cold)
    assert not np.isin(interactions_of(splits.train_set)[1], new).any()
    rows = held_out(splits.valid_data._dataset).tolist()
    tested = set(held_out(splits.test_set)[:, 0].tolist())
    expected = []
    for user, last in held_out(whole.test_set).tolist():
        before = [item for item in whole.known_at_test.of(user) if item not in cold]
        if last not in cold and before[-1] in chosen_by:
            expected.append([user, before[-1]])
    assert rows == expected != []
    assert not {user for user, _ in rows} & tested
    for known, users in ((splits.known_at_valid, {user for user, _ in rows}), (splits.known_at_test, tested)):
        assert not any(np.isin(known.of(user), new).any() for user in users)
        assert all(len(known.of(user)) for user in users)
    # What is no target stays in the histories of the test: the choice before it, which validation does not score.
    for user in tested:
        before = [item for item in whole.known_at_test.of(user) if item not in new]
        assert splits.known_at_test.of(user).tolist() == before
    names = splits.dataset.iid_field + splits.config["LIST_SUFFIX"]
    loaded = next(iter(splits.valid_data))[0]
    if names in loaded:
        assert not np.isin(loaded[names].numpy(), new).any()


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_users_with_few_rows_teach_no_new_item(write_dataset, model):
    """Of two or three rows RecBole holds out fewer, and of sequential models a row's history is trained on too."""
    rng = np.random.default_rng(7)
    rows = [
        [f"u{user}", f"i{item}", step]
        for user in range(200)
        for step, item in enumerate(rng.permutation(12)[: 1 + user % 4])
    ]
    path = write_dataset("tiny", inter=[["user_id:token", "item_id:token", "timestamp:float"], *rows])
    splits = splits_of(model, path)
    new = np.concatenate([splits.dataset.cold, splits.dataset.cold_valid])
    users, items = interactions_of(splits.train_set)
    assert len(users) and not np.isin(items, new).any()
    for user, item in held_out(splits.valid_data._dataset).tolist():
        assert item in splits.dataset.cold_valid and len(splits.known_at_valid.of(user))


def test_a_sample_of_tested_users_leaves_validation_whole(path):
    whole, sampled = splits_of("BPR", path), splits_of("BPR", path, test_users=4)
    assert len(held_out(sampled.test_set)) == 4
    assert np.array_equal(held_out(sampled.valid_data._dataset), held_out(whole.valid_data._dataset))


def test_too_few_items_for_a_validation_are_named(write_dataset):
    """Item 0 alone is ever the last but one, and it is not held out."""
    histories = {last: [*({*range(1, 10)} - {last}), 0, last] for last in range(1, 10)}
    rows = [[f"u{user}", f"i{item}", step] for user in histories for step, item in enumerate(histories[user])]
    path = write_dataset("tiny", inter=[["user_id:token", "item_id:token", "timestamp:float"], *rows])
    with pytest.raises(DataError, match="no validation row of tiny has one of the 1 items that are held out"):
        splits_of("BPR", path, cold_items=0.1)


def test_every_model_has_the_same_items_and_rows(tiny_path):
    reference = splits_of("RecFound", tiny_path)
    for model in ("BPR", "SASRec"):
        other = splits_of(model, tiny_path)
        check_same_rows(reference, other)
        assert np.array_equal(reference.dataset.cold, other.dataset.cold)
        assert np.array_equal(reference.dataset.cold_valid, other.dataset.cold_valid)
    other = splits_of("BPR", tiny_path, seed=2021)
    assert not np.array_equal(reference.dataset.cold, other.dataset.cold)


def test_the_ranking_among_unseen_items_by_hand(tiny_path):
    splits = splits_of("BPR", tiny_path, topk=[3], metrics=["Recall"], valid_metric="Recall@3")
    table = torch.rand(splits.dataset.user_num, splits.dataset.item_num, generator=torch.Generator().manual_seed(1))

    class Fixed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scores = torch.nn.Parameter(table.clone())

        def full_sort_predict(self, interaction):
            return self.scores[interaction[splits.dataset.uid_field]].clone()

    (name, loader), *others = further_tests(splits).items()
    assert (name, others) == ("unseen", [])
    found = Trainer(splits.config, Fixed()).evaluate(loader, load_best_model=False)
    cold = splits.dataset.cold
    hits = [
        sum(table[user, other] > table[user, item] for other in cold) < 3 for user, item in held_out(splits.test_set)
    ]
    assert found["recall@3"] == pytest.approx(np.mean(hits), abs=1e-4) and 0 < np.mean(hits) < 1


def test_a_model_that_cannot_tell_new_items_apart_finds_them_by_chance(tiny_path):
    """Items are numbered as they come first in the file: the order of their numbers is no skill."""
    splits = splits_of("BPR", tiny_path, topk=[1], metrics=["Recall"], valid_metric="Recall@1")

    class Alike(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scores = torch.nn.Parameter(torch.ones(splits.dataset.item_num))

        def full_sort_predict(self, interaction):
            return self.scores.expand(len(interaction), -1).clone()

    trainer, loader, found = Trainer(splits.config, Alike()), further_tests(splits)["unseen"], []
    for seed in range(60):
        splits.config["seed"] = seed
        with drawn_ties(trainer, loader):
            found.append(trainer.evaluate(loader, load_best_model=False)["recall@1"])
    chance = 1 / len(splits.dataset.cold)
    assert np.mean(found) == pytest.approx(chance, abs=3 * np.sqrt(chance * (1 - chance) / 60))


def test_a_drawn_order_is_one_of_half_precision_too_and_keeps_what_is_masked():
    class Loader:
        among = np.arange(1, 601)

    scores = torch.ones(2, 601, dtype=torch.bfloat16)
    scores[:, 0], scores[1, 7] = -torch.inf, -torch.inf
    ranked = tie_breaker(3, Loader())(scores)
    assert ranked[0, 1:].unique().tolist() == list(range(-599, 1)) and ranked[0, 0] == -torch.inf
    assert ranked[1, 7] == -torch.inf and len(ranked[1].unique()) == 600
    scores[0, 5] = 2.0
    assert tie_breaker(3, Loader())(scores)[0].argmax() == 5


def test_the_table_and_its_first_line_say_so(tiny_path):
    row = {"model": "A", "metrics": {"recall@10": 0.1}, "train_seconds": 1, "eval_seconds": 1}
    row |= {"trainable_parameters": 1, "unseen": {"ndcg@10": 0.2, "recall@10": 0.3}}
    header, _, line = format_table([row]).splitlines()
    assert "recall@10 unseen" in header and "0.3000" in line and "ndcg" not in header
    from recbole_recfound.data.split.protocol import Protocol

    splits = splits_of("BPR", tiny_path)
    assert "20% of the items held out of training" in protocol_line(Protocol.of(splits.config, splits).to_json())


@pytest.mark.parametrize(
    "arguments",
    [
        {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user", "mode": "full"},
        {"split": {"LS": "valid_and_test"}, "order": "RO", "group_by": "user", "mode": "full"},
        {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "uni100"},
    ],
)
def test_other_splits_are_refused(tiny_path, arguments):
    with pytest.raises(ConfigError, match="cold_items: needs eval_args"):
        splits_of("BPR", tiny_path, eval_args=arguments)
