"""Choice and order of the columns of .item and .user that describe a row."""

from collections.abc import Sequence
from statistics import mean

from recbole_recfound.atomic.read import AtomicTable
from recbole_recfound.errors import ConfigError

TITLE_NAMES = ("title", "name", "headline")
LONG_TEXT_WORDS = 12


def choose_fields(table: AtomicTable, key: str, configured: Sequence[str] | None, option: str) -> list[str]:
    """Return the text columns of `table` in the order they are read out.

    Configured fields win. Otherwise the title-like column comes first, then every short text column in file order; long
    descriptions, numbers and the key itself are left out.

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
    return sorted(short, key=lambda name: not _is_title(name))


def title_field(fields: Sequence[str]) -> str | None:
    """Return the title-like one of `fields`, else the first, else None."""
    return next((name for name in fields if _is_title(name)), fields[0] if fields else None)


def readable(name: str) -> str:
    """Rewrite a column's name for a sentence: `release_year` -> `release year`."""
    return name.replace("_", " ").strip()


def _is_title(name: str) -> bool:
    return any(part in name.lower() for part in TITLE_NAMES)


def _mean_words(table: AtomicTable, name: str) -> float:
    return mean(len(value.split()) for value in table.column(name)) if table.rows else 0.0
