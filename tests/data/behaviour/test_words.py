"""Sentences about statistics and ages, word by word."""

import numpy as np
import pytest

from recbole_recfound.data.behaviour.statistics import Statistic
from recbole_recfound.data.behaviour.words import age_phrase, ages, phrase

HOUR, DAY = 3600, 86400


@pytest.mark.parametrize(
    ("kind", "subject", "value", "sentence"),
    [
        ("popularity", "item", 0, "Popularity: nobody has chosen it yet"),
        ("popularity", "item", 1, "Popularity: among the top 100%"),
        ("popularity", "item", 7, "Popularity: among the top 40%"),
        ("popularity", "item", 10, "Popularity: among the top 10%"),
        ("count", "item", 0, "Times anybody chose it: 0"),
        ("count", "item", 1, "Times anybody chose it: 1"),
        ("count", "user", 3, "Items this user has chosen: at least 2"),
        ("count", "user", 4, "Items this user has chosen: at least 4"),
        ("count", "genre", 1000, "Times this user chose the same genre: at least 512"),
        ("level", "item", 0.734, "Rating by all users: 73"),
        ("level", "item", -0.1, "Rating by all users: 0"),
        ("level", "user", 0.736, "Ratings that this user usually gives: 74"),
        ("level", "user", 1.2, "Ratings that this user usually gives: 100"),
        ("difference", "age", 0.004, "Users of the same age rate it as others"),
        ("difference", "age", 0.06, "Users of the same age rate it higher by 6"),
        ("difference", "age", -0.06, "Users of the same age rate it lower by 6"),
        ("taste", "user", 0.3, "This user rates such items higher by 25"),
        ("taste", "user", -0.02, "This user rates such items lower by 2"),
        ("taste", "gender", -0.3, "Users of the same gender rate such items lower by 25"),
    ],
)
def test_the_sentence_of_a_statistic(kind, subject, value, sentence):
    (code,), words = phrase(Statistic(kind, subject, np.array([value])))
    assert words(int(code)) == sentence


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (299, "just now"),
        (300, "5 minutes ago"),
        (HOUR - 1, "55 minutes ago"),
        (HOUR, "1 hour ago"),
        (DAY - 1, "23 hours ago"),
        (DAY, "1 day ago"),
        (30 * DAY, "1 month ago"),
        (364 * DAY, "12 months ago"),
        (365 * DAY, "1 year ago"),
        (730 * DAY, "2 years ago"),
    ],
)
def test_how_long_ago(seconds, words):
    assert age_phrase(int(ages(np.array([seconds]))[0])) == words
