"""Words of a verb that asks a finished run: the run folder and options."""

from __future__ import annotations

import argparse
from typing import NoReturn

from recbole_recfound.errors import ConfigError


class Words(argparse.ArgumentParser):
    """Parser whose mistakes are errors of this package: one line, exit code 2.

    Args:
        verb: of the command line.
        about: what it does.
    """

    def __init__(self, verb: str, about: str) -> None:
        super().__init__(f"recfound {verb}", description=about, allow_abbrev=False)
        self.add_argument("run", metavar="RUN", help="folder of a finished run")

    def error(self, message: str) -> NoReturn:
        """Raise the mistake."""
        raise ConfigError(f"{self.prog}: {message}; {self.format_usage().strip()}")

    def add_loading(self) -> None:
        """Add the options of `load_recfound`."""
        self.add_argument("--backbone", help="name or folder of the backbone (default: that of the run)")
        self.add_argument("--data_path", help="where data sets lie (default: where they were for the run)")


def tokens(text: str) -> list[str]:
    """Return the item tokens of a text with commas.

    Args:
        text: as typed, such as `50,172`.
    """
    return [token.strip() for token in text.split(",") if token.strip()]
