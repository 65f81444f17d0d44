"""Options: types, bounds, choices and messages."""

from dataclasses import dataclass

import pytest

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.options import Options, option, parameters_of


@dataclass(frozen=True)
class Paint(Options):
    colour: str = option("red", choices=("red", "blue"))
    layers: int = option(2, minimum=1, maximum=5)
    gloss: float = option(0.5, minimum=0)
    dry: bool = option(True)


def test_values_and_defaults():
    assert Paint.of({}, "paint") == Paint() == Paint("red", 2, 0.5, True)
    assert Paint.of({"gloss": 1, "layers": 5}, "paint").gloss == 1


def test_all_errors_in_one_message():
    with pytest.raises(ConfigError) as error:
        Paint.of({"colour": "green", "layers": True, "gloss": -0.5, "dry": "yes"}, "paint")
    assert error.value.problems == [
        "paint: colour: got 'green', expected one of red, blue",
        "paint: layers: got True, expected a whole number, at least 1, at most 5",
        "paint: gloss: got -0.5, expected a number, at least 0",
        "paint: dry: got 'yes', expected True or False",
    ]
    with pytest.raises(ConfigError, match="layers: got 6, expected a whole number, at least 1, at most 5"):
        Paint(layers=6)
    assert Paint.problems({"color": "red", "x": 1}, "paint") == [
        "paint: unknown option color; did you mean colour?",
        "paint: unknown option x; known: colour, layers, gloss, dry",
    ]
    assert Paint.problems(["red"], "paint") == ["paint: got ['red'], expected a mapping of options"]


@dataclass(frozen=True)
class Sizes(Options):
    """Unions, lists and exclusive bounds."""

    width: int | None = option(None, minimum=1)
    share: float = option(0.5, above=0, below=1)
    betas: float | list[float] = option(1e-4, minimum=0)
    form: str = option("a", choices=lambda: ("a", "b"))


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"width": None, "share": 0.1, "betas": [0, 1]}, None),
        ({"width": 0}, "width: got 0, expected a whole number or nothing (~), at least 1"),
        ({"share": 1}, "share: got 1, expected a number, above 0, below 1"),
        ({"betas": [1, -1]}, "betas: got [1, -1], expected a number or a list, at least 0"),
        ({"betas": ["x"]}, "betas: got ['x'], expected a number or a list, at least 0"),
        ({"betas": float("inf")}, "betas: got inf, expected a number or a list, at least 0"),
        ({"share": None}, "share: got None, expected a number, above 0, below 1"),
        ({"form": "c"}, "form: got 'c', expected one of a, b"),
    ],
)
def test_bounds(values, problem):
    assert Sizes.problems(values) == ([problem] if problem else [])


def test_parameters():
    def function(first, second=2, *more, third=3, **options): ...

    assert list(parameters_of(function)) == ["first", "second", "third"] and parameters_of(function)["third"] == 3
    assert list(parameters_of(Paint)) == ["colour", "layers", "gloss", "dry"]


@dataclass(frozen=True)
class Listed(Options):
    """Attributes: forms: of which some are chosen."""

    forms: list[str] = option(["a"], choices=("a", "b"))


@pytest.mark.parametrize("wrong", [[], ["a", "c"], ["a", "b", "a"], "c"])
def test_choices_of_a_list_are_those_of_its_elements(wrong):
    assert Listed.of({"forms": ["b", "a"]}, "listed").forms == ["b", "a"]
    assert Listed.problems({"forms": wrong}, "listed") == [
        f"listed: forms: got {wrong!r}, expected a list of different names among a, b"
    ]


def test_a_list_of_choices_may_be_empty_where_that_means_something():
    @dataclass(frozen=True)
    class Some(Options):
        forms: list[str] = option(["a"], choices=("a", "b"), empty=True)

    assert Some.of({"forms": []}, "some").forms == []
    assert Some.problems({"forms": ["b", "b"]}) == [
        "forms: got ['b', 'b'], expected a list of different names among a, b or []"
    ]
