"""RecBole's data sets: rows as in the file, exact order of time, nothing from held-out values.

Everything runs through RecBole's own `Config` and `create_dataset`, which importing the package repairs.
"""

import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from recbole.config import Config as RecBoleConfig
from recbole.data import create_dataset

import recbole_recfound  # noqa: F401  (the import is what is tested)
from recbole_recfound.atomic.missing import UNFILLED
from recbole_recfound.atomic.missing import cells as cells_of
from recbole_recfound.errors import DataError

HEADER = ["user_id:token", "item_id:token", "timestamp:float"]
BY_TIME = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": "full"}


@pytest.fixture
def read(monkeypatch):
    """Return a function that reads a written data set with RecBole's own classes."""
    monkeypatch.setattr(sys, "argv", ["test"])

    def create(path, name, model="BPR", columns=("user_id", "item_id", "timestamp"), **settings):
        sequential = {"train_neg_sample_args": None} if model in ("SASRec", "GRU4Rec", "DIEN") else {}
        settings = {"load_col": {"inter": list(columns)}, "eval_args": BY_TIME, **sequential, **settings}
        return create_dataset(RecBoleConfig(model, name, config_dict={"data_path": str(path), **settings}))

    return create


def _items(part):
    users, items = (part.id2token(field, part.inter_feat[field].numpy()) for field in ("user_id", "item_id"))
    return dict(zip(users.tolist(), items.tolist(), strict=True))


def _history_rows(gap, start=1_600_000_000, users=20, length=8):
    """Rows of users in the order of time, `gap` apart; item `iN` is the N-th of a user."""
    return [
        [f"u{user}", f"i{step}", start + gap * (length * user + step)]
        for user in range(users)
        for step in range(length)
    ]


FORMS = {
    "seconds": (30, 1_600_000_000),
    "milliseconds": (10, 1_600_000_000_000),
    "microseconds": (7, 1_600_000_000_000_000),
    "nanoseconds": (1, 1_600_000_000_000_000_000),
}


CLICKS = {
    "columns": ("user_id", "item_id", "timestamp", "label"),
    "eval_args": {**BY_TIME, "mode": "labeled"},
    "metrics": ["AUC"],
    "valid_metric": "AUC",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", ["newest first", "shuffled"])
@pytest.mark.parametrize("model", ["BPR", "SASRec", "DIEN"])
def test_the_last_item_by_time_is_the_test_item(write_dataset, read, form, order, model):
    rows = [[*row, 1] for row in _history_rows(*FORMS[form])]
    rows = rows[::-1] if order == "newest first" else random.Random(0).sample(rows, len(rows))
    path = write_dataset("times", inter=[[*HEADER, "label:float"], *rows])
    _, valid, test = read(path, "times", model, **(CLICKS if model == "DIEN" else {})).build()
    assert set(_items(test).values()) == {"i7"} and set(_items(valid).values()) == {"i6"} and len(_items(test)) == 20


def test_single_precision_loses_the_order():
    """RecBole's own value: its tensor of times, sorted as RecBole sorts it."""
    rows = _history_rows(30)[::-1]
    times = np.array([row[2] for row in rows], dtype=np.float32)
    last = {rows[place][0]: rows[place][1] for place in np.argsort(times, kind="stable")}
    assert sum(item == "i7" for item in last.values()) == 6


def test_decimals_and_calendar_times_are_exact(write_dataset, read):
    stamps = [f"2020022911{minute:02d}00" for minute in range(8)]
    decimals = [f"1600000000.000000{digit}" for digit in range(8)]
    for name, cells in (("calendar", stamps), ("decimals", decimals)):
        rows = [[f"u{user}", f"i{step}", cells[step]] for user in range(6) for step in reversed(range(8))]
        _, _, test = read(write_dataset(name, inter=[HEADER, *rows]), name).build()
        assert set(_items(test).values()) == {"i7"}


def test_equal_times_keep_the_order_of_the_file(write_dataset, read):
    rows = [[f"u{user}", f"i{(step * 5 + user) % 8}", 1_600_000_000] for user in range(10) for step in range(8)]
    path = write_dataset("ties", inter=[HEADER, *rows])
    expected = {f"u{user}": f"i{(7 * 5 + user) % 8}" for user in range(10)}
    dataset = read(path, "ties")
    _, _, test = dataset.build()
    assert _items(test) == expected
    assert dataset.tied_neighbours == 70 and len(dataset.tied_rows) == 80
    shuffled, again = (read(path, "ties", order_ties="shuffle").build()[2] for _ in range(2))
    assert _items(shuffled) == _items(again) != expected


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_the_order_of_recbole_itself(model, write_dataset, read):
    """Of times 20 s apart single precision tells six or seven never apart: the last in the file is then the last."""
    rows = _history_rows(20)
    random.Random(3).shuffle(rows)
    path = write_dataset("near", inter=[HEADER, *rows])
    last, latest = {}, {}
    for user, item, time in rows:
        if np.float32(time) >= latest.get(user, np.float32(0)):
            last[user], latest[user] = item, np.float32(time)
    _, _, test = read(path, "near", model, order_ties="recbole").build()
    assert _items(test) == last
    assert _items(read(path, "near", model).build()[2]) == {f"u{user}": "i7" for user in range(20)} != last


def test_repeated_rows_are_removed_in_the_order_of_time(write_dataset, read):
    rows = [["u", "a", 1_600_000_040], ["u", "b", 1_600_000_020], ["u", "a", 1_600_000_000], ["v", "b", 1_600_000_001]]
    dataset = read(write_dataset("double", inter=[HEADER, *rows]), "double", rm_dup_inter="first")
    dataset.build()
    found = dataset.id2token("item_id", dataset.inter_feat["item_id"].numpy()).tolist()
    assert found == ["a", "b", "b"]


def test_split_by_time_uses_exact_times(write_dataset, read):
    """The last fifth of all rows by time, although all times are equal in single precision."""
    rows = [[f"u{step % 10}", f"i{step % 7}", 1_600_000_000_000_000_000 + step] for step in reversed(range(100))]
    path = write_dataset("global", inter=[HEADER, *rows])
    for model, count in (("BPR", 20), ("SASRec", 18)):  # the first interaction of a user is no target of SASRec
        parts = read(path, "global", model, eval_args={**BY_TIME, "split": {"TS": [0.6, 0.2, 0.2]}}).build()
        assert len(parts[2]) == count, model


@pytest.mark.parametrize(("kind", "group_by"), [("TS", "user"), ("TS", None), ("RS", None)])
@pytest.mark.parametrize("apart", [1, 10**15], ids=["equal in single precision", "different"])
@pytest.mark.parametrize("model", ["BPR", "SASRec"])
def test_a_split_of_all_rows_by_time_tests_the_last_ones(write_dataset, read, model, apart, kind, group_by):
    """Of sequential models too, which make rows user by user."""
    rows = [[f"u{(7 * step) % 11}", f"i{step}", 1_600_000_000_000_000_000 + step * apart] for step in range(120)]
    rows = [rows[number] for number in np.random.default_rng(0).permutation(len(rows))]
    args = {**BY_TIME, "split": {kind: [0.6, 0.2, 0.2]}, "group_by": group_by}
    parts = read(write_dataset("whole", inter=[HEADER, *rows]), "whole", model, eval_args=args)
    steps = [
        np.array([int(token[1:]) for token in part.id2token("item_id", part.inter_feat["item_id"].numpy())])
        for part in parts.build()
    ]
    assert steps[0].max() < steps[1].min() <= steps[1].max() < steps[2].min() and len(steps[2]) >= 20


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("", "is empty"),
        ("nan", "'nan'"),
        ("inf", "'inf'"),
        ("1e300", "'1e300'"),
        ("2020-02-29", "'2020-02-29'"),
        ("1_0", "'1_0'"),
    ],
)
def test_what_is_no_time_is_refused(write_dataset, read, cell, said):
    rows = [*_history_rows(30), ["u0", "i9", cell]]
    with pytest.raises(DataError, match=rf"times.inter:162: timestamp (is )?{said}.*expected a number"):
        read(write_dataset("times", inter=[HEADER, *rows]), "times")


