"""Which column of items forms categories."""

import pytest

from recbole_recfound.data.behaviour.read import _category
from recbole_recfound.data.text.catalogue import Catalogue
from recbole_recfound.errors import ConfigError


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
