"""Training interactions as tasks read them."""

import numpy as np
import pytest

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.multi_task import catalogue_of
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.data.task.source import TrainingData
from recbole_recfound.errors import ConfigError

NUMERICAL = {"numerical_features": ["rating"]}


@pytest.fixture
def ratings_of(tiny_path):
    """Return a function that reads the ratings of training."""

    def read(**settings):
        columns = {"load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]}}
        config = Config(
            "RecFound", "tiny", None, {"data_path": str(tiny_path), "use_gpu": False, **columns, **settings}
        )
        train = build_splits(config).train_set
        return TrainingData.of(train, catalogue_of(config, train), 0).ratings

    return read


def test_numerical_features_are_the_same_ratings(ratings_of):
    expected = ratings_of()
    assert expected.ndim == 1 and set(expected) == {1, 2, 3, 4, 5}
    assert np.array_equal(ratings_of(**NUMERICAL), expected)
    assert np.array_equal(ratings_of(**NUMERICAL, normalize_all=True), expected)


def test_buckets_are_no_ratings(ratings_of):
    with pytest.raises(ConfigError, match="discretization: got rating, whose numbers are needed, not their buckets"):
        ratings_of(**NUMERICAL, discretization={"rating": {"method": "ED", "bucket": 3}})