def test_times_that_are_typed_as_tokens_are_refused(write_dataset, read):
    path = write_dataset("times", inter=[["user_id:token", "item_id:token", "timestamp:token"], *_history_rows(30)])
    with pytest.raises(DataError, match=r"times.inter:1: timestamp is typed token, expected timestamp:float"):
        read(path, "times")


def test_wrong_rows_are_named_together(write_dataset, read):
    rows = [*_history_rows(30), *[["u0", "", "x"] for _ in range(30)]]
    with pytest.raises(DataError) as caught:
        read(write_dataset("times", inter=[HEADER, *rows]), "times")
    assert "times.inter:162: item_id is empty" in str(caught.value) and "times.inter: 40 more" in str(caught.value)
    assert str(caught.value).startswith("60 problems in the data")


@pytest.mark.parametrize("odd", ["NA", "nan", "null", "None", "#N/A", '"', "'a", 'say "no', "-", " x"])
def test_every_text_is_an_id(write_dataset, read, odd):
    rows = [
        [f"u{user}", odd if step == 3 else f"i{step}", 1_600_000_000 + step] for user in range(5) for step in range(6)
    ]
    dataset = read(write_dataset("odd", inter=[HEADER, *rows]), "odd")
    assert len(dataset) == 30 and dataset.item_num == 7
    assert (dataset.inter_feat["item_id"] == dataset.token2id("item_id", odd)).sum() == 5


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_byte_order_mark_and_line_ends(write_dataset, read, start, end):
    path = write_dataset("marked", inter=[HEADER, *_history_rows(30)])
    file = path / "marked" / "marked.inter"
    text = file.read_text().replace("timestamp:float", "timestamp:float\tnote:token").replace("i7", "ü7")
    lines = [line if number == 0 else f"{line}\tx" for number, line in enumerate(text.splitlines())]
    file.write_bytes(start + end.join([*lines, ""]).encode())
    dataset = read(path, "marked", columns=("user_id", "item_id", "timestamp", "note"))
    assert dataset.field2id_token["note"].tolist() == ["[PAD]", "x"] and "ü7" in dataset.field2id_token["item_id"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1"])
def test_encodings(write_dataset, read, encoding):
    path = write_dataset("coded", inter=[HEADER, *_history_rows(30)])
    file = path / "coded" / "coded.inter"
    file.write_bytes(file.read_text().replace("i7", "ü7").encode(encoding))
    dataset = read(path, "coded", encoding=encoding)
    assert len(dataset) == 160 and "ü7" in dataset.field2id_token["item_id"]


def test_sequences_of_numbers_name_their_file(write_dataset, read):
    items = [["item_id:token", "vector:float_seq"], ["i1", "0.5 x"]]
    path = write_dataset("vectors", inter=[HEADER, *_history_rows(30)], item=items)
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "vector"]}
    with pytest.raises(DataError, match=r"vectors\.item:2: vector is '0\.5 x', expected numbers"):
        read(path, "vectors", load_col=columns)


