"""`--key=value`, `--key value` and bare `--key`, as RecBole users type them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbole_recfound.config.known import known_rules
from recbole_recfound.config.schema import from_text
from recbole_recfound.config.settings import COMMAND_LINE, Settings
from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.arguments import short


def parse_arguments(argv: list[str]) -> dict[str, str | bool]:
    """Split the words of a command line into settings; the values stay text.

    Args:
        argv: `--key=value` (split at the first `=`), `--key value`, or `--key` alone, which is True.

    Returns:
        Key -> text, or True for a bare key.

    Raises:
        ConfigError: a word that belongs to no key, or a key with two different values.
    """
    given: dict[str, str | bool] = {}
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "-h":
            word = "--help"
        if not word.startswith("--") or word in ("--", "--="):
            raise ConfigError(f"unexpected argument {word!r}: options are typed --key=value or --key value")
        key, separator, value = word[2:].partition("=")
        text: str | bool = value if separator else True
        if not separator and words and not words[0].startswith("--"):
            text = words.pop(0)
        if given.get(key, text) != text:
            raise ConfigError(f"{key}: specified more than once, as {given[key]} and {text}")
        given[key] = text
    return given


def read_values(given: Mapping[str, str | bool]) -> Settings:
    """Read the text of a command line as the rule of each key says: text keys take it literally, other keys read YAML.

    Args:
        given: key -> text, or True for a bare key.

    Returns:
        Settings as Python objects; values of unknown keys stay text.
    """
    rules = known_rules()
    values: dict[str, Any] = {
        key: from_text(rules[key], text) if isinstance(text, str) and key in rules else text
        for key, text in given.items()
    }
    return Settings(values, dict.fromkeys(values, COMMAND_LINE))


def whole_number(key: str, text: str) -> int:
    """Return a whole number that is not one of RecBole's or our settings.

    Args:
        key: of the command line, for the message.
        text: as typed.

    Raises:
        ConfigError: other letters than digits.
    """
    try:
        if text.isdecimal():
            return int(text)
    except ValueError:  # more digits than Python reads
        pass
    raise ConfigError(f"{key}: got {short(text)}, expected a whole number")
