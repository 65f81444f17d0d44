"""Approximate search of a large catalogue."""

import pytest

from recbole_recfound import load_recfound
from recbole_recfound.serving import index
from recbole_recfound.serving.request import Request


@pytest.fixture
def loaded(served_run, monkeypatch):
    """A run that is searched approximately, one list of a few items at a time."""
    pytest.importorskip("faiss")
    run = load_recfound(served_run)
    title = run.catalogue.title
    run.add_items([{"item_id": f"n{number}", title: f"film {number % 7} of {number}"} for number in range(400)])
    monkeypatch.setattr(index, "RECALL", 0.0)
    return run


def _searched(monkeypatch, loaded, ask):
    """The answers of the exact and of the approximate search."""
    exact = ask()
    monkeypatch.setattr(index, "EXACT_ITEMS", 100)
    found = ask()
    assert loaded._index is not None and loaded._index.worthwhile and loaded._index.probes == 1
    return exact, found


def test_as_many_items_as_are_asked_for(loaded, monkeypatch):
    """One list has fewer; the answer is that of the exact search then."""
    histories = [["1", "7"], ["n5"], [f"n{number}" for number in range(30)]]
    exact, found = _searched(monkeypatch, loaded, lambda: loaded.recommend_batch(histories, k=90))
    assert [len(row) for row in found] == [90] * 3
    for one, other in zip(exact, found, strict=True):
        assert [token for token, *_ in one] == [token for token, *_ in other]


def test_as_many_items_as_are_asked_for_beside_excluded_ones(loaded, monkeypatch):
    """Those that the list holds are all left out of one of the requests that are answered together."""
    near = [token for token, *_ in loaded.recommend(["n5"], k=200)]
    requests = [Request(["n5"], k=5, exclude=near), Request(["n5"], k=5)]
    exact, found = _searched(monkeypatch, loaded, lambda: loaded.recommend_each(requests))
    assert [len(row) for row in found] == [5, 5]
    assert [token for token, *_ in exact[0]] == [token for token, *_ in found[0]]


def test_all_items_that_are_allowed(loaded, monkeypatch):
    exact, found = _searched(
        monkeypatch, loaded, lambda: loaded.recommend(["n5"], k=10) and loaded.recommend(["n5"], k=10_000)
    )
    assert len(found) == len(loaded.tokens) - 2 and [token for token, *_ in found] == [token for token, *_ in exact]
