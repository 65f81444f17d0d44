"""What the options of a distillation refuse, and the weights of exits."""

import pytest

from recbole_recfound.edge.options import DistilOptions
from recbole_recfound.errors import ConfigError


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"exits": [1, 2, 5]}, "exits: got 5, beyond the 4 layers"),
        ({"exits": [2, 2, 4]}, "exits: got 2, 2, 4, expected different layers"),
        ({"exits": []}, "exits: got none"),
        ({"exits": [1, 2]}, "layers above it answer nothing: layers: 2"),
        ({"exits": [0, 4]}, "exits"),
        ({"sparsity": 1.0}, "sparsity: got 1.0"),
        ({"sparsity": -0.1}, "sparsity: got -0.1"),
        ({"width": 48}, "width: got 48, expected a multiple of 32"),
        ({"exit_weights": "equal"}, "exit_weights"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": float("inf")}, "seconds: got inf, expected a number of seconds, or steps"),
        ({"seconds": float("nan"), "steps": 2}, "seconds: got nan, expected a number, above 0"),
        ({"layers": 0}, "layers"),
        ({"seed": 1 << 32}, "seed: got 4294967296, expected a whole number, at least 0, at most 4294967295"),
    ],
)
def test_refusals(wrong, words):
    with pytest.raises(ConfigError, match=words):
        DistilOptions.of(wrong, "distill")


@pytest.mark.parametrize(
    ("layers", "exits"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (4, [1, 2, 4]), (6, [1, 2, 4, 6])]
)
def test_exits_by_default(layers, exits):
    assert DistilOptions(layers=layers).exit_layers == exits


def test_steps_can_end_a_training_without_a_limit_of_time():
    assert DistilOptions(seconds=float("inf"), steps=3).steps == 3


def test_weights_of_exits():
    assert DistilOptions().weights == pytest.approx([2 * k / 20 for k in (1, 2, 4)])
    assert DistilOptions(exit_weights="printed").weights == pytest.approx([2 / 2, 2 / 3, 2 / 5])
