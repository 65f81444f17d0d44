"""`--key=value`, `--key value` and bare `--key`, as RecBole users type them."""

from __future__ import annotations

from recbole_recfound.errors import ConfigError


def parse_arguments(argv: list[str]) -> dict[str, str | bool]:
    """Splits the words of a command line into settings; the values stay text.

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
            raise ConfigError(f"{key}: given twice, as {given[key]} and {text}")
        given[key] = text
    return given
