"""`recfound seeds`: one run per seed, means and paired differences."""

from __future__ import annotations

from recbole_recfound.cli.arguments import whole_number
from recbole_recfound.cli.run import read_request

USAGE = (
    "usage: recfound seeds --seeds=2020,2021,2022 [--model=NAME] [--dataset=NAME] [--config_files=...] "
    "[--key=value ...]"
)


def command(argv: list[str]) -> int:
    """Run every seed; finished seeds are not run again.

    Args:
        argv: the words after the verb.

    Returns:
        0.

    Raises:
        RecFoundError: wrong settings, data or backbone.
    """
    request = read_request(argv, USAGE)
    if request:
        text = str(request["config_dict"].pop("seeds", ""))
        words = text.split(",") if text else []
        seeds = [whole_number("seeds", word.strip()) for word in words]
        from recbole_recfound.study.seeds import run_seeds

        run_seeds(seeds, **request)
    return 0
