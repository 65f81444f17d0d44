"""`recfound evaluate`: what a finished run reaches on the test part of its own data or of others."""

from __future__ import annotations

from recbole_recfound.cli.words import Words, ranking

ABOUT = "Score a finished run on the test part of a data set, split and masked by the settings of the run."


def command(argv: list[str]) -> int:
    """Print the protocol and the metrics.

    Args:
        argv: the words after the verb.

    Returns:
        0.

    Raises:
        ConfigError: no such run, or one that cannot be scored on these data.
        DataError: data or files are missing or damaged.
    """
    words = Words("evaluate", ABOUT)
    words.add_argument("--dataset", help="name of the data set (default: that of the run)")
    words.add_task()
    words.add_loading()
    given = words.parse_args(argv)
    from recbole_recfound.evaluation.report.table import protocol_line

    found = ranking(given).evaluate(given.dataset, given.data_path)
    print(protocol_line(found.protocol))
    if found.new_items:
        print(f"{found.new_items:,} of these items are new to the run and ranked by their text alone")
    print("\n".join(f"{name:<14}{value:.4f}" for name, value in found.metrics.items()))
    return 0
