"""Blends: weights from validation alone, and the ranking of the table's rules."""

import math

import numpy as np
import pytest
import torch

from recbole_recfound import run_recfound
from recbole_recfound.baseline.blend import WEIGHTS, Scorer, blend, standardised
from recbole_recfound.baseline.recbole import baseline_config
from recbole_recfound.config.configurator import Config
from recbole_recfound.config.models import get_model
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.errors import ConfigError


@pytest.fixture
def splits(tiny_path):
    quick = {"show_progress": False, "use_gpu": False, "data_path": str(tiny_path)}
    return build_splits(Config("RecFound", "tiny", config_dict=quick))


def _targets(part):
    return dict(zip(part.inter_feat["user_id"].tolist(), part.inter_feat["item_id"].tolist(), strict=True))


def _scorer(splits, table):
    """A model that knows a score of every user and item."""
    return Scorer(splits, lambda interaction: table[interaction["user_id"]])


def _ndcg(splits, part, known, scores):
    """NDCG@10 of each user, one by one: the target among the items that the user has not had before."""
    found = []
    for user, target in sorted(_targets(part).items()):
        closed = {0, *known.of(user).tolist()} - {target}
        scored = enumerate(scores[user].tolist())
        better = sum(1 for item, score in scored if item not in closed and score > scores[user, target])
        found.append(1 / math.log2(better + 2) if better < 10 else 0.0)
    return np.array(found)


@pytest.fixture
def tables(splits):
    """Two noisy models, each right about some users."""
    rng = torch.Generator().manual_seed(3)
    first, second = (torch.randn(splits.train_set.user_num, splits.train_set.item_num, generator=rng) for _ in range(2))
    for part in (splits.valid_set, splits.test_set):
        for user, item in _targets(part).items():
            first[user, item] += 2.0 * (user % 2)
            second[user, item] += 2.0 * (user % 3 > 0)
    return first, 100.0 * second + 7.0


def test_the_weight_of_the_best_validation_score(splits, tables):
    first, second = tables
    found = blend(_scorer(splits, first), _scorer(splits, second))

    def joined(weight):
        rows = [
            (table - table[:, 1:].mean(1, keepdim=True)) / table[:, 1:].std(1, correction=0, keepdim=True)
            for table in tables
        ]
        return rows[0] + weight * rows[1]

    valid = {w: _ndcg(splits, splits.valid_set, splits.known_at_valid, joined(w)).mean() for w in (0.0, *WEIGHTS)}
    assert found.weight == max(valid, key=valid.get) != 0
    assert found.valid["ndcg@10"] == pytest.approx(valid[found.weight], abs=1e-4)
    expected = _ndcg(splits, splits.test_set, splits.known_at_test, joined(found.weight))
    assert found.by_user == pytest.approx(expected.tolist(), abs=1e-6)
    assert found.test["ndcg@10"] == pytest.approx(expected.mean(), abs=1e-4)


def test_what_helps_on_the_test_part_alone_is_not_chosen(splits, tables):
    first, second = tables
    for user, item in _targets(splits.test_set).items():
        second[user, item] = 1e6
    for user, item in _targets(splits.valid_set).items():
        first[user, item], second[user, item] = 1e6, -1e6
    assert blend(_scorer(splits, first), _scorer(splits, second)) is None


def test_standardised_scores_forget_scale_and_padding(tables):
    first, second = tables
    assert torch.allclose(standardised(first)[:, 1:].mean(1), torch.zeros(len(first)), atol=1e-5)
    assert torch.allclose(standardised(first)[:, 1:].std(1, correction=0), torch.ones(len(first)), atol=1e-4)
    assert torch.allclose(standardised(second), standardised((second - 7) / 100), atol=1e-4)
    assert standardised(torch.ones(2, 5)).isfinite().all() and standardised(torch.ones(2, 2)).isfinite().all()


def test_each_model_reads_what_its_own_data_say_of_a_user(splits, tables, tiny_path):
    """EASE's rows have no histories: a second model that reads them must score as in its own row of the table."""
    quick = {"show_progress": False, "use_gpu": False, "data_path": str(tiny_path)}
    plain = build_splits(Config("EASE", "tiny", config_dict=quick))
    own = {part: {} for part in ("valid", "test")}
    for part, loader in (("valid", splits.valid_data), ("test", splits.test_data)):
        for interaction, *_ in loader:
            rows = zip(interaction["user_id"].tolist(), interaction["item_id_list"].tolist(), strict=True)
            own[part] |= {user: history for user, history in rows}
    read = []

    def second(interaction):
        read.extend(zip(interaction["user_id"].tolist(), interaction["item_id_list"].tolist(), strict=True))
        return tables[1][interaction["user_id"]]

    assert blend(_scorer(plain, tables[0]), Scorer(splits, second))
    count = len(own["valid"])
    assert dict(read[:count]) == own["valid"] and dict(read[count:]) == own["test"] and len(read) == 2 * count


