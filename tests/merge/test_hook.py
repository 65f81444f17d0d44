"""After training: which checkpoints are merged, and how one candidate is chosen."""

import statistics

import numpy as np
import pytest
import torch

from recbole_recfound.merge.hook import MergeOutcome, Scored, choose, merge_last
from recbole_recfound.trainer.checkpoint import Checkpoint, CheckpointStore, base_fingerprint

HOST = torch.get_default_device()
TEST = {"best": 0.0, "last": 0.0, "merged": 0.0}


def _store(folder, values, keep=9):
    store = CheckpointStore(folder, keep)
    for step, value in enumerate(values):
        store.save(Checkpoint(step, {"a": torch.full((4,), float(value)), "b": torch.ones(2) * value * 2}, {}, {}), 0)
    return store


def test_merges_the_last_distinct_checkpoints(tmp_path):
    merged, outcome = merge_last(_store(tmp_path, [0, 1, 2, 3, 3, 5]), 3, "linear", 0.8, HOST)
    assert outcome.steps == [2, 4, 5] and outcome.reason == ""
    torch.testing.assert_close(merged["a"], torch.full((4,), 10 / 3))
    torch.testing.assert_close(merged["b"], torch.full((2,), 20 / 3))
    distances = torch.tensor(outcome.distances)
    assert distances.shape == (3, 3) and torch.equal(distances, distances.T)
    assert (distances.diagonal() == 0).all() and (distances[~torch.eye(3, dtype=torch.bool)] > 0).all()


def test_slerp_takes_the_last_two(tmp_path):
    merged, outcome = merge_last(_store(tmp_path, [0, 1, 2, 4]), 3, "slerp", 0.8, HOST)
    assert outcome.steps == [2, 3]
    torch.testing.assert_close(merged["a"], torch.full((4,), 3.0))


@pytest.mark.parametrize("method", ["ties", "dare_ties"])
def test_deltas_are_taken_from_the_first_checkpoint(tmp_path, method):
    merged, _ = merge_last(_store(tmp_path, [10, 12, 14]), 2, method, 1.0, HOST)
    torch.testing.assert_close(merged["a"], torch.full((4,), 13.0))


def test_sparsified_deltas_are_merged(tmp_path):
    """Of four entries the two that moved most are kept: 0 0 3 4 and 8 6 0 0."""
    store = CheckpointStore(tmp_path, 9)
    states = [{"a": torch.tensor(values)} for values in ([0.0, 0, 0, 0], [1.0, 2, 3, 4], [8.0, 6, 4, 2])]
    for step, state in enumerate(states):
        store.save(Checkpoint(step, state, {}, {}), 0)
    assert merge_last(store, 2, "linear", 0.5, HOST, "magnitude")[0]["a"].tolist() == [4.0, 3.0, 1.5, 2.0]
    assert merge_last(store, 2, "linear", 0.5, HOST)[0]["a"].tolist() == [4.5, 4.0, 3.5, 3.0]
    # Halfway on the arc between vectors at right angles of lengths 5 and 10.
    arc = torch.tensor([8.0, 6, 3, 4]) / 2**0.5
    torch.testing.assert_close(merge_last(store, 2, "slerp", 0.5, HOST, "magnitude")[0]["a"], arc)


@pytest.mark.parametrize("values", [[0], [0, 1], [0, 2, 2, 2]])
def test_fewer_than_two_distinct_checkpoints(tmp_path, values):
    merged, outcome = merge_last(_store(tmp_path, values), 3, "linear", 0.8, HOST)
    assert merged is None and f"only {min(len(values) - 1, 1)} distinct checkpoint" in outcome.reason
    assert outcome.distances == []


def test_checkpoints_of_another_base_are_not_merged(tmp_path):
    store = _store(tmp_path, [0, 1])
    base = base_fingerprint(store.load(0, HOST).trained)
    for step, told in ((2, base), (3, base)):
        store.save(Checkpoint(step, {"a": torch.full((4,), float(step)), "b": torch.ones(2)}, {}, {"base": told}), 0)
    assert merge_last(store, 2, "linear", 0.8, HOST)[0] is not None
    store.save(Checkpoint(3, {"a": torch.full((4,), 3.0), "b": torch.ones(2)}, {}, {"base": "of another run"}), 0)
    merged, outcome = merge_last(store, 2, "linear", 0.8, HOST)
    assert merged is None and "model 2 was trained from another base" in outcome.reason


