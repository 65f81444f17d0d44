"""Histories in compressed rows."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recbole_recfound.data.split.histories import Histories

pairs = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), max_size=40)


def _histories(rows):
    users, items = (np.array(column, dtype=np.int64) for column in (zip(*rows, strict=True) if rows else ((), ())))
    return Histories.from_pairs(users, items, 6)


def _expected(rows, user):
    return [item for owner, item in rows if owner == user]


@given(pairs, pairs)
def test_order_of_arrival_is_kept(first, second):
    histories = _histories(first)
    users, items = (np.array(column, dtype=np.int64) for column in (zip(*second, strict=True) if second else ((), ())))
    longer = histories.followed_by(users, items)
    for user in range(6):
        assert histories.of(user).tolist() == _expected(first, user)
        assert longer.of(user).tolist() == _expected([*first, *second], user)


@given(pairs, st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(1, 6))
def test_padded_keeps_the_last_items_and_pads_on_the_right(rows, users, longest):
    items, lengths = _histories(rows).padded(np.array(users), longest)
    for row, user in enumerate(users):
        kept = _expected(rows, user)[-longest:]
        assert items[row, : lengths[row]].tolist() == kept
        assert not items[row, lengths[row] :].any() and items.shape[1] >= 1


@given(pairs, st.lists(st.integers(0, 5), max_size=8))
def test_flat(rows, users):
    row, item = _histories(rows).flat(np.array(users, dtype=np.int64))
    expected = [(index, item) for index, user in enumerate(users) for item in _expected(rows, user)]
    assert list(zip(row.tolist(), item.tolist(), strict=True)) == expected
