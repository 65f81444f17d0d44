"""Collaborative factors of the training rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_recfound.model.factors import collaborative_factors
from tests.reference.factors import dense_factors


def _rows(seed=0, users=40, items=30, count=400):
    rng = np.random.default_rng(seed)
    return rng.integers(1, users, count), rng.integers(1, items, count)


def test_they_are_those_of_a_dense_svd():
    users, items = _rows()
    users, items = np.append(users, users[:50]), np.append(items, items[:50])  # repeats count once
    expected = dense_factors(users, items, 40, 30, 5)
    found = collaborative_factors(users, items, 30, 5)().numpy()
    # Signs of singular vectors are free.
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=5e-3)
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=5e-3)


def test_one_scale_and_zeros_where_nothing_is_known():
    users, items = _rows(items=20)
    found = collaborative_factors(users, items, 30, 8)()
    assert found.shape == (30, 8) and not found[0].any() and not found[20:].any()
    known = torch.from_numpy(np.unique(items))
    torch.testing.assert_close(found[known].square().mean(), torch.tensor(1.0))
    norms = found.norm(dim=0)
    assert (norms[:-1] >= norms[1:] - 1e-4).all(), "the leading columns stay the largest"
    assert torch.equal(found, collaborative_factors(users, items, 30, 8)())


def test_data_with_fewer_factors():
    found = collaborative_factors(np.array([1, 1, 2]), np.array([1, 2, 2]), 5, 8)()
    assert found.shape == (5, 8) and not found[:, 2:].any() and found[1].any()
    none = np.zeros(0, dtype=np.int64)
    assert not collaborative_factors(none, none, 5, 8)().any()


def test_users_who_are_alike_leave_columns_empty():
    """Six users with two histories have two factors, although users and items would allow six."""
    histories = [[1, 2, 3, 4], [4, 5, 6, 7]]
    users, items = np.repeat(np.arange(1, 7), 4), np.array([item for user in range(6) for item in histories[user % 2]])
    factors = collaborative_factors(users, items, 9, 6)
    assert factors().abs().max() < 4 and not factors()[:, 2:].any() and not factors.squares[2:].any()
    left = factors.without(torch.tensor([histories[0], histories[1]]))
    assert left.abs().max() < 10


def _padded(users, items, chosen):
    """The items of some users, one row each, with zeros and repeats."""
    own = [np.append(items[users == user], items[users == user][:2]) for user in chosen]
    rows = np.zeros((len(chosen), max(map(len, own), default=0) + 3), dtype=np.int64)
    for row, ids in zip(rows, own, strict=True):
        row[: len(ids)] = ids
    return torch.from_numpy(rows)


@given(st.lists(st.integers(1, 39), unique=True, max_size=39), st.integers(0, 3))
@settings(max_examples=30, deadline=None)
def test_without_users_they_are_the_sums_over_the_others(chosen, seed):
    users, items = _rows(seed)
    chosen = [user for user in chosen if user in users]
    found = collaborative_factors(users, items, 30, 6)
    rows = _padded(users, items, chosen)
    left = found.without(rows)
    whole, expected = (dense_factors(users, items, 40, 30, 6, out) for out in ((), chosen))
    signs = np.sign((found().numpy() * whole).sum(0))
    np.testing.assert_allclose(left.numpy(), expected * signs, atol=2e-3)
    untouched = np.setdiff1d(np.arange(30), rows.unique().numpy())
    assert torch.equal(left[untouched], found()[untouched]), "what these users do not have stays to the bit"


def test_an_item_that_nobody_else_has_is_left_as_a_new_one():
    users, items = np.array([1, 1, 1, 2, 2, 3, 3]), np.array([1, 2, 3, 2, 3, 3, 2])
    found = collaborative_factors(users, items, 6, 2)
    left = found.without(torch.tensor([[1, 2, 3, 0, 0]]))
    assert found()[1].any() and not left[1].any() and left[2].any() and not left[[0, 4, 5]].any()
    everybody = found.without(torch.tensor([[1, 2, 3], [2, 3, 0], [3, 2, 0]]))
    assert not everybody.any()
    assert torch.equal(found.without(torch.zeros(2, 0, dtype=torch.int64)), found())


def test_permuted_factors_are_left_without_the_same_users():
    users, items = _rows()
    found, rows = collaborative_factors(users, items, 30, 4), _padded(users, items, [3, 5])
    order = torch.from_numpy(np.append(0, 1 + np.random.default_rng(0).permutation(29)))
    permuted = found.permuted(order)
    assert torch.equal(permuted(), found()[order]) and torch.equal(permuted.without(rows), found.without(rows)[order])


@pytest.mark.parametrize("permuted", [False, True])
def test_of_some_items_they_are_those_of_all(permuted):
    rng = np.random.default_rng(3)
    found = collaborative_factors(rng.integers(1, 12, 60), rng.integers(1, 20, 60), 20, 6)
    if permuted:
        found = found.permuted(torch.randperm(20, generator=torch.Generator().manual_seed(1)))
    rows = torch.tensor([[1, 2, 3, 0, 0], [4, 4, 9, 12, 19]])
    wanted = torch.tensor([0, 2, 9, 11, 19])
    torch.testing.assert_close(found.without(rows, wanted), found.without(rows)[wanted])
