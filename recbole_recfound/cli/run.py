"""`recfound run`, the same program as `run_recfound.py`."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from recbole_recfound import __version__
from recbole_recfound.cli.arguments import parse_arguments, read_values
from recbole_recfound.cli.help import help_text
from recbole_recfound.config.property_files import read_settings
from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.ranks import world
from recbole_recfound.system.defaults import DEFAULTS

USAGE = (
    "usage: recfound run [--model=NAME] [--dataset=NAME] [--config_files=...] [--baselines=Pop,BPR] [--key=value ...]"
)


def command(argv: list[str]) -> int:
    """Train, evaluate and compare.

    Args:
        argv: the words after the verb.

    Returns:
        0.

    Raises:
        RecFoundError: wrong settings, data or backbone.
    """
    request = read_request(argv, USAGE)
    if request and request["config_dict"].pop("list_layers", False):
        from recbole_recfound.system.iak.layers import list_layers
        from recbole_recfound.system.request import Request

        print(list_layers(Request.of(**request)))
    elif request and request["config_dict"].pop("dry_run", False):
        from recbole_recfound.system.recfound.estimate import dry_run
        from recbole_recfound.system.request import Request

        print(dry_run(Request.of(**request)))
    elif request:
        from recbole_recfound.quick_start import run_recfound

        run_recfound(**request)
        if world() > 1:
            from recbole_recfound.runtime.exchange import end

            end()
    return 0


def read_request(argv: list[str], usage: str) -> dict[str, Any] | None:
    """Read the request of a verb, or answer `--help` and `--version`.

    Args:
        argv: the words after the verb.
        usage: first line of the help text.

    Returns:
        `model`, `dataset`, `config_file_list` and `config_dict` (Python objects), or None when there is nothing to run.
    """
    settings = parse_arguments(argv)
    if settings.pop("version", False):
        print(f"recbole_recfound {__version__}")
        return None
    asked_for_help = settings.pop("help", False)
    files = str(settings.pop("config_files", "")).split()
    in_files = _names_in(files)
    names: dict[str, Any] = {key: settings.pop(key, in_files.get(key, default)) for key, default in DEFAULTS.items()}
    if asked_for_help:
        print(help_text(usage, names["model"], names["dataset"]))
        return None
    return {**names, "config_file_list": files, "config_dict": read_values(settings)}


def _names_in(paths: list[str]) -> dict[str, Any]:
    """Return the model and data set that YAML files name; errors in files are reported later."""
    names = {}
    for path in paths:
        with suppress(ConfigError):
            names.update({setting.key: setting.value for setting in read_settings(path) if setting.key in DEFAULTS})
    return names
