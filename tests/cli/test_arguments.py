"""Words to settings."""

import pytest

from recbole_recfound.cli.arguments import parse_arguments
from recbole_recfound.errors import ConfigError


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["--seed=1"], {"seed": "1"}),
        (["--seed", "1"], {"seed": "1"}),
        (["--note=a=b"], {"note": "a=b"}),
        (["--shift", "-1"], {"shift": "-1"}),
        (["--mask_history"], {"mask_history": True}),
        (["--mask_history", "--seed=1"], {"mask_history": True, "seed": "1"}),
        (["--resume="], {"resume": ""}),
        (["--config_files=a.yaml b.yaml"], {"config_files": "a.yaml b.yaml"}),
        (["--topk", "[5, 10]"], {"topk": "[5, 10]"}),
        (["-h"], {"help": True}),
        (["--seed=1", "--seed=1"], {"seed": "1"}),
        ([], {}),
    ],
)
def test_forms(argv, expected):
    assert parse_arguments(argv) == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["seed=1"], "unexpected argument 'seed=1': options are typed --key=value"),
        (["--seed=1", "2"], "unexpected argument '2'"),
        (["-seed", "1"], "unexpected argument '-seed'"),
        (["--seed=1", "--seed=2"], "seed: specified more than once, as 1 and 2"),
        (["--"], "unexpected argument '--'"),
    ],
)
def test_words_that_are_no_options(argv, message):
    with pytest.raises(ConfigError, match=message):
        parse_arguments(argv)
