"""Words of a verb that asks a finished run: the run folder and options."""

from __future__ import annotations

import argparse
import re
import unicodedata
from collections.abc import Container
from typing import TYPE_CHECKING, Any, NoReturn

from recbole_recfound.errors import ConfigError

if TYPE_CHECKING:
    from recbole_recfound.serving.recommender import Recommender

FIELD = re.compile(r'\s*(?:"(?P<quoted>(?:[^"]|"")*)"|(?P<plain>[^,]*?))\s*(?:,|\Z)')
"""A token of a list, in quotes as in CSV where it has a comma, or blanks at its ends."""


class Words(argparse.ArgumentParser):
    """Parser whose mistakes are errors of this package: one line, exit code 2.

    Args:
        verb: of the command line.
        about: what it does.
        folder: what it reads.
    """

    def __init__(self, verb: str, about: str, folder: str = "folder of a finished run") -> None:
        super().__init__(f"recfound {verb}", description=about, allow_abbrev=False)
        self.add_argument("run", metavar="RUN", help=folder)

    def error(self, message: str) -> NoReturn:
        """Raise the mistake."""
        raise ConfigError(f"{self.prog}: {message}; {self.format_usage().strip()}")

    def add_loading(self) -> None:
        """Add the options with which `load` loads the run."""
        self.add_argument("--backbone", help="name or folder of the backbone (default: that of the run)")
        self.add_argument("--data_path", help="where data sets lie (default: where they were for the run)")
        self.add_argument(
            "--cold_items", action="store_true", help="recommend items of .item without interactions too, by their text"
        )

    def add_items(self, history_required: bool) -> None:
        """Add the options that list item tokens, which `item_lists` reads.

        Args:
            history_required: whether there is nothing else to ask by.
        """
        listed = 'item tokens with commas (in quotes where a token has a comma: 50,"a,b")'
        self.add_argument("--history", required=history_required, help=f"{listed}, oldest first")
        self.add_argument("--exclude", default="", help="item tokens that are left out, listed as those of --history")
        self.add_argument("--candidates", help="item tokens to choose from, listed so too (default: all items)")

    def add_task(self) -> None:
        """Add the option with which `ranking` chooses a task."""
        self.add_argument("--task", help="task that ranks, for a run with several (default: the first)")


def ranking(given: argparse.Namespace) -> Recommender:
    """Load the run that a verb was given, with the task that ranks.

    Args:
        given: words of a parser with `add_loading` and `add_task`.

    Raises:
        ConfigError: no such run, or no such task.
        DataError: data or files are missing or damaged.
    """
    run = load(given)
    return run if given.task is None else run.of_task(given.task)


def load(given: argparse.Namespace) -> Recommender:
    """Load the run that a verb was given.

    Args:
        given: words of a parser with `add_loading`.

    Raises:
        ConfigError: no such run.
        DataError: data or files are missing or damaged.
    """
    from transformers.utils import logging

    from recbole_recfound.quick_start import load_recfound

    logging.disable_progress_bar()
    run = load_recfound(given.run, given.backbone, given.data_path)
    if given.cold_items:
        run.add_items([{run.item_field: token} for token in run.cold_items])
    return run


def whole(text: str) -> int:
    """Return a number of items.

    Args:
        text: as typed.
    """
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"got {text}, expected a whole number of at least 1")
    return int(text)


def item_lists(given: argparse.Namespace, known: Container[str]) -> dict[str, Any]:
    """Return the lists of item tokens that a verb was given, by name; None for one that was not.

    Args:
        given: words of a parser with `add_items`.
        known: tokens of all items.
    """
    texts = {name: getattr(given, name) for name in ("history", "exclude", "candidates")}
    return {name: None if text is None else tokens(text, known) for name, text in texts.items()}


def tokens(text: str, known: Container[str]) -> list[str]:
    """Return the item tokens of a text with commas.

    Args:
        text: as typed, such as `50,172`; a token with a comma stands in quotes, as in CSV: `50,"a,b"`.
        known: tokens of all items; a text that is one of them is that item, whatever commas it has.
    """
    if text in known:
        return [text]
    fields = FIELD.findall(text)
    return [quoted.replace('""', '"') or plain for quoted, plain in fields if quoted or plain]


def item_line(token: str, text: str, score: float) -> str:
    """Return an item as one line, separated by tabs; letters that would steer a terminal are shown as U+FFFD.

    Args:
        token: of the item.
        text: of the item.
        score: of the item for the request.
    """
    token, text = ("".join(map(_shown, each)) for each in (token, text))
    return f"{token}\t{score:.4f}\t{text}"


def _shown(letter: str) -> str:
    """Return a letter as it is printed; `isprintable` also refuses all blanks but one, such as U+3000 and U+00A0."""
    printable = letter.isprintable() or unicodedata.category(letter) == "Zs"
    return letter if printable else "\N{REPLACEMENT CHARACTER}"
