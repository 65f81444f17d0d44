"""What is read from a data set: values of interactions, and the column of items that forms categories."""

import numpy as np
import pytest
from recbole.utils import init_seed

from recbole_recfound.config.configurator import Config
from recbole_recfound.data.behaviour.read import _category, build_texts
from recbole_recfound.data.behaviour.words import rating_word
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.data.text.catalogue import Catalogue
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.m6rec import M6Rec


@pytest.fixture
def catalogue():
    """Years with one slip of the pen, before genres."""
    rows = [
        {"title": "Heat", "year": "1995", "genre": "Action Crime"},
        {"title": "Clue", "year": "V", "genre": "Comedy"},
        {"title": "Alien", "year": "1979", "genre": "Action"},
        {"title": "Jaws", "year": "1975"},
    ]
    return Catalogue(["1", "2", "3", "4"], ["title", "year", "genre"], rows, 4)


def test_a_column_of_years_is_none_of_categories(catalogue):
    found = _category(catalogue, range(4), None)
    assert (found.name, found.groups) == ("genre", ("Action", "Comedy", "Crime"))
    assert [list(found.values[a:b]) for a, b in zip(found.indptr, found.indptr[1:], strict=False)] == [
        [],
        [0, 2],
        [1],
        [0],
        [],
    ]


def test_a_column_that_is_named_is_taken(catalogue):
    assert _category(catalogue, range(4), "year").groups == ("1975", "1979", "1995", "V")
    with pytest.raises(ConfigError, match="category: got colour"):
        _category(catalogue, range(4), "colour")


