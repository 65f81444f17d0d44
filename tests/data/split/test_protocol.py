"""The same question for every model: the same held-out items, the same mask, the same score for the same ranking."""

import numpy as np
import pytest
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.trainer import Trainer

from recbole_recfound.baseline.recbole import check_baseline_rows, fit
from recbole_recfound.compat.plugin import Plugin
from recbole_recfound.config import models
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.comparison import check_same_rows, check_short_histories
from recbole_recfound.data.split.protocol import build_splits, held_out
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.evaluation.report.table import format_table

HEADER = ["user_id:token", "item_id:token", "timestamp:float"]


def _splits(model, dataset, path, **settings):
    return build_splits(Config(model, dataset, config_dict={"data_path": path, "show_progress": False, **settings}))


@pytest.fixture(scope="module")
def random_scores():
    return torch.rand(400, 400, generator=torch.Generator().manual_seed(0))


class FixedScores(torch.nn.Module):
    """A model that gives user u the u-th row of a table."""

    def __init__(self, table, splits):
        super().__init__()
        self.scores = torch.nn.Parameter(table[: splits.dataset.user_num, : splits.dataset.item_num].clone())
        self.user_field = splits.dataset.uid_field

    def full_sort_predict(self, interaction):
        return self.scores[interaction[self.user_field]].clone()


def _metrics(splits, table):
    trainer = Trainer(splits.config, FixedScores(table, splits))
    return {
        phase: dict(trainer.evaluate(data, load_best_model=False))
        for phase, data in (("valid", splits.valid_data), ("test", splits.test_data))
    }


def _by_hand(splits, table, phase, mask, k=10):
    """Recall@k and MRR@k from the definition, user by user."""
    rows = held_out(splits.valid_set if phase == "valid" else splits.test_set)
    known = splits.known_at_valid if phase == "valid" else splits.known_at_test
    hits, reciprocal = [], []
    for user, item in rows:
        scores = table[user, : splits.dataset.item_num].clone()
        scores[0] = -np.inf
        if mask:
            scores[[other for other in known.of(user) if other != item]] = -np.inf
        rank = int((scores > scores[item]).sum()) + 1
        hits.append(rank <= k)
        reciprocal.append(1 / rank if rank <= k else 0)
    return {f"recall@{k}": round(np.mean(hits), 4), f"mrr@{k}": round(np.mean(reciprocal), 4)}


@pytest.mark.parametrize("mask", [True, False])
def test_the_same_scores_get_the_same_metrics_under_either_label(mask, tiny_path, random_scores):
    general = _splits("BPR", "tiny", tiny_path, mask_history=mask)
    sequential = _splits("GRU4Rec", "tiny", tiny_path, mask_history=mask, MAX_ITEM_LIST_LENGTH=3)
    assert _metrics(general, random_scores) == _metrics(sequential, random_scores)


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("model", ["BPR", "GRU4Rec"])
def test_metrics_are_those_of_the_definition(model, mask, tiny_path, random_scores):
    splits = _splits(model, "tiny", tiny_path, mask_history=mask, MAX_ITEM_LIST_LENGTH=3)
    found = _metrics(splits, random_scores)
    for phase in ("valid", "test"):
        expected = _by_hand(splits, random_scores, phase, mask)
        assert {metric: found[phase][metric] for metric in expected} == pytest.approx(expected)


def test_the_mask_matters(tiny_path, random_scores):
    masked, open_ = (_splits("BPR", "tiny", tiny_path, mask_history=mask) for mask in (True, False))
    assert _metrics(masked, random_scores) != _metrics(open_, random_scores)


@pytest.fixture
def repeats(write_dataset):
    """Users who come back to an item they had: the right answer is then in their history. The last two rows tie."""
    rows = []
    for user in range(6):
        items = [user % 4, 4, 5, user % 3, 6, user % 4, 4]
        times = [1, 1, 2, 3, 4, 9, 9]
        rows += [[f"u{user}", f"i{item}", time] for item, time in zip(items, times, strict=True)]
    rows += [[f"u{6 + first}", f"i{item}", item] for first in range(2) for item in range(first, first + 8)]
    return write_dataset("repeats", inter=[HEADER, *rows])


