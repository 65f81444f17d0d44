"""Statistics: against loops over rows, and blind to later rows."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_recfound.data.behaviour import Attribute, BehaviourTexts, Log, Statistics, Tally
from tests.reference.behaviour_statistics import Row, statistics_of

USERS, ITEMS = 6, 9
GENDER = Attribute("gender", ("F", "M"), np.array([0, 0, 1, 2, 3, 4, 4]), np.array([0, 1, 1, 0]))
GENRE = Attribute(
    "genre", ("Comedy", "Drama"), np.array([0, 0, 1, 3, 4, 5, 5, 6, 7, 9]), np.array([0, 0, 1, 1, 0, 1, 0, 0, 1])
)


def random_log(rows: int = 60, seed: int = 0) -> Log:
    generator = np.random.default_rng(seed)
    times = np.sort(generator.integers(0, rows // 2, rows)).astype(float)  # with ties
    return Log(
        generator.integers(1, USERS, rows), generator.integers(1, ITEMS, rows), times, generator.random(rows).round(2)
    )


def texts_of(log: Log, **options) -> BehaviourTexts:
    items, profiles = [f"film {number}" for number in range(ITEMS)], [f"user {number}" for number in range(USERS)]
    return BehaviourTexts(log, items, profiles, [GENDER], GENRE, **options)


def strings(texts: BehaviourTexts, segments: np.ndarray) -> list[list[str]]:
    return [[texts.table.texts[segment] for segment in row] for row in segments]


def test_tally_equals_a_loop():
    log = random_log()
    tally = Tally.of(log.items, log.values, log.times)
    for row in range(len(log)):
        earlier = (log.times < log.times[row]) & (log.items == log.items[row])
        assert tally.counts[row] == earlier.sum()
        assert tally.sums[row] == pytest.approx(log.values[earlier].sum())
    totals, sizes = tally.of_keys(np.arange(ITEMS + 3))
    assert totals == pytest.approx([log.values[log.items == item].sum() for item in range(ITEMS + 3)])
    assert sizes.tolist() == [(log.items == item).sum() for item in range(ITEMS + 3)]


PLACES = st.integers(1, USERS - 1), st.integers(1, ITEMS - 1)
VALUES = st.sampled_from([np.nan, 0.0, 0.2, 0.5, 0.9, 1.0])
ROWS = st.lists(st.builds(Row, *PLACES, st.integers(0, 12).map(float), VALUES), max_size=40)
REQUESTS = st.lists(st.builds(Row, st.integers(0, USERS - 1), st.integers(0, ITEMS - 1), st.just(np.inf)), max_size=4)


@given(ROWS, REQUESTS)
@settings(max_examples=150, deadline=None)
def test_all_statistics_equal_a_loop_over_earlier_rows(rows, requests):
    """Of logged rows, many of which have one time, and of requests after them."""
    users, items, times, values = ([getattr(row, name) for row in rows] for name in ("user", "item", "time", "value"))
    log = Log(np.array(users, np.int64), np.array(items, np.int64), np.array(times), np.array(values, np.float64))
    genders = {"gender": [None, "F", "M", "M", "F", None]}
    genres = [GENRE.values[GENRE.indptr[item] : GENRE.indptr[item + 1]].tolist() for item in range(ITEMS)]
    expected = statistics_of([*rows, *requests], genders, genres)
    statistics = Statistics(log, [GENDER], GENRE)
    asked = np.array([(row.user, row.item) for row in requests], np.int64).reshape(-1, 2).T
    for found, own in (
        (statistics.of_log(), expected[: len(rows)]),
        (statistics.of_requests(*asked), expected[len(rows) :]),
    ):
        for place, named in enumerate(own):
            assert [(one.kind, one.subject) for one in found] == [(kind, subject) for kind, subject, _ in named]
            np.testing.assert_allclose([one.values[place] for one in found], [value for *_, value in named], atol=1e-12)


def test_deciles_of_popularity():
    """Item k is chosen k times, of ten; nobody has chosen the last one."""
    items = np.repeat(np.arange(1, 11), np.arange(1, 11))
    log = Log(np.ones(55, np.int64), items, np.arange(55.0), np.full(55, np.nan))
    popularity, *_ = Statistics(log).of_requests(np.ones(11, np.int64), np.arange(1, 12))
    assert popularity.values.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0]
    texts = BehaviourTexts(log, [f"film {number}" for number in range(12)], ["", ""])
    said = strings(texts, texts.of_requests(np.ones(3, np.int64), np.array([10, 1, 11])))
    assert [row[1] for row in said] == [
        "Popularity: among the top 10%",
        "Popularity: among the top 100%",
        "Popularity: nobody has chosen it yet",
    ]


@pytest.mark.parametrize(("item", "decile"), [(9, 10), (5, 5), (1, 1), (10, 0)])
def test_deciles_after_many_rows_of_one_time(item, decile):
    """A file of days: what is known on the second one was chosen on the first, item k k times."""
    items = np.append(np.repeat(np.arange(1, 10), np.arange(1, 10)), item)
    log = Log(np.ones(46, np.int64), items, np.repeat([0.0, 86400.0], [45, 1]), np.full(46, np.nan))
    popularity, *_ = Statistics(log).of_log()
    assert popularity.values.tolist() == [0] * 45 + [decile]


@pytest.mark.parametrize(("value", "level", "change"), [(1.0, 61, "higher"), (0.0, 39, "lower")])
def test_all_sentences_after_one_row(value, level, change):
    """User 1, a woman, loves or hates the comedy 1; 0.5 above the mean of nothing is divided by 1 + 5, 10 or 20."""
    texts = texts_of(Log(np.array([1]), np.array([1]), np.array([0.0]), np.array([value])))
    same, other, stranger = strings(texts, texts.of_requests(np.array([1, 4, 2]), np.array([1, 4, 3])))
    assert same == [
        "film 1",
        "Popularity: among the top 100%",
        "Times anybody chose it: 1",
        "Items this user has chosen: 1",
        "Times this user chose the same genre: 1",
        f"Rating by all users: {level}",
        f"Ratings that this user usually gives: {level}",
        f"Users of the same gender rate it {change} by 5",
        f"This user rates such items {change} by 8",
        f"Users of the same gender rate such items {change} by 2",
        "Will the user like it? Answer:",
    ]
    overall = 52 if value else 48
    assert other[1:-1] == [
        "Popularity: nobody has chosen it yet",
        "Times anybody chose it: 0",
        "Items this user has chosen: 0",
        "Times this user chose the same genre: 0",
        f"Rating by all users: {overall}",
        f"Ratings that this user usually gives: {overall}",
        "Users of the same gender rate it as others",
        "This user rates such items as others",
        f"Users of the same gender rate such items {change} by 2",
    ]
    assert stranger[-2] == "Users of the same gender rate such items as others"


def test_logged_rows_equal_requests_after_their_past():
    """The statistics of a row are those of a request to which only earlier rows are known."""
    log = random_log()
    whole = Statistics(log, [GENDER], GENRE).of_log()
    for row in np.flatnonzero(log.times > log.times[0]):
        past = log.take(np.flatnonzero(log.times < log.times[row]))
        asked = Statistics(past, [GENDER], GENRE).of_requests(log.users[row : row + 1], log.items[row : row + 1])
        for one, other in zip(whole, asked, strict=True):
            if one.kind != "popularity":  # its deciles are those of the last snapshot
                assert one.values[row] == pytest.approx(other.values[0], abs=1e-12), (one.kind, one.subject)


@pytest.mark.parametrize("cut", [7, 30, 55])
def test_later_rows_change_no_text(cut):
    """Planted leak: all that happens later is replaced by other users, items and ratings."""
    log, other = random_log(), random_log(seed=1)
    time = log.times[cut]
    past = log.times < time
    changed = Log(
        np.where(past, log.users, other.users),
        np.where(past, log.items, other.items),
        log.times,
        np.where(past, log.values, 1 - other.values),
    )
    one, two = texts_of(log), texts_of(changed)
    assert strings(one, one.of_known[past]) == strings(two, two.of_known[past])
    assert strings(one, one.of_known) != strings(two, two.of_known)
    for user in range(USERS):
        first, second = (strings(texts, texts.source(user, time).segments[None]) for texts in (one, two))
        assert first == second


def test_an_item_is_not_good_because_lenient_users_chose_it():
    """Users 1 and 2 praise all items, 3 and 4 none: items 1 and 2 differ only in who chose them."""
    rows = [(user, item, 0.9 if user < 3 else 0.3) for user in (1, 2, 3, 4) for item in (3, 4, 5, 6, 7, 8)]
    rows += [(user, 1, 0.9) for user in (1, 2)] + [(user, 2, 0.3) for user in (3, 4)]
    users, items, values = (np.array(column) for column in zip(*rows, strict=True))
    log = Log(users, items, np.arange(len(rows), dtype=float), values)
    level = next(one for one in Statistics(log).of_requests(np.array([5, 5]), np.array([1, 2])) if one.kind == "level")
    assert abs(level.values[0] - level.values[1]) < 0.12 < abs(0.9 - 0.3)


def test_without_ratings_only_counts_remain():
    log = random_log()
    plain = Log(log.users, log.items, log.times, np.full(len(log), np.nan))
    assert {one.kind for one in Statistics(plain, [GENDER], GENRE).of_log()} == {"popularity", "count"}


def test_rows_without_a_value_count_for_no_level():
    """All statistics but counts and popularity are those of a log without them; they have statistics themselves."""
    log = random_log()
    some = np.random.default_rng(1).random(len(log)) < 0.3
    holes = replace(log, values=np.where(some, np.nan, log.values))
    found, rated = (Statistics(each, [GENDER], GENRE).of_log() for each in (holes, holes.take(~some)))
    every = Statistics(log, [GENDER], GENRE).of_log()
    kinds = set()
    for one, other, counted in zip(found, rated, every, strict=True):
        assert np.isfinite(one.values).all()
        if one.kind in ("popularity", "count"):
            np.testing.assert_array_equal(one.values, counted.values)
        else:
            np.testing.assert_allclose(one.values[~some], other.values, atol=1e-12)
            kinds.add(one.kind)
    assert kinds == {"level", "difference", "taste"}
    pairs = np.arange(1, USERS), np.arange(1, USERS)
    of_holes, of_rated = (Statistics(each, [GENDER], GENRE).of_requests(*pairs) for each in (holes, holes.take(~some)))
    for one, other in zip(of_holes, of_rated, strict=True):
        assert one.kind in ("popularity", "count") or np.allclose(one.values, other.values, atol=1e-12)


def test_source_is_oldest_first_and_ends_before_the_time():
    log = Log(np.array([1, 1, 1, 2]), np.array([1, 2, 3, 4]), np.array([0.0, 3600.0, 86400.0, 5.0]), np.full(4, 1.0))
    texts = texts_of(log, behaviours=2)
    (said,) = strings(texts, texts.source(1, 86400.0).segments[None])
    assert said == ["User: user 1", "1 day ago, the user loved:", "film 1", "23 hours ago, the user loved:", "film 2"]
    (whole,) = strings(texts, texts.source(1).segments[None])
    assert whole[2::2] == ["film 2", "film 3"]
    (other,) = strings(texts, texts.source_of_history(np.array([5, 6, 7])).segments[None])
    assert other == ["User: user 0", "the user chose:", "film 6", "the user chose:", "film 7"]


def test_packs_hold_rows_of_one_user_in_order():
    log = random_log()
    packs = texts_of(log).packs(log.users, log.times, 4)
    assert sorted(np.concatenate(packs)) == list(range(len(log)))
    for pack in packs:
        assert len(pack) <= 4 and len(set(log.users[pack])) == 1
        assert (np.diff(log.times[pack]) >= 0).all()
