"""Scales of ratings, by examples made by hand."""

import numpy as np
import pytest

from recbole_recfound.data.behaviour.scale import rating_scale, scaled


@pytest.mark.parametrize(
    ("ratings", "scale"),
    [
        ([1, 5], (1, 5)),
        ([2, 4], (1, 5)),
        ([1], (0, 1)),
        ([], (0, 1)),
        ([0, 1], (0, 1)),
        ([0.5, 5], (0, 5)),
        ([1, 10], (1, 10)),
        ([0, 6], (0, 10)),
        ([3, 80], (0, 100)),
        ([1, 5000], (0, 10_000)),
        ([-9.5, 3], (-10, 10)),
        ([1, np.float32(5) * (1 + 1e-7)], (1, 5)),
    ],
)
def test_the_scale_is_the_first_that_holds_all(ratings, scale):
    assert rating_scale(min(ratings, default=np.inf), max(ratings, default=-np.inf)) == scale


def test_a_rating_is_scaled_by_those_of_its_time_and_before():
    ratings = np.array([1, 5, np.nan, 3, 10, 4, 7, 3])
    times = np.array([1, 2, 2, 3, 4, 4, 5, 0])  # the last two rows are held out
    found = scaled(ratings, times, 6)
    expected = [1, 1, np.nan, 0.5, 1, 3 / 9, 6 / 9, 1]
    np.testing.assert_allclose(found, expected)


def test_stars_have_the_values_of_their_range():
    stars = np.random.default_rng(0).integers(1, 6, 50).astype(np.float64)
    np.testing.assert_array_equal(scaled(stars, np.arange(50.0), 40), (stars - 1) / 4)