def test_no_merging(tmp_path):
    merged, outcome = merge_last(_store(tmp_path, [0, 1, 2]), 3, "none", 0.8, HOST)
    assert merged is None and outcome.reason == "merging is off"


def _choose(valid, test, bigger=True, losses=None):
    loaded = []

    def validate():
        values, found = valid[loaded[-1]], losses[loaded[-1]] if losses else {}
        return Scored({"ndcg@10": float(np.mean(values))}, np.atleast_1d(values).tolist(), found)

    outcome = choose(
        {name: {"a": name} for name in valid},
        MergeOutcome("best", "linear", []),
        lambda tensors: loaded.append(tensors["a"]),
        validate,
        lambda: Scored({"ndcg@10": test[loaded[-1]]}),
        "ndcg@10",
        bigger,
    )
    return outcome, loaded


@pytest.mark.parametrize("test", [{"best": 0.9, "last": 0.1, "merged": 0.2}, {"best": 0.0, "last": 0.9, "merged": 0.1}])
def test_chooses_by_validation_and_never_by_test(test):
    outcome, loaded = _choose({"best": 0.3, "last": 0.2, "merged": 0.4}, test)
    assert outcome.kept == "merged" and loaded == ["best", "last", "merged", "merged"]
    assert {name: metrics["ndcg@10"] for name, metrics in outcome.test.items()} == test


def test_one_object_under_two_names_is_scored_once():
    loaded, tensors = [], {"a": 1}
    score = lambda: loaded.append("score") or Scored({"ndcg@10": float(len(loaded))})  # noqa: E731
    outcome = choose(
        {"best": tensors, "last": tensors, "merged": {"a": 2}},
        MergeOutcome("best", "linear", []),
        loaded.append,
        score,
        score,
        "ndcg@10",
    )
    assert outcome.valid["best"] == outcome.valid["last"] != outcome.valid["merged"]
    assert outcome.test["best"] == outcome.test["last"] and outcome.kept == "merged"
    assert loaded.count("score") == 4 and [made for made in loaded if made != "score"] == [tensors, {"a": 2}, {"a": 2}]


def test_smaller_may_be_better_and_ties_go_to_the_first():
    assert (
        _choose({"best": 0.3, "last": 0.2, "merged": 0.4}, dict.fromkeys(("best", "last", "merged"), 0), bigger=False)[
            0
        ].kept
        == "last"
    )
    outcome, loaded = _choose({"best": 0.3, "last": 0.3}, {"best": 0, "last": 1})
    assert outcome.kept == "best" and loaded[-1] == "best"


@pytest.mark.parametrize(
    ("best", "kept"),
    [
        ([0.5, 0.2, 0.6, 0.2], "merged"),  # +.075 on average, standard error .048
        ([0.5, 0.2, 0.6, 0.3], "best"),  # +.1, standard error .041
    ],
)
def test_merged_is_kept_unless_another_leads_by_more_than_two_standard_errors(best, kept):
    merged = [0.3, 0.2, 0.5, 0.2]
    outcome, loaded = _choose({"best": best, "last": [0.0] * 4, "merged": merged}, TEST)
    differences = [x - y for x, y in zip(best, merged, strict=True)]
    error = statistics.stdev(differences) / 2
    assert outcome.leads["best"] == pytest.approx((statistics.mean(differences), error))
    assert outcome.kept == loaded[-1] == kept
    assert outcome.to_json()["leads"]["best"]["error"] == pytest.approx(error)


def test_merged_loses_to_a_lead_of_smaller_values():
    """Where smaller is better a lead is still positive."""
    best, merged = [0.1, 0.2, 0.1], [0.5, 0.7, 0.5]
    outcome, _ = _choose({"best": best, "last": [0.9] * 3, "merged": merged}, TEST, bigger=False)
    assert outcome.leads["best"].difference > 0 > outcome.leads["last"].difference and outcome.kept == "best"


