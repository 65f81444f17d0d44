"""`recfound info`: what a finished run is, how it was made and what it reached."""

from __future__ import annotations

from recbole_recfound.cli.words import Words

ABOUT = "Print the protocol, the table and the versions of a finished run."


def command(argv: list[str]) -> int:
    """Print a run's results; neither its weights nor its data are read.

    Args:
        argv: the words after the verb.

    Returns:
        0.

    Raises:
        ConfigError: no finished run.
        DataError: its results are damaged.
    """
    given = Words("info", ABOUT).parse_args(argv)
    from recbole_recfound.evaluation.report.table import format_table, protocol_line, task_lines
    from recbole_recfound.runtime.finished import read_results

    results = read_results(given.run)
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    print(f"{results['model']} on {results['dataset']} ({results['system']})\n{protocol_line(results['protocol'])}")
    print(format_table(results["rows"]))
    print("\n".join([*task_lines(results.get("tasks") or []), f"{results['run']['total_seconds']:.0f} s; {versions}"]))
    return 0
