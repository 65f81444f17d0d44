"""`recfound compare`: the long table, row by row."""

from __future__ import annotations

from recbole_recfound.cli.run import read_request
from recbole_recfound.errors import ConfigError
from recbole_recfound.system.defaults import DEFAULTS

USAGE = (
    "usage: recfound compare [--dataset=ml-100k] [--config_files=...] [--time_budget=SECONDS PER ROW] [--key=value ...]"
)


def command(argv: list[str]) -> int:
    """Fill the long table; finished rows are not computed again.

    Args:
        argv: the words after the verb.

    Returns:
        0.

    Raises:
        RecFoundError: wrong settings, data or backbone.
    """
    request = read_request(argv, USAGE)
    if request:
        from recbole_recfound.study.compare import compare

        model, ours = request.pop("model"), DEFAULTS["model"]
        if model != ours:
            raise ConfigError(
                f"model: got {model}, but the long table has rows of {ours}, its ablations and RecBole's models; "
                "recfound seeds compares any model with baselines"
            )
        compare(**request)
    return 0
