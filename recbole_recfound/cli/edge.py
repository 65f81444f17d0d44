"""`recfound edge`: items for a history by a distilled student, without torch."""

from __future__ import annotations

from importlib.util import find_spec

from recbole_recfound.cli.words import Words, item_line, item_lists, whole
from recbole_recfound.errors import ConfigError

ABOUT = "Recommend items for a history of item tokens, oldest first, with the folder that recfound distill wrote."
PACKAGES = ("onnxruntime", "tokenizers")


def command(argv: list[str]) -> int:
    """Print the best items, one line each: item token, score and text, separated by tabs.

    Args:
        argv: the words after the verb.

    Returns:
        0.

    Raises:
        ConfigError: no such folder or exit, unknown tokens, or a missing package.
        DataError: files are missing or damaged.
    """
    words = Words("edge", ABOUT, "folder that recfound distill wrote")
    words.add_items(history_required=True)
    words.add_argument("--k", type=whole, default=10, help="number of items (default: 10)")
    words.add_argument("--exit", type=whole, help="layer that answers (default: the last exit)")
    words.add_argument("--threads", type=whole, default=0, help="threads of onnxruntime (default: all cores)")
    given = words.parse_args(argv)
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise ConfigError(f"edge needs the packages {' and '.join(PACKAGES)}: pip install {' '.join(missing)}")
    from recbole_recfound.edge.answer import EdgeRecommender

    student = EdgeRecommender(given.run, given.exit, given.threads)
    for token, text, score in student.recommend(**item_lists(given, student.tokens), k=given.k):
        print(item_line(token, text, score))
    return 0