def test_missing_values_of_tokens_are_padding(write_dataset, read):
    rows = [[*row, "" if number % 2 else "phone"] for number, row in enumerate(_history_rows(30))]
    path = write_dataset("missing", inter=[[*HEADER, "device:token"], *rows])
    dataset = read(path, "missing", columns=("user_id", "item_id", "timestamp", "device"))
    assert dataset.num("device") == 2 and (dataset.inter_feat["device"] == 0).sum() == 80


RATED = [*HEADER, "rating:float"]


def _rated(test_rating, missing):
    """Five users; user 0's second item has no rating where `missing`; the last item of each is the test item."""
    return [
        [f"u{user}", f"i{step}", 1_600_000_000 + step, "" if missing and (user, step) == (0, 1) else rating]
        for user in range(5)
        for step, rating in enumerate([1, 2, 3, 4, test_rating])
    ]


@pytest.mark.parametrize("model", ["BPR", "SASRec"])
@pytest.mark.parametrize("settings", [{}, {"normalize_field": ["rating"]}, {"normalize_all": True}])
@pytest.mark.parametrize("missing", [False, True])
def test_no_value_of_a_test_row_changes_training(write_dataset, read, model, settings, missing):
    def training(test_rating):
        path = write_dataset("rated", inter=[RATED, *_rated(test_rating, missing)])
        dataset = read(path, "rated", model, columns=("user_id", "item_id", "timestamp", "rating"), **settings)
        train = dataset.build()[0].inter_feat
        return {name: train[name].numpy() for name in train.columns if name.startswith("rating")}

    low, high = training(5), training(500)
    for name in low:
        np.testing.assert_array_equal(low[name], high[name])
        if name.endswith(UNFILLED):  # no model reads it
            continue
        assert np.isfinite(low[name]).all()
        if settings:
            assert low[name].max() <= 1 and low[name].min() >= 0


def test_a_missing_rating_is_the_mean_of_training_rows(write_dataset, read):
    path = write_dataset("rated", inter=[RATED, *_rated(100, missing=True)])
    train = read(path, "rated", columns=("user_id", "item_id", "timestamp", "rating")).build()[0].inter_feat
    known = [1, 3] + 4 * [1, 2, 3]  # the validation item (4) and the test item are held out
    row = (train["user_id"] == 1) & (train["item_id"] == 2)
    assert train["rating"][row].item() == pytest.approx(np.mean(known))
    own = cells_of(train, "rating")
    assert own[row].isnan().all() and torch.equal(own[~row], train["rating"][~row])
    assert cells_of(train, "timestamp") is train["timestamp"]


def test_infinite_ratings_and_labels_of_nothing_are_refused(write_dataset, read):
    columns = ("user_id", "item_id", "timestamp", "rating")
    path = write_dataset("rated", inter=[RATED, *_rated("inf", missing=False)])
    with pytest.raises(DataError, match="rating is 'inf', expected a number"):
        read(path, "rated", columns=columns)
    path = write_dataset("rated", inter=[RATED, *_rated(5, missing=True)])
    with pytest.raises(DataError, match="1 interactions have no rating, so they are neither positive nor negative"):
        read(path, "rated", columns=columns, threshold={"rating": 3})
    dataset = read(path, "rated", columns=columns, threshold={"rating": 3}, val_interval={"rating": "[0,inf)"})
    assert len(dataset) == 24


def test_nothing_of_this_is_needed_from_the_user(write_dataset, checkout, tmp_path):
    """A new process that only imports the package."""
    write_dataset("times", inter=[HEADER, *_history_rows(30)[::-1]])
    code = (
        "import recbole_recfound\nfrom recbole.config import Config\nfrom recbole.data import create_dataset\n"
        f"config = Config('BPR', 'times', config_dict={{'data_path': {str(tmp_path / 'written')!r}, "
        f"'load_col': {{'inter': ['user_id', 'item_id', 'timestamp']}}, 'eval_args': {BY_TIME!r}}})\n"
        "test = create_dataset(config).build()[2]\n"
        "print(set(test.id2token('item_id', test.inter_feat['item_id'].numpy()).tolist()))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "{'i7'}", done.stderr[-2000:]
