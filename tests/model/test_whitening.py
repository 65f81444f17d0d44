"""Whitening of text features."""

import pytest
import torch

from recbole_recfound.model.whitening import RIDGE, whitening


def _correlated(rows, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(rows, width, generator=generator) @ torch.randn(width, width, generator=generator)
    return mixed - mixed.mean(0)


def _variances(features):
    return torch.linalg.eigvalsh(features.T.double() @ features.double() / len(features))


def test_every_direction_that_varies_gets_about_the_same_variance():
    features = _correlated(400, 6)
    matrix = whitening(features)
    torch.testing.assert_close(matrix, matrix.T)
    before, after = _variances(features), _variances(features @ matrix)
    expected = before / (before + RIDGE * before.mean())
    torch.testing.assert_close(after, expected / expected.mean(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    "turn", [torch.tensor([1.0, -1, 1, -1, 1, 1]).diag(), torch.eye(6).flip(0)], ids=["signs", "order"]
)
def test_depends_on_no_order_of_the_features(turn):
    """The matrix is the only symmetric one: what a machine calls its first direction has no part in it."""
    features = _correlated(400, 6)
    back = features @ turn @ whitening(features @ turn) @ turn.T
    torch.testing.assert_close(back, features @ whitening(features), atol=1e-4, rtol=1e-4)


def test_a_new_item_is_as_near_to_its_twin_where_items_are_fewer_than_features():
    """Directions in which the catalogue does not differ are nothing that is known of a new item."""
    features = _correlated(40, 60)
    new = features[:1] + 0.2 * torch.randn(1, 60, generator=torch.Generator().manual_seed(3))
    matrix = whitening(features)
    nearness = torch.cosine_similarity(new @ matrix, features @ matrix)
    assert nearness.argmax() == 0 and nearness[0] > 0.9
    null = torch.linalg.svd(features).Vh[40:]
    assert (null @ matrix).abs().max() < 1e-4 * matrix.abs().max()


@pytest.mark.parametrize("rows", [0, 1, 3])
def test_fewer_items_than_features_or_equal_ones_stay_finite(rows):
    assert whitening(_correlated(rows, 6) if rows > 1 else torch.zeros(rows, 6)).isfinite().all()
    assert whitening(torch.zeros(5, 6)).isfinite().all()
