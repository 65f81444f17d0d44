"""Replacing an expression inside a function."""

import functools

import pytest

from recbole_recfound.compat.rewriting import PlaceNotFound, rewrite


def greet(name):
    """Says hello."""
    return "hello " + name + "!"


class Parent:
    def answer(self):
        return 1


class Child(Parent):
    def answer(self):
        return super().answer() + 1


def _loud(function):
    @functools.wraps(function)
    def wrapped(*args):
        return function(*args).upper()

    return wrapped


@_loud
def decorated(name):
    return "hello " + name


def test_all_replacements_of_one_call_hold_and_the_function_stays_the_same_object():
    before = greet
    rewrite(greet, ('"hello "', '"good day "', 1), ('"!"', '"."', 1))
    assert greet is before and greet("Ada") == "good day Ada." and greet.__doc__ == "Says hello."


def test_super_still_finds_the_class():
    rewrite(Child.answer, (" + 1", " + 10", 1))
    assert Child().answer() == 11 and Child.answer.__qualname__ == "Child.answer"


def test_below_decorators():
    rewrite(decorated, ("hello", "good day", 1))
    assert decorated("Ada") == "GOOD DAY ADA"


def test_text_that_is_not_there_as_often_is_refused_and_nothing_changes():
    with pytest.raises(PlaceNotFound, match="found 1 times instead of 2"):
        rewrite(Parent.answer, ("return 1", "return 2", 1), ("return", "return", 2))
    assert Parent().answer() == 1


def test_tracebacks_keep_the_line():
    line = greet.__code__.co_firstlineno
    rewrite(greet, ("name", "name", 2))
    assert greet.__code__.co_firstlineno == line and greet.__code__.co_filename == __file__