LEVEL = {"best": [0.3, 0.2, 0.5, 0.2], "last": [0.2, 0.3, 0.4, 0.3], "merged": [0.3, 0.2, 0.5, 0.3]}
LEARNT, NOT_LEARNT = [0.02, 0.01, 0.05], [0.9, 0.8, 1.0]


def _losses(**learnt_late):
    """Losses of two tasks; all candidates have learnt the first one alike."""
    return {name: {"U2I": [0.7, 0.6, 0.8], "AVE": losses} for name, losses in learnt_late.items()}


def test_a_mean_that_has_lost_a_task_gives_way_to_a_candidate_that_ranks_as_well():
    losses = _losses(best=LEARNT, last=[0.03, 0.03, 0.05], merged=NOT_LEARNT)
    outcome, loaded = _choose(LEVEL, TEST, losses=losses)
    # Each task counts alike: (0 + mean(.88, .79, .95)) / 2, and half of the error of the second.
    differences = [0.88, 0.79, 0.95]
    assert outcome.task_leads["best"] == pytest.approx(
        (statistics.mean(differences) / 2, statistics.stdev(differences) / 3**0.5 / 2)
    )
    assert outcome.kept == loaded[-1] == "best"  # of both, the one with the smaller losses
    assert outcome.to_json()["task_leads"]["last"]["difference"] > 0


def test_losses_that_differ_by_chance_change_nothing():
    losses = _losses(best=[0.1, 0.5, 0.3], last=[0.5, 0.1, 0.3], merged=[0.3, 0.3, 0.35])
    assert _choose(LEVEL, TEST, losses=losses)[0].kept == "merged"


def test_no_task_outweighs_the_ranking():
    """A candidate with smaller losses that ranks clearly worse is left; one that ranks clearly better is kept."""
    losses = _losses(best=NOT_LEARNT, last=LEARNT, merged=NOT_LEARNT)
    behind = {"best": [0.3, 0.2, 0.5], "last": [0.1, 0.0, 0.2], "merged": [0.4, 0.3, 0.6]}
    assert _choose(behind, TEST, losses=losses)[0].kept == "merged"
    ahead = {"best": [0.6, 0.5, 0.8], "last": [0.4, 0.3, 0.6], "merged": [0.4, 0.3, 0.6]}
    assert _choose(ahead, TEST, losses=losses)[0].kept == "best"


def test_a_task_with_one_example_says_nothing_about_chance():
    one = {name: {"AVE": [losses]} for name, losses in (("best", 0.0), ("last", 0.0), ("merged", 9.0))}
    outcome, _ = _choose(LEVEL, TEST, losses=one)
    assert outcome.kept == "merged" and outcome.task_leads == {}


def test_a_task_that_was_known_before_training_does_not_outweigh_the_others():
    """Its losses are many times the untrained one; the merged model is better in the other task."""
    losses = {
        "best": {"U2I": [0.7, 0.6, 0.8], "Q2I": [10.0, 11.0, 12.0]},
        "last": {"U2I": [0.7, 0.6, 0.8], "Q2I": [10.0, 11.0, 12.0]},
        "merged": {"U2I": [0.2, 0.1, 0.3], "Q2I": [12.0, 13.0, 14.0]},
    }
    outcome, _ = _choose(LEVEL, TEST, losses=losses)
    assert outcome.kept == "merged" and outcome.task_leads["best"].difference == pytest.approx((-0.5 + 2 / 13) / 2)


def test_every_candidate_may_lead_and_not_the_best_alone():
    """The best one leads by less than two standard errors, the last one by many."""
    merged = [0.30, 0.30, 0.30, 0.30]
    valid = {"best": [0.50, 0.30, 0.20, 0.30], "last": [0.31, 0.32, 0.31, 0.32], "merged": merged}
    outcome, _ = _choose(valid, TEST)
    assert outcome.valid["best"]["ndcg@10"] > outcome.valid["last"]["ndcg@10"] and outcome.kept == "last"
