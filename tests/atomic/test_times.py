"""Exact ranks of times and their units."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_recfound.atomic.times import time_ranks, unit_of

NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**12), max_value=10**12).map(str),
    st.sampled_from(["1600000000", "1600000000.0", "1.6e9", "1600000000000000001", "1600000000000000002"]),
)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_ranks_are_the_order_of_exact_numbers(texts):
    ranks = time_ranks(texts)
    exact = [Decimal(text) for text in texts]
    for i in range(len(texts)):
        for j in range(len(texts)):
            assert (ranks[i] < ranks[j]) == (exact[i] < exact[j])


@pytest.mark.parametrize(
    ("low", "high", "name"),
    [
        (874724710, 893286638, "seconds"),
        (1.6e12, 1.7e12, "milliseconds"),
        (1.6e15, 1.7e15, "microseconds"),
        (1.6e18, 1.7e18, "nanoseconds"),
        (20190131235959, 20200229000000, "YYYYMMDDHHMMSS"),
        (0, 700, "positions"),
        (1995, 2020, "positions"),
    ],
)
def test_units(low, high, name):
    assert unit_of(low, high).name == name
