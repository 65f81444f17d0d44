"""`--help`, generated from the comments of the YAML files: every option with its default and its effect."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import yaml

from recbole_recfound.config.models import model_file
from recbole_recfound.config.property_files import Setting, read_settings
from recbole_recfound.runtime.locations import properties_dir, recbole_dir
from recbole_recfound.system.defaults import DEFAULTS

ON_THE_COMMAND_LINE = [
    (
        "model",
        DEFAULTS["model"],
        "The model: one of this package (properties/model) or any of RecBole's. With --help: whose options are shown.",
    ),
    (
        "dataset",
        DEFAULTS["dataset"],
        "The data set: its folder below data_path, with RecBole's atomic files. ml-100k comes with RecBole; none: only "
        "task_files.",
    ),
    ("config_files", "", 'Your YAML files, weakest first: "a.yaml b.yaml".'),
    (
        "list_layers",
        "",
        "Print the sub-modules of --base_checkpoint, where kernels can be attached, and load no data (run).",
    ),
    (
        "dry_run",
        "",
        "Print an estimate of memory and time, from the backbone's configuration, and load nothing (run).",
    ),
    ("help", "", "This text."),
    ("version", "", "The version."),
]


def help_text(usage: str, model: str, dataset: str) -> str:
    """Return every option that a run of this model on this data set knows.

    Args:
        usage: the first line.
        model: the model whose own options are shown.
        dataset: the data set whose defaults are shown.
    """
    ours, theirs = properties_dir(), recbole_dir() / "properties"
    sections = [
        ("One protocol for all rows, and the run", ours / "overall.yaml"),
        (f"{model}", model_file(model) or ours / "model" / f"{model}.yaml"),
        (f"{model} (RecBole)", theirs / "model" / f"{model}.yaml"),
        (f"Data set {dataset}", ours / "dataset" / f"{dataset}.yaml"),
        ("RecBole: run, training, evaluation", theirs / "overall.yaml"),
        ("RecBole: data", theirs / "dataset" / "sample.yaml"),
    ]
    lines = [usage, "", "Options are typed --key=value or --key value; a bare --key is True.", "", "Command line"]
    for key, default, effect in ON_THE_COMMAND_LINE:
        lines += _option(key, default or None, effect)
    shown: set[str] = set()
    for title, path in sections:
        settings = [setting for setting in _read(path) if setting.key not in shown]
        shown.update(setting.key for setting in settings)
        lines += ["", title] if settings else []
        for setting in settings:
            lines += _option(setting.key, setting.value, setting.effect, setting.hint if ours in path.parents else "")
    return "\n".join(lines)


def _read(path: Path) -> list[Setting]:
    return read_settings(path) if path.is_file() else []


def _option(key: str, default: Any, effect: str, hint: str = "") -> list[str]:
    shown = "" if default is None else f"={shown_default(default)}"
    allowed = f"  ({hint})" if hint else ""
    return [
        f"  --{key}{shown}{allowed}",
        *textwrap.wrap(effect, width=110, initial_indent=" " * 6, subsequent_indent=" " * 6),
    ]


def shown_default(value: Any) -> str:
    """Return a default on one line, in the form of the command line; "" for an empty value."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.encode("unicode_escape").decode() or "''"
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False)
    return text.removesuffix("\n").removesuffix("...").strip()
