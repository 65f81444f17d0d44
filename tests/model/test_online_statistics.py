"""Which rows the texts of a held-out row come from: with `online` also held-out ones before it, else training rows."""

import pytest
from recbole.data.interaction import cat_interactions

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.model.m6rec import M6Rec
from tests.settings import clicks_of

START, ROWS, CHANGED = 1_600_000_000, 60, 50
SAME_USER, SAME_ITEM = 55, 57
"""Test rows; validation begins with row 48, the test with row 54. Row 51 has the time of row 50, which changes."""


@pytest.fixture
def texts_of(write_dataset, tiny_backbone):
    """Return a function: the texts of each row in the order of time, behind its user and item."""

    def make(statistics, **changes):
        rows = [
            {"user": f"u{number % 5}", "item": f"i{number * 3 % 7}", "rating": 1 + number // 3 % 5}
            for number in range(ROWS)
        ]
        rows[SAME_ITEM]["item"] = rows[CHANGED]["item"]
        rows[CHANGED] |= changes
        times = [START + 90 * (number - (number == CHANGED + 1)) for number in range(ROWS)]
        header = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
        inter = [[*row.values(), time] for row, time in zip(rows, times, strict=True)]
        items = [["item_id:token", "title:token_seq"], *([f"i{number}", f"Film {number}"] for number in range(7))]
        settings = clicks_of(write_dataset("online", inter=[header, *inter], item=items), tiny_backbone)
        config = Config("M6Rec", "online", None, settings | {"text_args": {"statistics": statistics}})
        splits = build_splits(config)
        model = M6Rec(config, splits.train_set)
        assert splits.train_set.log_sizes == (48, 6, 6)
        every = cat_interactions([part.inter_feat for part in (splits.train_set, splits.valid_set, splits.test_set)])
        found = {}
        for asked in model.packs(every, 4):
            for place, target in zip(asked.places, asked.pack.targets, strict=True):
                segments = [*asked.pack.source.segments, *target]
                found[place] = [model.texts.table.texts[segment] for segment in segments]
        return [found[place] for place in range(ROWS)]

    return make


CHANGES = pytest.mark.parametrize(
    "changes", [{"rating": 5}, {"item": "i5"}, {"user": "u3"}], ids=["rating", "item", "user"]
)


@CHANGES
def test_online_a_validation_row_changes_later_rows_alone(texts_of, changes):
    before, after = texts_of("online"), texts_of("online", **changes)
    differing = {row for row in range(ROWS) if before[row] != after[row]} - {CHANGED}
    assert SAME_USER in differing and min(differing) > CHANGED + 1
    assert SAME_ITEM in differing or "user" in changes
    assert (before[CHANGED] == after[CHANGED]) == ("rating" in changes), "its own rating is not read"


@CHANGES
def test_by_default_a_validation_row_changes_no_other(texts_of, changes):
    before, after = texts_of("training"), texts_of("training", **changes)
    assert {row for row in range(ROWS) if before[row] != after[row]} == (
        {CHANGED} if "rating" not in changes else set()
    )


def test_online_a_test_row_has_the_validation_rows_of_its_user_in_its_source(texts_of):
    online, training = texts_of("online")[SAME_USER], texts_of("training")[SAME_USER]
    assert online[1:5] == ["15 minutes ago, the user hated:", "Film 2", "5 minutes ago, the user disliked:", "Film 3"]
    assert training[1:5] == ["10 minutes ago, the user liked:", "Film 1", "just now, the user hated:", "Film 2"]