@pytest.mark.parametrize("model", ["BPR", "GRU4Rec"])
def test_the_right_answer_is_never_masked_and_everything_else_known_is(model, repeats):
    splits = _splits(model, "repeats", repeats, MAX_ITEM_LIST_LENGTH=2)
    for data, known in ((splits.valid_data, splits.known_at_valid), (splits.test_data, splits.known_at_test)):
        for interaction, (masked_u, masked_i), positive_u, positive_i in data:
            for row, user in enumerate(interaction["user_id"].tolist()):
                positive = set(positive_i[positive_u == row].tolist())
                assert set(masked_i[masked_u == row].tolist()) == set(known.of(user).tolist()) - positive
    assert any(item in splits.known_at_test.of(user) for user, item in held_out(splits.test_set))


def test_histories_are_the_rows_in_time_and_file_order(repeats):
    for model in ("BPR", "GRU4Rec"):
        splits = _splits(model, "repeats", repeats, MAX_ITEM_LIST_LENGTH=2)
        names = splits.dataset.field2id_token["item_id"]
        user = splits.dataset.token2id("user_id", "u3")
        assert names[splits.known_at_valid.of(user)].tolist() == ["i3", "i4", "i5", "i0", "i6"]
        assert names[splits.known_at_test.of(user)].tolist() == ["i3", "i4", "i5", "i0", "i6", "i3"]
        assert [user, splits.dataset.token2id("item_id", "i4")] in held_out(splits.test_set).tolist()


def test_general_and_sequential_models_hold_out_the_same_rows_of_ml_100k():
    general, sequential = (build_splits(Config(model, "ml-100k")) for model in ("BPR", "GRU4Rec"))
    check_same_rows(general, sequential)
    assert np.array_equal(held_out(general.test_set), held_out(sequential.test_set)) and len(general.test_set) == 943
    assert np.array_equal(general.known_at_test.items, sequential.known_at_test.items)


@pytest.mark.parametrize("mode", ["full", "uni5"])
def test_users_with_several_test_rows_are_not_compared_by_user_and_by_row(mode, write_dataset):
    """Shares of 28 and 27 rows end alike, in two test rows, of which RecBole ranks a sequential model's one by one."""
    rows = [[f"u{user}", f"i{(user + step) % 40}", step] for user in range(6) for step in range(28)]
    path = write_dataset("even", inter=[HEADER, *rows])
    split = {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "user", "mode": mode}
    general, other, sequential = (_splits(name, "even", path, eval_args=split) for name in ("Pop", "EASE", "GRU4Rec"))
    check_same_rows(general, other)
    assert np.array_equal(held_out(general.test_set), held_out(sequential.test_set)) and len(general.test_set) > 6
    with pytest.raises(DataError, match="GRU4Rec: 6 users have several .* rows. .* GRU4Rec and Pop cannot be compared"):
        check_same_rows(general, sequential)
    if mode == "full":  # before anything is trained
        with pytest.raises(DataError, match="EASE: 6 users have several validation rows"):
            check_baseline_rows(["SASRec", "EASE"], sequential)


