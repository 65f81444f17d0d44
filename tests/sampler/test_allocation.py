import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_recfound.sampler import S2Sched, build_scheduler
from recbole_recfound.sampler.allocation import allocate

shares = st.lists(st.floats(0.01, 1), min_size=1, max_size=14).map(lambda values: np.array(values) / sum(values))


@given(shares, st.lists(st.integers(0, 40), min_size=1, max_size=100))
@settings(max_examples=200, deadline=None)
def test_sums_exactly_and_stays_within_one_of_the_share(weights, batches):
    carried = np.zeros(len(weights))
    handed_out = np.zeros(len(weights))
    for batch in batches:
        counts, carried = allocate(weights, batch, carried)
        assert counts.min() >= 0 and counts.sum() == batch
        handed_out += counts
        assert np.abs(carried).max() < 1
    np.testing.assert_allclose(handed_out + carried, weights * sum(batches), atol=1e-6)


@given(shares, st.integers(1, 9), st.integers(0, 2**16))
@settings(max_examples=100, deadline=None)
def test_within_one_of_the_share_when_weights_move(weights, batch, seed):
    generator = np.random.default_rng(seed)
    carried = np.zeros(len(weights))
    for _ in range(100):
        moved = weights * np.exp(0.3 * generator.normal(size=len(weights)))
        counts, carried = allocate(moved / moved.sum(), batch, carried)
        assert counts.min() >= 0 and counts.sum() == batch
        assert np.abs(carried).max() < 1


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_small_tasks_do_not_starve_over_a_thousand_batches(batch):
    sizes = {"a": 85, "b": 5, "c": 5, "d": 5}
    scheduler = build_scheduler("proportional", sizes, dict.fromkeys(sizes, "x"))
    total = dict.fromkeys(sizes, 0)
    for _ in range(1000):
        counts = scheduler.allocate({"x": batch})
        assert sum(counts.values()) == batch
        for task, count in counts.items():
            total[task] += count
    for task, size in sizes.items():
        assert abs(total[task] - size / 100 * 1000 * batch) <= 1


def test_groups_keep_their_own_share():
    scheduler = S2Sched({"a": 1, "b": 9, "c": 4}, {"a": "x", "b": "x", "c": "y"})
    assert scheduler.allocate({"x": 10, "y": 4}) == {"a": 1, "b": 9, "c": 4}
    assert scheduler.allocate({"x": 10}) == {"a": 1, "b": 9, "c": 0}
    assert scheduler.allocate({"x": 0, "y": 3}) == {"a": 0, "b": 0, "c": 3}


def test_takes_back_when_debts_exceed_the_batch():
    counts, carried = allocate(np.full(4, 0.25), 1, np.array([-1.15, -1.15, 1.15, 1.15]))
    assert counts.tolist().count(1) == 1 and counts.sum() == 1 and counts.min() == 0
    assert abs(carried.sum()) < 1e-9
