"""Padding and the two id spaces."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recbole_recfound.data.item_ids import ItemIds
from recbole_recfound.data.padding import pad, pad_flat
from recbole_recfound.data.split.histories import Histories

ROWS = st.lists(st.lists(st.integers(1, 9), max_size=7), max_size=6)


@given(ROWS, st.booleans(), st.integers(1, 4))
def test_rows_are_padded_on_one_side(rows, left, multiple):
    values, mask = pad(rows, fill=-1, left=left, multiple=multiple)
    assert values.shape == mask.shape and values.shape[1] % multiple == 0 and values.dtype == np.int64
    for row, ids, real in zip(rows, values, mask, strict=True):
        assert ids[real == 1].tolist() == row and (ids[real == 0] == -1).all()
        edge = real if left else real[::-1]
        assert edge.tolist() == sorted(edge.tolist())


@given(ROWS)
def test_slices_of_a_flat_array_are_padded_like_rows(rows):
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    flat = np.array([item for row in rows for item in row], dtype=np.int64)
    values, mask = pad_flat(flat, np.cumsum(lengths) - lengths, lengths, fill=0)
    expected, real = pad(rows, fill=0)
    assert np.array_equal(values, expected) and np.array_equal(mask, real == 1)


def test_histories_before_a_row():
    histories = Histories.from_pairs(np.array([1, 2, 1, 1]), np.array([5, 6, 7, 8]), 3)
    items, lengths = histories.padded_before(np.array([1, 1, 1, 2]), np.array([0, 1, 3, 1]), longest=2)
    assert items.tolist() == [[0, 0], [5, 0], [7, 8], [6, 0]] and lengths.tolist() == [0, 1, 2, 1]


def test_item_ids_and_catalogue_indices():
    ids = ItemIds.from_indices(np.array([-1, 2, 0]), 4)
    assert ids.to_catalogue([1, 2, 0]).tolist() == [2, 0, -1]
    assert ids.to_item_ids(np.array([0, 1, 2, 3])).tolist() == [2, 0, 1, 0]
    longer = ids.extended(2)
    assert longer.to_catalogue([3, 4]).tolist() == [4, 5] and longer.to_item_ids([4, 5, 0]).tolist() == [3, 4, 2]
    assert len(ItemIds.empty().index_of_id) == 1