def test_our_models_get_the_history(tiny_path, monkeypatch):
    monkeypatch.setitem(models.OUR_MODELS, "BPR", Plugin("recbole.model.general_recommender.bpr"))
    splits = _splits("BPR", "tiny", tiny_path, MAX_ITEM_LIST_LENGTH=5, eval_batch_size=7)
    seen = 0
    for data, known in ((splits.valid_data, splits.known_at_valid), (splits.test_data, splits.known_at_test)):
        for interaction, *_ in data:
            assert len(interaction) <= 7
            for user, items, length in zip(
                interaction["user_id"], interaction["item_id_list"], interaction["item_length"], strict=True
            ):
                assert items[:length].tolist() == known.of(int(user))[-5:].tolist() and not items[length:].any()
                seen += 1
    assert seen == 2 * len(splits.test_set)
    with pytest.raises(ConfigError, match="eval_args: mode is .*uni10.* ranks all items"):
        _splits("BPR", "tiny", tiny_path, eval_args={"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "uni10"})


def test_our_histories_do_not_change_scores(tiny_path, random_scores, monkeypatch):
    theirs = _metrics(_splits("BPR", "tiny", tiny_path), random_scores)
    monkeypatch.setitem(models.OUR_MODELS, "BPR", Plugin("recbole.model.general_recommender.bpr"))
    assert _metrics(_splits("BPR", "tiny", tiny_path), random_scores) == theirs


@pytest.fixture
def short(write_dataset):
    rows = [[f"u{user}", f"i{(user + step) % 5}", step] for user in range(5) for step in range(2 + user % 3)]
    return write_dataset("short", inter=[HEADER, *rows])


def test_users_too_short_for_a_fair_comparison_are_refused(short):
    general, sequential = (
        _splits(model, "short", short, filter_inter_by_user_or_item=False) for model in ("BPR", "GRU4Rec")
    )
    with pytest.raises(DataError, match=r"4 of 5 users have 2 or 3 interactions.*\(GRU4Rec\).*user_inter_num_interval"):
        check_short_histories(general, ["GRU4Rec"])
    check_short_histories(general, [])
    with pytest.raises(DataError, match="GRU4Rec: its validation rows differ from those of .*user_inter_num_interval"):
        check_same_rows(general, sequential)


def test_other_items_are_refused(tiny_path):
    reference = _splits("BPR", "tiny", tiny_path)
    other = _splits(
        "BPR", "tiny", tiny_path, load_col={"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id"]}
    )
    with pytest.raises(DataError, match="its set of item_id differs"):
        check_same_rows(reference, other)


def test_an_empty_part_of_the_split_is_refused(tiny_path, write_dataset):
    with pytest.raises(DataError, match="the validation split of tiny is empty .*test_only"):
        _splits("BPR", "tiny", tiny_path, eval_args={"split": {"LS": "test_only"}, "order": "TO", "mode": "full"})
    path = write_dataset("single", inter=[HEADER, ["u", "i", 1], ["v", "j", 2]])
    with pytest.raises(DataError, match="the validation split of single is empty"):
        _splits("BPR", "single", path)
    with pytest.raises(DataError, match="user_inter_num_interval.* leaves none of"):
        _splits("BPR", "tiny", tiny_path, user_inter_num_interval="[1000,inf)")


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_scores_without_a_mask_stand_beside_the_others(tiny_path, model):
    """RecBole's own loader masks nothing for sequential models, and its own value is the one without a mask."""
    settings = {"data_path": str(tiny_path), "epochs": 1, "show_progress": False, "use_gpu": False}
    settings |= {"score_unmasked": True, "MAX_ITEM_LIST_LENGTH": 10, "train_neg_sample_args": None}
    settings |= {} if model == "SASRec" else {"train_neg_sample_args": NEGATIVES}
    config = Config(model, "tiny", config_dict=settings)
    row, _ = fit(config, build_splits(config))
    plain = Config(model, "tiny", config_dict=settings | {"mask_history": False})
    other, _ = fit(plain, build_splits(plain))
    assert row.details["unmasked"] == other.metrics != row.metrics and "unmasked" not in other.details
    table = format_table([row.to_json()]).splitlines()
    assert "ndcg@10 unmasked" in table[0] and f"{other.metrics['ndcg@10']:.4f}" in table[2]


NEGATIVES = {"distribution": "uniform", "sample_num": 1, "alpha": 1.0, "dynamic": False, "candidate_num": 0}


@pytest.mark.parametrize("model", ["BPR", "EASE", "NeuMF", "ItemKNN"])
def test_many_users_a_batch_give_recboles_own_results(tiny_path, model):
    settings = {"data_path": str(tiny_path), "epochs": 1, "show_progress": False, "use_gpu": False}
    settings["eval_batch_size"] = 200  # scores: one user a batch
    config = Config(model, "tiny", config_dict=settings)
    splits = build_splits(config)
    _, fitted = fit(config, splits)
    theirs = FullSortEvalDataLoader(config, splits.test_set, splits.test_data._sampler)
    trainer = Trainer(config, fitted)
    assert len(splits.test_data) < len(theirs) / 10
    ours, own = (trainer.evaluate(loader, load_best_model=False) for loader in (splits.test_data, theirs))
    assert dict(ours) == pytest.approx(dict(own), abs=1e-6)
