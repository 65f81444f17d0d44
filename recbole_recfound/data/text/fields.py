"""Choice and order of the columns of .item and .user that describe a row."""

import re
from collections.abc import Sequence
from statistics import mean

from recbole_recfound.atomic.read import AtomicTable
from recbole_recfound.errors import ConfigError

TITLE_NAMES = ("title", "name", "headline")
LONG_TEXT_WORDS = 12


def choose_fields(table: AtomicTable, key: str, configured: Sequence[str] | None, option: str) -> list[str]:
    """Return the text columns of `table` in the order they are read out.

    Configured fields win. Otherwise title-like columns come first (titles by name, then those with such a word in their
    name, as product_name, then those that end with one, as booktitle; of equal ones those that repeat their values, as
    brand_name does, last), then every short text column in file order; long descriptions, numbers and the key itself
    are left out.

    Args:
        table: the atomic file.
        key: its id column, never part of the text.
        configured: the user's choice, or None.
        option: name of the config key, for the error.

    Raises:
        ConfigError: a configured field is not in the file.
    """
    if configured:
        for name in configured:
            if name not in table.kinds:
                known = ", ".join(field for field in table.kinds if field != key)
                raise ConfigError(f"{option}: field '{name}' is not in {table.path} (it has {known})")
        return list(configured)
    texts = [name for name, kind in table.kinds.items() if name != key and kind in ("token", "token_seq")]
    short = [name for name in texts if _is_title(name) or _mean_words(table, name) <= LONG_TEXT_WORDS]
    different = {name: len(set(table.column(name))) for name in short if _is_title(name)}
    repeating = {name for name, count in different.items() if 2 * count < max(different.values())}
    return sorted(short, key=lambda name: (-_likeness(name), name in repeating))


def title_field(fields: Sequence[str]) -> str | None:
    """Return the first of the most title-like of `fields`, None where there are none."""
    return max(fields, key=_likeness, default=None)


def readable(name: str) -> str:
    """Rewrite a column's name for a sentence: `release_year` -> `release year`."""
    return name.replace("_", " ").strip()


def _likeness(name: str) -> int:
    """Return how much a name is that of a title.

    3 for a title by name, 2 for a name with such a word (`movie_title`, `productName`), 1 where a word ends with one
    (`booktitle`, but `filename` too), else 0.
    """
    words = [word.lower() for word in re.findall(r"[A-Z]*[^\W\d_A-Z]+|[A-Z]+", name)]
    if name.lower() in TITLE_NAMES:
        return 3
    return 2 if any(word in TITLE_NAMES for word in words) else int(any(word.endswith(TITLE_NAMES) for word in words))


def _is_title(name: str) -> bool:
    return _likeness(name) > 0


def _mean_words(table: AtomicTable, name: str) -> float:
    return mean(len(value.split()) for value in table.column(name)) if table.rows else 0.0
