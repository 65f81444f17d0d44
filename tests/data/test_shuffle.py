"""Orders that are computed place by place: permutations, and as random as written ones."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from recbole_recfound.data import shuffle as room
from recbole_recfound.data.shuffle import WRITTEN_DOWN, Shuffle, Stretch

keys = st.lists(st.integers(0, 2**32), min_size=1, max_size=4)
sizes = st.one_of(st.integers(1, 70), st.integers(WRITTEN_DOWN - 2, 3 * WRITTEN_DOWN))


def _whole(order):
    return order[np.arange(len(order))]


@given(sizes, keys)
def test_every_number_has_one_place(size, key):
    assert np.array_equal(np.sort(_whole(Shuffle(size, key))), np.arange(size))


@given(st.one_of(st.integers(1, 70), st.integers(1, 5000)), keys)
def test_the_network_is_a_permutation_for_any_size(size, key):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "WRITTEN_DOWN", 0)
        assert np.array_equal(np.sort(_whole(Shuffle(size, key))), np.arange(size))


@given(sizes, keys, st.data())
def test_any_places_in_any_order_are_those_of_the_whole(size, key, data):
    order = Shuffle(size, key)
    places = np.array(data.draw(st.lists(st.integers(0, size - 1), max_size=20)), dtype=np.int64)
    assert np.array_equal(order[places], _whole(order)[places])
    start = data.draw(st.integers(0, size - 1))
    assert np.array_equal(_whole(Stretch(order, start, size)), _whole(order)[start:])


@given(st.integers(20, 3 * WRITTEN_DOWN), st.integers(0, 2**32), st.integers(1, 2**32))
def test_equal_keys_give_equal_orders_and_others_do_not(size, seed, step):
    first = _whole(Shuffle(size, [seed, 1]))
    assert np.array_equal(first, _whole(Shuffle(size, [seed, 1])))
    assert not np.array_equal(first, _whole(Shuffle(size, [seed + step, 1])))


def test_orders_of_more_numbers_than_memory_holds():
    places = np.arange(0, 10**15, 10**12)
    numbers = Shuffle(10**15, [1, 2])[places]
    assert len(set(numbers.tolist())) == len(places) and numbers.min() >= 0 and numbers.max() < 10**15


@pytest.mark.parametrize("size", [2, 3, 4])
def test_all_orders_of_few_numbers_are_equally_frequent(size):
    found = Counter(tuple(_whole(Shuffle(size, [key])).tolist()) for key in range(2400))
    assert len(found) == {2: 2, 3: 6, 4: 24}[size] and chisquare(list(found.values())).pvalue > 0.001


@pytest.mark.parametrize("size", [3, 50, WRITTEN_DOWN, WRITTEN_DOWN + 1, 5_000, 10_007, 1_000_000])
def test_a_place_has_any_number_and_its_neighbour_any_other(size):
    """Over many keys: the first value, the distance to the second, and the position of 0 are uniform."""
    bins = min(size, 25)
    pairs = np.array([Shuffle(size, [key, 7])[np.arange(2)] for key in range(3000)])
    expected = np.bincount(np.arange(size) * bins // size) / size * len(pairs)
    assert chisquare(np.bincount(pairs[:, 0] * bins // size, minlength=bins), expected).pvalue > 0.001
    if size > bins:
        apart = (pairs[:, 1] - pairs[:, 0]) % size
        assert (apart > 0).all() and chisquare(
            np.bincount(apart * bins // size, minlength=bins), expected
        ).pvalue > 0.001
    if size <= 10_007:
        places = np.array([np.flatnonzero(_whole(Shuffle(size, [key, 8])) == 0)[0] for key in range(500)])
        assert chisquare(np.bincount(places * bins // size, minlength=bins), expected / len(pairs) * 500).pvalue > 0.001


@pytest.mark.parametrize("size", [WRITTEN_DOWN + 1, 20_000])
def test_numbers_are_where_chance_would_put_them(size):
    """Within one order: fifths of values spread evenly over fifths of positions, about one value at its position."""
    whole = _whole(Shuffle(size, [3, 1]))
    table = np.zeros((5, 5))
    np.add.at(table, (np.arange(size) * 5 // size, whole * 5 // size), 1)
    assert chisquare(table.ravel()).pvalue > 0.001
    assert (whole == np.arange(size)).sum() < 8 and abs(np.corrcoef(whole[1:], whole[:-1])[0, 1]) < 0.04