@pytest.mark.parametrize("field", ["rating", "stars"])
def test_ratings_are_read_where_labels_are_made_of_them(field, tiny_path, tiny_backbone, tmp_path):
    """RecBole drops the column of a threshold, and a film of three stars was hated as one of one star."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    for suffix in ("inter", "item", "user"):
        text = (tiny_path / "tiny" / f"tiny.{suffix}").read_text()
        (folder / f"tiny.{suffix}").write_text(text.replace("rating:float", f"{field}:float"))
    settings = {
        "data_path": str(tmp_path),
        "backbone": str(tiny_backbone),
        "threshold": {field: 4},
        "load_col": {"inter": ["user_id", "item_id", field, "timestamp"]},
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "labeled"},
        "use_gpu": False,
    }
    config = Config("M6Rec", "tiny", None, settings)
    init_seed(0, True)
    train_set = build_splits(config).train_set
    first = slice(0, train_set.log_sizes[0])
    stars = 1 + 4 * train_set.log.values[first]
    assert set(np.unique(stars).round(6)) == {1, 2, 3, 4, 5}
    assert ((stars >= 4) == train_set.inter_feat["label"].numpy()).all()
    theirs = Config("DeepFM", "tiny", None, {key: value for key, value in settings.items() if key != "backbone"})
    assert field not in build_splits(theirs).train_set.inter_feat, "no other model reads a row's own value"


def test_a_rating_of_whole_fifths_has_its_own_word():
    """Of ratings from 0.3 to 0.8, 0.7 is at four fifths, but a little less in floating point."""
    ratings = [0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    words = [rating_word((rating - 0.3) / (0.8 - 0.3)) for rating in ratings]
    assert words == ["hated", "disliked", "found fair", "liked", "loved", "loved"]
    assert rating_word(np.nan) == "chose" and rating_word(0.79) == "liked"


def test_no_user_fields_are_an_empty_list(tiny_path, tiny_backbone):
    settings = {"data_path": str(tiny_path), "backbone": str(tiny_backbone), "use_gpu": False}
    settings |= {"m6rec_task": ["retrieval"], "text_args": {"user_fields": []}}
    train = build_splits(Config("M6Rec", "tiny", None, settings)).train_set
    texts = build_texts(train.config, train, train.log, 8)
    assert {texts.table.texts[segment] for segment in texts.profiles} == {"User: unknown"}
    assert not texts.statistics.user_attributes


@pytest.mark.parametrize("task", ["retrieval", "zeroshot"])
def test_the_id_of_an_item_without_text_is_not_read(task, write_dataset, tiny_backbone):
    rows = [[f"u{user}", f"item-{(user + step) % 9}", step] for user in range(20) for step in range(4)]
    inter = [["user_id:token", "item_id:token", "timestamp:float"], *rows]

    def model_of(titles):
        items = [[f"item-{number}", title] for number, title in enumerate(titles)]
        path = write_dataset("bare", inter=inter, item=[["item_id:token", "title:token_seq"], *items])
        settings = {"data_path": str(path), "backbone": str(tiny_backbone), "m6rec_task": [task], "use_gpu": False}
        train = build_splits(Config("M6Rec", "bare", None, settings)).train_set
        return M6Rec(train.config, train)

    model = model_of(["Heat", *[""] * 7])  # the ninth has no row
    assert set(model.read_texts()) - {""} == {"Heat", "no description", "nothing", "User: unknown"} - (
        {"nothing", "User: unknown"} if task == "zeroshot" else set()
    )
    assert not any("item-" in text for text in model.texts.table.texts)
    with pytest.raises(ConfigError, match="bare.item: no item has a text in title: texts are all"):
        model_of([""] * 8)


@pytest.mark.parametrize("kind", ["float", "token"])
def test_an_age_that_is_no_number_is_missing(kind, write_dataset, tiny_backbone):
    """One `nan` made the edges of all groups `nan`, and the profile said "age nan"."""

    def texts_with(age):
        header = ["user_id:token", "item_id:token", "timestamp:float"]
        rows = [[f"u{user}", f"i{(user + step) % 9}", step] for user in range(40) for step in range(4)]
        users = [["user_id:token", f"age:{kind}"], *([f"u{user}", age if user == 39 else user] for user in range(40))]
        items = [["item_id:token", "title:token_seq"], *([f"i{number}", f"Film {number}"] for number in range(9))]
        path = write_dataset("aged", inter=[header, *rows], user=users, item=items)
        settings = {"data_path": str(path), "backbone": str(tiny_backbone), "m6rec_task": ["retrieval"]}
        train = build_splits(Config("M6Rec", "aged", None, {**settings, "use_gpu": False})).train_set
        texts = build_texts(train.config, train, train.log, 8)
        (ages,) = texts.statistics.user_attributes
        return [texts.table.texts[segment] for segment in texts.profiles], ages.groups, ages.values.tolist()

    profiles, groups, values = texts_with("")
    assert len(groups) == 6 and len(values) == 39 and len(set(values)) == 6
    assert texts_with("nan") == texts_with("-inf") == (profiles, groups, values)


@pytest.mark.parametrize("later", [[5, 1, 5], [0, 2, 10], [-3, 400, 1]], ids=["within", "beyond", "far beyond"])
def test_later_ratings_change_no_earlier_text(later, write_dataset, tiny_backbone):
    """Planted: other last training ratings, on the scale of the first ones and outside it."""

    def texts_with(ratings):
        rows = [[f"u{row % 2}", f"i{row % 5}", rating, 1600000000 + 90 * row] for row, rating in enumerate(ratings)]
        header = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
        items = [["item_id:token", "title:token_seq"], *([f"i{number}", f"Film {number}"] for number in range(5))]
        settings = {
            "data_path": str(write_dataset("rated", inter=[header, *rows], item=items)),
            "backbone": str(tiny_backbone),
            "threshold": {"rating": 3},
            "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
            "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "labeled"},
            "use_gpu": False,
        }
        train = build_splits(Config("M6Rec", "rated", None, settings)).train_set
        log = train.log.take(slice(0, train.log_sizes[0]))
        texts = build_texts(train.config, train, log, 8)
        first = np.flatnonzero(log.times < 1600000000 + 90 * len(early))
        segments = [[*texts.of_known[row], *texts.source(log.users[row], log.times[row]).segments] for row in first]
        return [[texts.table.texts[segment] for segment in row] for row in segments]

    early = [3, 4, 2, 4, 3, 2, 4, 4, 3, 2, 4, 3, 4]
    last = [3, 4, 3, 4]
    assert texts_with([*early, *later, *last]) == texts_with([*early, 3, 3, 3, *last])


def test_numerical_features_are_the_same_numbers(tiny_path, tiny_backbone):
    """RecBole keeps them as pairs of a number and 1."""
    settings = {
        "data_path": str(tiny_path),
        "backbone": str(tiny_backbone),
        "threshold": {"rating": 4},
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "labeled"},
        "use_gpu": False,
    }
    buckets = {"timestamp": {"method": "ED", "bucket": 3}}
    for others in ({}, {"normalize_all": True}, {"order_ties": "recbole"}):
        names = {"numerical_features": ["rating", "timestamp"]}
        alone, paired = (
            build_splits(Config("M6Rec", "tiny", None, {**settings, **others, **own})).train_set for own in ({}, names)
        )
        assert paired.inter_feat["rating"].shape == (len(paired), 2)
        for field in ("users", "items", "times", "values"):
            assert np.array_equal(getattr(paired.log, field), getattr(alone.log, field))
    with pytest.raises(ConfigError, match="discretization: got timestamp, whose numbers are needed"):
        build_splits(Config("M6Rec", "tiny", None, {**settings, **names, "discretization": buckets}))


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("unit", ["seconds", "milliseconds", "nanoseconds", "YYYYMMDDHHMMSS", "positions"])
def test_times_are_exact_and_in_seconds(unit, normalised, write_dataset, tiny_backbone):
    """RecBole's single precision makes times 30 s apart equal; an hour of milliseconds is no half year."""
    start = np.datetime64("2020-09-13T12:26:40")
    moments = [start + np.timedelta64(30 * step, "s") for step in range(12)]
    seconds = [(moment - np.datetime64(0, "s")).astype(int) for moment in moments]
    written = {
        "seconds": seconds,
        "milliseconds": [1000 * each for each in seconds],
        "nanoseconds": [10**9 * each for each in seconds],
        "YYYYMMDDHHMMSS": [str(moment).translate(str.maketrans("", "", "-:T")) for moment in moments],
        "positions": range(12),
    }[unit]
    rows = [[f"u{number % 2}", f"i{number % 5}", 3 + number % 3, time] for number, time in enumerate(written)]
    header = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    items = [["item_id:token", "title:token_seq"], *([f"i{number}", f"Film {number}"] for number in range(5))]
    settings = {
        "data_path": str(write_dataset("timed", inter=[header, *rows], item=items)),
        "backbone": str(tiny_backbone),
        "threshold": {"rating": 4},
        "normalize_all": normalised,
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "eval_args": {"split": {"RS": [0.6, 0.2, 0.2]}, "order": "TO", "group_by": "none", "mode": "labeled"},
        "use_gpu": False,
    }
    splits = build_splits(Config("M6Rec", "timed", None, settings))
    clock = unit != "positions"
    expected = seconds if clock else range(12)
    np.testing.assert_allclose(splits.train_set.log.times, expected, rtol=0, atol=1e-6 * normalised)
    texts = build_texts(splits.config, splits.train_set, splits.train_set.log, 8)
    assert texts.clock == clock
    user = splits.train_set.token2id("user_id", "u1")
    source = [texts.table.texts[segment] for segment in texts.source(user, seconds[-1] if clock else 11.0).segments]
    assert sum(text.startswith("Film") for text in source) == 5, "all behaviours before the row"
    assert [text.split(",")[0] for text in source if " ago," in text] == ["5 minutes ago"] * clock
