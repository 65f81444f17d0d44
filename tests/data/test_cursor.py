"""Cursors and the probe's share: new samples before repeated ones, positions that resume."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recbole_recfound.data.loader import Cursor, set_aside


@given(st.integers(1, 30), st.lists(st.integers(0, 20), max_size=12), st.integers(0, 5))
def test_every_round_is_a_permutation(size, takes, seed):
    indices = np.arange(100, 100 + size)
    cursor = Cursor([indices], (seed, 4))
    drawn = [pair for count in takes for pair in cursor.take(count)]
    assert [number for _, number in drawn] == list(range(sum(takes)))
    for start in range(0, len(drawn), size):
        seen = [index for index, _ in drawn[start : start + size]]
        assert len(set(seen)) == len(seen) and set(seen) <= set(indices.tolist())
    assert cursor.drawn == len(drawn)


@given(st.integers(1, 30), st.integers(0, 80), st.integers(1, 40))
def test_resumes_by_position(size, before, after):
    straight, resumed = (Cursor([np.arange(size)], (1, 2)) for _ in range(2))
    straight.take(before)
    resumed.drawn = before
    assert resumed.take(after) == straight.take(after)


def test_rounds_and_tasks_have_orders_of_their_own():
    first = [index for index, _ in Cursor([np.arange(50)], (1, 2)).take(100)]
    assert first[:50] != first[50:]
    assert first[:50] != [index for index, _ in Cursor([np.arange(50)], (1, 3)).take(50)]


@given(st.integers(1, 6), st.integers(1, 30), st.integers(0, 60), st.integers(0, 30))
def test_groups_take_turns_each_in_its_own_rounds(rare, common, before, after):
    groups = [np.arange(rare), np.arange(rare, rare + common)]
    straight, resumed = (Cursor(groups, (1, 2)) for _ in range(2))
    drawn = straight.take(before + after)
    resumed.drawn = before
    assert resumed.take(after) == drawn[before:]
    for group, start in zip(groups, (0, 1), strict=True):
        mine = [index for index, _ in drawn[start::2]]
        assert set(mine) <= set(group.tolist())
        assert all(
            len(set(mine[at : at + len(group)])) == len(mine[at : at + len(group)])
            for at in range(0, len(mine), len(group))
        )


@given(st.one_of(st.integers(2, 500), st.integers(4000, 6000)), st.floats(0.001, 0.999))
def test_set_aside_splits_and_leaves_something_on_both_sides(size, share):
    train, probe = (_numbers(part) for part in set_aside(size, share, (1, 2)))
    assert len(train) >= 1 and len(probe) >= 1
    assert sorted([*train, *probe]) == list(range(size))
    assert abs(len(probe) - size * share) <= 1


@given(st.integers(2, 6000), st.integers(0, 5))
def test_without_a_share_all_are_trained_on(size, seed):
    train, probe = set_aside(size, 0.0, (seed, 2))
    assert sorted(_numbers(train)) == list(range(size)) and len(probe) == 0


@given(st.integers(1000, 6000), st.lists(st.integers(1, 4000), min_size=1, max_size=4), st.integers(0, 5))
def test_a_training_part_is_walked_in_rounds_whatever_the_batches_and_resumes(size, takes, seed):
    train, _ = set_aside(size, 0.1, (seed, 2))
    cursor = Cursor([train], (seed, 2))
    drawn = [index for count in takes for index, _ in cursor.take(count)]
    assert drawn == [index for index, _ in Cursor([train], (seed, 2)).take(sum(takes))]
    resumed = Cursor([train], (seed, 2))
    resumed.drawn = takes[0]
    assert [index for index, _ in resumed.take(sum(takes[1:]))] == drawn[takes[0] :]
    for start in range(0, len(drawn), len(train)):
        seen = drawn[start : start + len(train)]
        assert len(set(seen)) == len(seen) and set(seen) <= set(_numbers(train))


def _numbers(part):
    return part[np.arange(len(part))].tolist()
