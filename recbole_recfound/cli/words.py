"""Words of a verb that asks a finished run: the run folder and options."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NoReturn

from recbole_recfound.errors import ConfigError

if TYPE_CHECKING:
    from recbole_recfound.serving.recommender import Recommender


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


def tokens(text: str) -> list[str]:
    """Return the item tokens of a text with commas.

    Args:
        text: as typed, such as `50,172`.
    """
    return [token.strip() for token in text.split(",") if token.strip()]


def item_line(token: str, text: str, score: float) -> str:
    """Return an item as one line, separated by tabs; what would steer a terminal is shown as U+FFFD.

    Args:
        token: of the item.
        text: of the item.
        score: of the item for the request.
    """
    token, text = (
        "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in each)
        for each in (token, text)
    )
    return f"{token}\t{score:.4f}\t{text}"
