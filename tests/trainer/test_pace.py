"""How many generative examples a step has, and when a training is validated."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from recbole_recfound.data.task import GENERATIVE, TASKS
from recbole_recfound.runtime.time_plan import TimePlan
from recbole_recfound.trainer.pace import EVENED_STEPS, GENERATING, LEAST_PACE, PAIRS, RANKING, STEPS, Pace, account_of
from tests.small_model import build_small


def _measured(share, ranking, pairs, generating, steps, most=2):
    """A pace after two steps: the first of each is left out."""
    pace = Pace(most, share)
    for _ in range(2):
        pace.add(RANKING, ranking, 1)
        pace.add(PAIRS, pairs, 1)
        pace.add(GENERATING, 12 * generating, 12)
        pace.add(STEPS, steps, 1)
        pace.end_step()
    return pace


def test_nothing_changes_until_both_kinds_are_measured():
    pace = Pace(2, 0.6)
    assert pace.generative() == 2
    for _ in range(2):
        pace.add(RANKING, 1.0, 1)
        pace.add(STEPS, 0.1, 1)
        pace.end_step()
        assert pace.generative() == 2
    for _ in range(3):  # the first pass compiles, and prompts of different lengths are parts of their own
        pace.add(GENERATING, 100.0, 4)
    pace.end_step()
    assert pace.generative() == LEAST_PACE, "it has had its share for a long time"
    pace.add(GENERATING, 12.0, 12)
    pace.end_step()
    assert pace.generative() == LEAST_PACE
    pace.spent[GENERATING] = 2 * (1 / 0.6 - 1) - 0.2
    assert pace.generative() == pytest.approx((1 / 0.6 - 1 - 0.1) / 1.0)
    assert pace.generative(2) == pytest.approx((1 / 0.6 - 1 - 0.1) / 1.0 - 2 / EVENED_STEPS)


@given(
    st.floats(0.1, 0.9), st.floats(0.01, 10), st.floats(0, 5), st.floats(0.001, 50), st.floats(0, 1), st.integers(1, 8)
)
def test_a_step_leaves_embedding_tasks_their_share_wherever_that_is_possible(
    share, ranking, pairs, generating, steps, most
):
    pace = _measured(share, ranking, pairs, generating, steps, most)
    embedding = pace.spent[RANKING] + pace.spent[PAIRS]
    pace.spent[GENERATING] = embedding * (1 / share - 1) - pace.spent[STEPS]  # nothing is owed
    found = pace.generative()
    assert LEAST_PACE <= found <= most
    whole = ranking + pairs + steps + found * generating
    assert (ranking + pairs) / whole >= share - 1e-9 or found == LEAST_PACE
    if LEAST_PACE < found < most:
        assert (ranking + pairs) / whole == pytest.approx(share)


@example(1.0, 0.5, 0.0, 41, 10, 5.0)
@given(
    st.floats(0.01, 5),
    st.floats(0.001, 8),
    st.floats(0, 0.2),
    st.integers(40, 400),
    st.integers(1, 16),
    st.floats(1, 6),
)
def test_embedding_tasks_have_their_share_of_a_whole_training(ranking, generating, steps, count, chunk, first):
    """Examples are buffered until a pass has `chunk` of them; a small one has two, and the first takes longer."""
    pace, owed, waiting, passes = Pace(2, 0.6), 0.0, 0, 0
    for _ in range(count):
        owed += pace.generative(waiting)
        waiting, owed = waiting + int(owed), owed - int(owed)
        pace.add(RANKING, ranking, 1)
        pace.add(STEPS, steps * ranking, 1)
        if waiting >= (2 if pace.small_pass else chunk):
            pace.add(GENERATING, (1 if passes else first) * waiting * generating, waiting)
            waiting, passes = 0, passes + 1
        pace.end_step()
    spent, allowed = pace.spent, max(0.0, pace.spent[RANKING] * (1 / 0.6 - 1) - pace.spent[STEPS])
    one_pass = (chunk + 4) * generating
    assert spent[GENERATING] <= allowed + one_pass + 2 * first * generating + count * LEAST_PACE * generating
    # And no less, as far as two examples of a step allow: what one pass cost too much is paid back for some steps.
    assert spent[GENERATING] >= min(allowed, 2 * (count - 2) * generating) - one_pass - 6 * first * generating


def test_a_share_of_zero_leaves_the_sizes_alone():
    assert _measured(0.0, 1, 1, 100, 1).generative() == 2


@pytest.mark.parametrize("steps", [4, 5, 7, 10, 16, 99, 1000])
def test_four_validations_of_even_steps(steps):
    pace = Pace(2, 0.6)
    due = [step for step in range(1, steps + 1) if pace.checkpoint_due(step / steps)]
    assert len(due) == 4 and due[-1] == steps


def _kept(lengths, every=None):
    """Return the steps with a checkpoint at the end of a training, and those that were validated."""
    pace, done = Pace(2, 0.6), list(itertools.accumulate(lengths))
    kept, validated = set(), []
    for step, at in enumerate(done, start=1):
        if pace.checkpoint_due(at / done[-1]) or (every and step % every == 0):
            validated.append(step)
            kept.add(step)
        elif pace.keep_early(step):
            kept.add(step)
        kept -= set(pace.superfluous(len(kept - set(pace.early))))
    return kept, validated


@given(st.lists(st.floats(0.01, 50), min_size=1, max_size=40))
@example([1, 1, 1, 4])
@example([37, 2, 2, 2, 2, 2, 37])
def test_four_checkpoints_whatever_the_steps_take(lengths):
    kept, validated = _kept(lengths)
    assert len(kept) >= min(4, len(lengths)) and len(lengths) in validated
    assert set(validated) <= kept and len(validated) <= 4
    assert len(validated) < 4 or kept == set(validated), "early ones are for want of later ones"


def test_early_checkpoints_are_not_merged_with_those_of_every_few_steps():
    kept, validated = _kept([1.0] * 12, every=2)
    assert kept == set(validated) == {2, 3, 4, 6, 8, 9, 10, 12}


def test_a_state_continues():
    pace, other = _measured(0.6, 1, 1, 3, 1), Pace(2, 0.6)
    pace.checkpoint_due(0.6)
    other.load_state_dict(pace.state_dict())
    assert other == pace


def test_accounts_of_the_parts_of_a_step(small_run):
    small = build_small(small_run)
    accounts = {account_of(part, "U2I") for _ in range(12) for part in small.loader.next_batch().parts}
    assert accounts == {RANKING, PAIRS, GENERATING}


def test_a_slow_machine_has_fewer_generative_examples(small_run, tmp_path, monkeypatch):
    """The clock says that a pass over prompts takes a hundred times a pass over histories."""
    batches = {"generative": 2, "generative_chunk": 2}
    small = build_small(small_run, max_steps=60, eval_interval=None, batch_args=batches, stopping_step=99)
    trainer = small.trainer(tmp_path, TimePlan(10_000))
    add, costs = trainer.pace.add, {RANKING: 1.0, PAIRS: 0.1, GENERATING: 100.0, STEPS: 0.1}
    trainer.pace.add = lambda part, seconds, count: add(part, costs[part], count)
    trainer.fit(small.loader, small.splits.valid_data, verbose=False)
    names = [name for name in small.loader.tasks if TASKS[name].kind == GENERATIVE]
    generative = [sum(record["counts"].get(name, 0) for name in names) for record in trainer.history]
    assert generative[:2] == [2, 2] and sum(generative[2:]) <= 60 * LEAST_PACE
    assert small.loader.generative_pace == LEAST_PACE
    assert [step for step in trainer.store.steps() if step] == [15, 30, 45, 60]


def test_without_a_limit_nothing_depends_on_the_clock(small_run, tmp_path):
    small = build_small(small_run, max_steps=6)
    trainer = small.trainer(tmp_path)
    trainer.pace.add = lambda *given: Pace.add(trainer.pace, given[0], 1000.0, given[2])
    trainer.fit(small.loader, small.splits.valid_data, verbose=False)
    assert small.loader.generative_pace == trainer.pace.most
