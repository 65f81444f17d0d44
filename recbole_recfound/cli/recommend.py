"""`recfound recommend`: items for a history of tokens or for a known user."""

from __future__ import annotations

from recbole_recfound.cli.words import Words, item_line, item_lists, ranking, whole
from recbole_recfound.errors import ConfigError

ABOUT = "Recommend items for a history of item tokens, oldest first, for a known user, or for a text."


def command(argv: list[str]) -> int:
    """Print the best items, one line each: item token, score and text, separated by tabs.

    Args:
        argv: the words after the verb.

    Returns:
        0.

    Raises:
        ConfigError: no such run, wrong words or unknown tokens.
        DataError: data or files are missing or damaged.
    """
    words = Words("recommend", ABOUT)
    words.add_items(history_required=False)
    words.add_argument("--user", help="token of a known user, instead of a history")
    words.add_argument("--query", help="free text, instead of a history, for a run trained on Q2I")
    words.add_argument("--k", type=whole, default=10, help="number of items (default: 10)")
    words.add_argument("--domain", help="the user's domain, for a run with domains")
    words.add_task()
    words.add_loading()
    given = words.parse_args(argv)
    if sum(one is not None for one in (given.history, given.user, given.query)) != 1:
        raise ConfigError("recommend: give either --history=TOKENS, --user=TOKEN or --query=TEXT")
    run = ranking(given)
    lists = item_lists(given, run.item_ids)
    found = run.recommend(**lists, user=given.user, query=given.query, k=given.k, domains=given.domain)
    for token, text, score in found:
        print(item_line(token, text, score))
    return 0
