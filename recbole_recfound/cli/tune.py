"""`recfound tune`: a search for settings by validation."""

from __future__ import annotations

from recbole_recfound.cli.arguments import whole_number
from recbole_recfound.cli.run import read_request
from recbole_recfound.errors import ConfigError

USAGE = (
    "usage: recfound tune --params=FILE [--trials=20] [--model=NAME] [--dataset=NAME] [--config_files=...] "
    "[--key=value ...]\n\nFILE has RecBole's syntax, one line a setting: learning_rate loguniform -8,-4 | "
    "dropout choice [0.2,0.5] | layers quniform 1,4,1"
)


def command(argv: list[str]) -> int:
    """Search; finished trials are not run again.

    Args:
        argv: the words after the verb.

    Returns:
        0.

    Raises:
        RecFoundError: a wrong file, wrong settings, data or backbone.
    """
    request = read_request(argv, USAGE)
    if request:
        settings = request["config_dict"]
        params, trials = settings.pop("params", None), str(settings.pop("trials", 20))
        if not params:
            raise ConfigError("tune: name the file of the search space: --params=FILE")
        count = whole_number("trials", trials)
        from recbole_recfound.study.tune import tune

        tune(params, count, **request)
    return 0
