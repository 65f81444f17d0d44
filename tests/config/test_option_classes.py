"""Option classes of `*_args` mappings: named classes, chosen entries, parameters of functions."""

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from recbole_recfound.config.option_classes import option_classes, option_problems, options_of
from recbole_recfound.model.kernel.options import KernelOptions
from recbole_recfound.runtime.options import Options, describe, option
from recbole_recfound.runtime.registry import SCHEDULERS, TASKS


def test_a_class_by_its_path():
    assert option_classes("model.kernel.options.KernelOptions") == {"": KernelOptions}
    assert option_classes("recbole_recfound.model.kernel.options.KernelOptions") == {"": KernelOptions}
    assert option_classes("dataclasses.Field")[""].__name__ == "Field"


def test_the_entry_that_a_key_chooses():
    assert list(option_classes("scheduler", {"scheduler": "coba"})) == ["coba"]
    assert list(option_classes("scheduler", {"scheduler": "none"})) == []
    assert set(option_classes("scheduler")) == set(SCHEDULERS)
    assert option_classes("each task") == {name: task.Options for name, task in TASKS.items()}
    with pytest.raises(ValueError, match="options of seed: expected a class, a key that chooses from a registry"):
        option_classes("seed")


def test_parameters_with_a_default_are_options():
    def method(
        tensors: Sequence[float], share: float = 0.5, names: Sequence[str] = (), kind=None, on: bool = False
    ) -> None:
        """Merge.

        Args:
            tensors: what is merged.
            share: part that is
                kept.
            kind: which.
        """

    cls = options_of(method)
    assert [info.name for info in describe(cls)] == ["share", "names", "kind", "on"]
    assert [info.effect for info in describe(cls)] == ["part that is kept.", "", "which.", ""]
    assert cls.problems({"share": "x", "kind": 3, "tensors": 1, "on": 1}, "merge_args") == [
        "merge_args: share: got 'x', expected a number",
        "merge_args: unknown option tensors; known: share, names, kind, on",
        "merge_args: on: got 1, expected True or False",
    ]
    assert cls.problems({"share": 1, "names": ["a"], "kind": None, "on": True}) == []


def test_options_of_every_registered_entry_can_be_described():
    for options in ("adapter", "scheduler", "merge_method", "each task"):
        for name, cls in option_classes(options).items():
            assert all(info.name and info.expected for info in describe(cls)), name


def test_description_of_options():
    @dataclass(frozen=True)
    class Paint(Options):
        """Paint.

        Attributes:
            colour, second: which
                colours.
            layers: how often.
        """

        colour: str = option("red", choices=("red", "blue"))
        second: str = option("red")
        layers: int = option(1, minimum=1, help="Times.")

    assert [(info.default, info.expected, info.effect) for info in describe(Paint)] == [
        ("red", "one of red, blue", "which colours."),
        ("red", "text", "which colours."),
        (1, "a whole number, at least 1", "Times."),
    ]


def test_a_mapping_of_options_that_is_none():
    assert option_problems("kernel_args", {"layer": 1, "x": 2}, {}, " (a.yaml:3)") == [
        "kernel_args (a.yaml:3): layer: got 1, expected text or a list or nothing (~)",
        "kernel_args (a.yaml:3): unknown option x; known: layer, combine, stochastic, prior, bottleneck, code_size, "
        "budget",
    ]
    assert option_problems("seed", 1, {}) == []
