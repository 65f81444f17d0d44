"""Collaborative factors of the training rows."""

from __future__ import annotations

import numpy as np
import torch

from recbole_recfound.model.factors import collaborative_factors


def _rows(seed=0, users=40, items=30, count=400):
    rng = np.random.default_rng(seed)
    return rng.integers(1, users, count), rng.integers(1, items, count)


def test_they_are_those_of_a_dense_svd():
    users, items = _rows()
    users, items = np.append(users, users[:50]), np.append(items, items[:50])  # repeats count once
    dense = np.zeros((40, 30))
    dense[users, items] = 1.0
    with np.errstate(divide="ignore", invalid="ignore"):
        normal = np.nan_to_num(dense / np.sqrt(dense.sum(1, keepdims=True) * dense.sum(0, keepdims=True)))
    _, values, vectors = np.linalg.svd(normal)
    expected = (vectors[:5] * values[:5, None]).T
    found = collaborative_factors(users, items, 30, 5).numpy()
    scale = np.sqrt((expected[dense.sum(0) > 0] ** 2).mean())
    # Signs of singular vectors are free.
    np.testing.assert_allclose(np.abs(found), np.abs(expected / scale), atol=5e-3)
    np.testing.assert_allclose(found @ found.T, (expected / scale) @ (expected / scale).T, atol=5e-3)


def test_one_scale_and_zeros_where_nothing_is_known():
    users, items = _rows(items=20)
    found = collaborative_factors(users, items, 30, 8)
    assert found.shape == (30, 8) and not found[0].any() and not found[20:].any()
    known = torch.from_numpy(np.unique(items))
    torch.testing.assert_close(found[known].square().mean(), torch.tensor(1.0))
    norms = found.norm(dim=0)
    assert (norms[:-1] >= norms[1:] - 1e-4).all(), "the leading columns stay the largest"
    assert torch.equal(found, collaborative_factors(users, items, 30, 8))


def test_data_with_fewer_factors():
    found = collaborative_factors(np.array([1, 1, 2]), np.array([1, 2, 2]), 5, 8)
    assert found.shape == (5, 8) and not found[:, 2:].any() and found[1].any()
    none = np.zeros(0, dtype=np.int64)
    assert not collaborative_factors(none, none, 5, 8).any()
