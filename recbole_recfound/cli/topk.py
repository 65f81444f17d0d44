"""`recfound topk`: the best items of all known users of a run, as a file."""

from __future__ import annotations

from recbole_recfound.cli.words import Words, ranking, whole

ABOUT = "Write the best items of every known user as CSV or Parquet: user, rank, item, score."


def command(argv: list[str]) -> int:
    """Write the best items of all users.

    Args:
        argv: the words after the verb.

    Returns:
        0.

    Raises:
        ConfigError: no such run, or one whose users are not known.
        DataError: data or files are missing or damaged.
    """
    words = Words("topk", ABOUT)
    words.add_argument("--out", required=True, help="file to write, ending in .csv or .parquet")
    words.add_argument("--k", type=whole, default=10, help="items for each user (default: 10)")
    words.add_task()
    words.add_loading()
    given = words.parse_args(argv)
    from recbole_recfound.serving.topk import check_path, write_topk

    check_path(given.out)
    count = write_topk(ranking(given), given.out, given.k)
    print(f"{given.out}: the {given.k} best items of {count:,} users")
    return 0
