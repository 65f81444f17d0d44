"""YAML files of settings, read with the line and the comment of each key."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.locations import properties_dir, recbole_dir


class Loader(yaml.SafeLoader):
    """Safe YAML loader that reads 1e-3 as a number, as RecBole's loader does (YAML 1.1 reads it as text)."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)|[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?)$"
    ),
    list("-+0123456789."),
)


@dataclass(frozen=True)
class Setting:
    """One top-level key of a YAML file.

    Attributes:
        key: name of the setting.
        value: its value.
        file, line: where it stands.
        hint: text between the brackets at the start of its comment; see `hint.py`.
        effect: the rest of its comment.
    """

    key: str
    value: Any
    file: Path
    line: int
    hint: str = ""
    effect: str = ""


def defaults_beside_recbole(model: str) -> dict[str, Any]:
    """Return the defaults that RecBole's own `Config` needs for one of our models.

    Args:
        model: name of the model.

    Returns:
        The model's file, and the keys of our `overall.yaml` that RecBole does not define.
    """
    theirs = recbole_dir() / "properties"
    files = ("overall.yaml", "dataset/sample.yaml")
    defined = {setting.key for file in files for setting in read_settings(theirs / file)}
    ours = {s.key: s.value for s in read_settings(properties_dir() / "overall.yaml") if s.key not in defined}
    path = properties_dir() / "model" / f"{model}.yaml"
    return ours | {s.key: s.value for s in read_settings(path)} if path.is_file() else ours


def parse_text(text: str) -> Any:
    """Read one YAML value without evaluating it. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=Loader)


def read_settings(path: str | Path) -> list[Setting]:
    """Read a YAML file of settings.

    Args:
        path: a YAML file whose top level maps keys to values.

    Returns:
        One `Setting` for each key, in the order of the file.

    Raises:
        ConfigError: the file is missing, is not YAML, is not a mapping, or has a key twice; names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"config file {path} does not exist")
    try:
        text = path.read_text(encoding="utf-8")
        loader = Loader(text)
    except (UnicodeDecodeError, yaml.reader.ReaderError) as error:
        place = error.start if isinstance(error, UnicodeDecodeError) else error.position
        line = path.read_bytes()[:place].count(b"\n") + 1
        raise ConfigError(f"{path}:{line}: not UTF-8 text: {error.reason}") from None
    try:
        node = loader.get_single_node()
        if node is None:
            return []
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}:{node.start_mark.line + 1}: expected `key: value` lines")
        lines = text.splitlines()
        settings = [
            Setting(
                str(key.value),
                loader.construct_object(value, deep=True),
                path,
                key.start_mark.line + 1,
                *_comment(lines, key),
            )
            for key, value in node.value
        ]
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: not valid YAML: {error.problem}") from error
    finally:
        loader.dispose()
    _refuse_doubles(settings)
    return settings


def _refuse_doubles(settings: list[Setting]) -> None:
    first: dict[str, int] = {}
    problems = []
    for setting in settings:
        if setting.key in first:
            where = f"{setting.file}:{setting.line}"
            problems.append(f"{setting.key} ({where}): specified more than once, first in line {first[setting.key]}")
        first.setdefault(setting.key, setting.line)
    if problems:
        raise ConfigError(problems)


def _comment(lines: list[str], key: yaml.Node) -> tuple[str, str]:
    """Return the comment after a key and its indented continuation lines, as (type, effect)."""
    start = key.start_mark.line
    trailing = re.search(r"\s#\s(.*)$", lines[start])
    words = [trailing.group(1).strip()] if trailing else []
    for line in lines[start + 1 :]:
        continued = re.match(r"\s+#\s?(.*)$", line)
        if continued is None or not words:
            break
        words.append(continued.group(1).strip())
    comment = " ".join(words)
    match = re.match(r"\(([^)]*)\)\s*", comment)
    return (match[1], comment[match.end() :]) if match else ("", comment)
