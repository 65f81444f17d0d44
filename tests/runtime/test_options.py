"""Options: types, bounds, choices and messages."""

from dataclasses import dataclass

import pytest

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.options import Options, option
from recbole_recfound.runtime.registry import parameters_of


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
    assert str(error.value) == (
        "paint: colour: got 'green', expected one of red, blue; "
        "paint: layers: got True, expected a whole number, at least 1, at most 5; "
        "paint: gloss: got -0.5, expected a number, at least 0; paint: dry: got 'yes', expected True or False"
    )
    with pytest.raises(ConfigError, match="layers: got 6, expected a whole number, at least 1, at most 5"):
        Paint(layers=6)
    with pytest.raises(
        ConfigError, match=r"unknown option color; did you mean colour\?; paint: unknown option x; known: "
    ):
        Paint.of({"color": "red", "x": 1}, "paint")


def test_parameters():
    def function(first, second=2, *more, third=3, **options): ...

    assert list(parameters_of(function)) == ["first", "second", "third"] and parameters_of(function)["third"] == 3
    assert list(parameters_of(Paint)) == ["colour", "layers", "gloss", "dry"]
