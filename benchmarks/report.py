"""What every benchmark does with its ratios."""

import argparse
import json
import platform
from pathlib import Path
from typing import Any

import torch


def write_report(path: Path, ratios: dict[str, float], options: argparse.Namespace, **more: Any) -> None:
    """Write ratios as JSON, with the settings and versions they belong to.

    Args:
        path: the file.
        ratios: by name.
        options: of the command line.
        more: further entries, such as the seconds behind the ratios.
    """
    settings = {name: str(value) for name, value in vars(options).items() if name != "json"}
    versions = {"torch": torch.__version__, "python": platform.python_version()}
    path.write_text(json.dumps({"ratios": ratios, **more, "settings": settings, "versions": versions}, indent=2) + "\n")
