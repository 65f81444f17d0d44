"""The multi-task loader on the tiny data set."""

import json

import numpy as np
import pytest
import torch

from recbole_recfound.data import MultiTaskLoader, PairBatch, SequenceBatch
from recbole_recfound.data.records.files import TaskFiles, add_record_tasks
from recbole_recfound.data.task import PairExample
from tests.data.task.hand_made import task_settings
from tests.small_model import build_small


@pytest.fixture
def small(small_run):
    return build_small(small_run, batch_args={"contrastive": 3, "embedding": 5, "generative": 3, "generative_chunk": 4})


def _tensors(batch):
    return [
        {name: value for name, value in vars(part).items() if isinstance(value, torch.Tensor) or name.endswith("tasks")}
        for part in batch.parts
    ]


def assert_same(first, second):
    """Two step batches hold the same tensors."""
    assert first.counts == second.counts and len(first.parts) == len(second.parts)
    for ours, theirs in zip(_tensors(first), _tensors(second), strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            assert torch.equal(value, theirs[name]) if isinstance(value, torch.Tensor) else value == theirs[name]


def test_groups_keep_their_share_and_pairs_wait(small):
    loader = small.loader
    taken = {name: 0 for name in loader.tasks}
    pair_tasks = [name for name, task in loader.tasks.items() if isinstance(task.example(0), PairExample)]
    assert set(pair_tasks) == {"I2I", "Q2I"} and set(loader.waiting) == {"I2I", "Q2I", "generative"}
    for step in range(1, 30):
        batch = loader.next_batch()
        for name, count in batch.counts.items():
            taken[name] += count
            assert name not in pair_tasks or count >= 3
        assert all(len(loader.waiting[name]) < 3 for name in pair_tasks) and len(loader.waiting["generative"]) < 4
        waiting = {
            name: sum(name == other[0] for group in loader.waiting.values() for other in group) for name in taken
        }
        by_kind = {"embedding": 0, "generative": 0}
        for name, task in loader.tasks.items():
            assert loader.trained(name) == taken[name] == loader.cursors[name].drawn - waiting[name]
            assert loader.distinct(name) == min(taken[name], sum(map(len, loader.cursors[name].groups)))
            by_kind[task.spec.kind] += loader.cursors[name].drawn
        assert by_kind == {"embedding": 5 * step, "generative": 3 * step}
        assert sum(map(len, batch.parts)) == sum(batch.counts.values())


def test_all_forms_take_their_turn(small):
    forms = set()
    for _ in range(8):
        parts = small.loader.next_batch().parts
        forms |= {type(part).__name__ for part in parts}
        assert sum(isinstance(part, PairBatch) for part in parts) <= 1
    assert forms == {"SequenceBatch", "PairBatch", "GenerativeBatch"}


def test_long_waits_do_not_recurse(small_run):
    small = build_small(small_run, tasks=["U2I"], history="prompt", batch_args={"embedding": 1, "contrastive": 1100})
    (part,) = small.loader.next_batch().parts
    assert isinstance(part, PairBatch) and len(part) == 1100


def test_state_round_trip_gives_the_same_batches(small, small_run):
    for _ in range(7):
        small.loader.next_batch()
    state = json.loads(json.dumps(small.loader.state_dict()))
    kept = small.loader.state_dict()
    following = [small.loader.next_batch() for _ in range(8)]
    assert json.loads(json.dumps(kept)) == state, "a state must not change with its loader"
    other = build_small(
        small_run, batch_args={"contrastive": 3, "embedding": 5, "generative": 3, "generative_chunk": 4}
    ).loader
    other.load_state_dict(state)
    for batch in following:
        assert_same(other.next_batch(), batch)


def test_balanced_groups_share_out_the_training_part_by_answer(tmp_path):
    answers = ["B", "A", " B", "C "] * 500
    rows = [{"text": [f"Next? {n}", answer], "task": "Sequential_Recommendation"} for n, answer in enumerate(answers)]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tasks = add_record_tasks({}, TaskFiles.open([str(path)], False), 0, task_settings())
    loader = MultiTaskLoader(tasks, None, None, {"generative": 4}, 0.1, 300, 0, balanced=["SR"])
    groups = loader.cursors["SR"].groups
    assert [{answers[index].strip() for index in group} for group in groups] == [{"A"}, {"B"}, {"C"}]
    assert sorted([*loader.probes["SR"], *np.concatenate(groups)]) == list(range(2000))
    assert [answers[index].strip() for index, _ in loader.cursors["SR"].take(7)] == list("ABCABCA")


def test_probes_are_fixed_and_set_aside(small):
    loader = small.loader
    before = {name: loader.probe_batch(name) for name in loader.tasks}
    for _ in range(20):
        loader.next_batch()
    for name, batch in before.items():
        assert_same(loader.probe_batch(name), batch)
        trained = np.concatenate([group[np.arange(len(group))] for group in loader.cursors[name].groups])
        assert not set(loader.probes[name].tolist()) & set(trained.tolist())
    assert {name: batch.counts[name] for name, batch in before.items()} == {
        name: 8 if name == "U2I" else min(2, len(loader.probes[name])) for name in loader.tasks
    }


def test_u2i_is_probed_with_validation_items_only(small):
    (part,) = small.loader.probe_batch("U2I").parts
    assert isinstance(part, SequenceBatch)
    valid = small.splits.valid_set.inter_feat
    answers = set(zip(valid["user_id"].tolist(), valid["item_id"].tolist(), strict=True))
    known = small.splits.known_at_valid
    histories = {tuple(known.of(user).tolist()): item for user, item in answers}
    for items, targets in zip(part.items, part.targets, strict=True):
        wanted = targets.nonzero().ravel().tolist()
        history = tuple(items[items > 0].tolist())
        assert wanted == [len(history) - 1]
        assert targets[wanted[0]].item() == histories[history]


def test_scheduler_sizes_count_targets(small):
    history = small.splits.known_at_valid
    assert small.loader.scheduler.sizes[0] == sum(max(0, length - 1) for length in history.lengths)
