"""`recfound run`, the same program as `run_recfound.py`."""

from __future__ import annotations

from recbole_recfound import __version__
from recbole_recfound.cli.arguments import parse_arguments
from recbole_recfound.cli.help import help_text
from recbole_recfound.property_files import read_settings

DEFAULTS = {"model": "RecFound", "dataset": "ml-100k"}
USAGE = "usage: recfound run [--model=RecFound] [--dataset=ml-100k] [--config_files=...] [--baselines=Pop,BPR] [--key=value ...]"


def command(argv: list[str]) -> int:
    """Trains, evaluates and compares.

    Args:
        argv: the words after the verb.

    Returns:
        0.

    Raises:
        RecFoundError: what the user can mend.
    """
    settings = parse_arguments(argv)
    if settings.pop("version", False):
        print(f"recbole_recfound {__version__}")
        return 0
    asked_for_help = settings.pop("help", False)
    files = str(settings.pop("config_files", "")).split()
    in_files = {setting.key: setting.value for path in files for setting in read_settings(path)}
    names = {key: settings.pop(key, None) or in_files.get(key) or default for key, default in DEFAULTS.items()}
    if asked_for_help:
        print(help_text(USAGE, names["model"], names["dataset"]))
        return 0
    from recbole_recfound.quick_start import run_recfound

    run_recfound(**names, config_file_list=files, config_dict=settings)
    return 0