def test_a_model_that_scores_pairs_alone_is_blended_too(splits, tables):
    class Pairs:
        def full_sort_predict(self, interaction):
            raise NotImplementedError

        def predict(self, interaction):
            return tables[0][interaction["user_id"], interaction["item_id"]]

    found = blend(Scorer.of(splits, Pairs()), _scorer(splits, tables[1]))
    assert found == blend(_scorer(splits, tables[0]), _scorer(splits, tables[1]))


def test_a_blend_is_scored_in_the_further_rankings_too(tiny_path):
    """New items alone, and new items among all with the old ones of each user."""
    quick = {"show_progress": False, "use_gpu": False, "data_path": str(tiny_path)}
    quick |= {"cold_items": 0.4, "score_unmasked": True}
    splits = build_splits(Config("RecFound", "tiny", config_dict=quick))
    cold, rng = set(splits.dataset.cold.tolist()), torch.Generator().manual_seed(3)
    size = splits.train_set.user_num, splits.train_set.item_num
    tables = [torch.randn(size, generator=rng) for _ in range(2)]
    for user, item in _targets(splits.valid_set).items():
        tables[1][user, item] = 5.0  # so that validation wants the second model
    found = blend(*(_scorer(splits, table) for table in tables))
    joined = standardised(tables[0]) + found.weight * standardised(tables[1])
    hits = {"unseen": [], "unmasked": []}
    for user, target in _targets(splits.test_set).items():
        for name, items in (("unseen", cold), ("unmasked", range(1, size[1]))):
            best = sorted(items, key=lambda item, user=user: -joined[user, item].item())[:10]
            hits[name].append(target in best)
    assert {name: metrics["recall@10"] for name, metrics in found.others.items()} == {
        name: pytest.approx(np.mean(values), abs=6e-5) for name, values in hits.items()
    }
    assert 0 < np.mean(hits["unseen"]) < 1


@pytest.mark.parametrize("name", ["EASE", "SASRec"])
def test_a_run_with_a_blend(small_run, capsys, name):
    settings = small_run | {"baselines": ["Pop", name], "blend": [name], "baseline_args": {name: {"epochs": 3}}}
    result = run_recfound("RecFound", "tiny", config_dict=settings)
    rows = {row["model"]: row for row in result["comparison"]}
    assert list(rows)[:2] == ["Pop", name] and list(rows)[-1] == "RecFound"
    assert result["test_result"] == rows["RecFound"]["metrics"]
    printed = capsys.readouterr().out
    for first in ("Pop", "RecFound"):
        assert (f"{first} + {name}" in rows) != (f"{first} + {name}: validation prefers {first} alone" in printed)
        if joined := rows.get(f"{first} + {name}"):
            assert joined["valid_metrics"]["ndcg@10"] > rows[first]["valid_metrics"]["ndcg@10"]
            assert joined["note"].endswith("times (weight from validation)")


@pytest.mark.parametrize("name", ["SASRec", "BERT4Rec", "EASE"])
def test_a_baseline_scores_in_a_blend_as_in_its_own_row(splits, tables, name):
    """Sequential ones as well, which have a row for each history."""
    config = baseline_config(name, splits.config, splits.config["checkpoint_dir"])
    theirs = build_splits(config)
    second = Scorer.of(theirs, get_model(name)(config, theirs.train_set).eval())
    own = {part: torch.zeros_like(tables[0]) for part in ("valid", "test")}
    for part, loader in (("valid", theirs.valid_data), ("test", theirs.test_data)):
        for interaction, *_ in loader:
            own[part][interaction["user_id"]] = second.scores(interaction)
    for user, item in _targets(splits.valid_set).items():
        tables[0][user, item] = -1.5  # so that validation wants the second model
    found = blend(_scorer(splits, tables[0]), second)

    def joined(part):
        return standardised(tables[0]) + found.weight * standardised(own[part])

    valid = _ndcg(splits, splits.valid_set, splits.known_at_valid, joined("valid"))
    assert found.valid["ndcg@10"] == pytest.approx(valid.mean(), abs=1e-4)
    expected = _ndcg(splits, splits.test_set, splits.known_at_test, joined("test"))
    assert found.by_user == pytest.approx(expected.tolist(), abs=1e-6) and expected.mean() > 0


def test_a_blend_needs_its_row(small_run):
    with pytest.raises(ConfigError, match="blend: EASE is not among the baselines"):
        run_recfound("RecFound", "tiny", config_dict=small_run | {"blend": ["EASE"]})
