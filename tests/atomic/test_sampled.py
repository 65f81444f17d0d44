"""A sample of users in validation and test: training, histories and other models are as without it."""

import numpy as np
import pytest

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.comparison import check_same_rows, check_short_histories
from recbole_recfound.data.split.interactions import interactions_of
from recbole_recfound.data.split.protocol import build_splits, held_out
from recbole_recfound.errors import DataError
from recbole_recfound.serving.histories import UserHistories


@pytest.fixture
def path(write_dataset):
    """Thirty users with five interactions each."""
    rng = np.random.default_rng(1)
    chosen = {user: rng.permutation(20)[:5] for user in range(30)}
    rows = [[f"u{user}", f"i{item}", step] for user in chosen for step, item in enumerate(chosen[user])]
    return write_dataset("five", inter=[["user_id:token", "item_id:token", "timestamp:float"], *rows])


def splits_of(model, path, **settings):
    given = {"data_path": str(path), "show_progress": False, "use_gpu": False, **settings}
    return build_splits(Config(model, "five", config_dict=given))


def test_every_model_is_scored_on_the_same_users_and_trained_on_all(path):
    reference, whole = splits_of("BPR", path, test_users=7), splits_of("BPR", path)
    sequential = splits_of("GRU4Rec", path, test_users=7)
    assert len(held_out(reference.test_set)) == len(held_out(reference.valid_set)) == 7
    assert set(map(tuple, held_out(reference.test_set))) <= set(map(tuple, held_out(whole.test_set)))
    assert np.array_equal(interactions_of(reference.train_set), interactions_of(whole.train_set))
    check_same_rows(reference, sequential)
    check_short_histories(reference, ["GRU4Rec"])


def test_a_server_knows_all_rows_of_all_users(path):
    sampled, whole = (UserHistories.of(splits_of("BPR", path, test_users=count)) for count in (7, 0))
    assert sampled.users == whole.users
    for user in whole.users.values():
        assert sampled.histories.of(user).tolist() == whole.histories.of(user).tolist()


def test_users_whom_cold_items_leave_too_few_rows_are_named(path):
    with pytest.raises(DataError, match=r"have 2 or 3 interactions, since cold_items leaves out others"):
        check_short_histories(splits_of("BPR", path, cold_items=0.4), ["GRU4Rec"])
