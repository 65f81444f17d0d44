"""Plain English in everything that is read: messages, docstrings, comments and the comments of YAML files."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest
import yaml

import recbole_recfound
from recbole_recfound.runtime.locations import properties_dir

PACKAGE = Path(recbole_recfound.__file__).parent
FORBIDDEN = re.compile(r"\b(for want of|goes on|so many|dear|anew|mend|told|held to)\b", re.IGNORECASE)


def _strings(source: str) -> list[tuple[int, str]]:
    """Return line and text of messages and docstrings: string constants with a space, and fixed parts of f-strings.

    Messages reach the user by many ways (exceptions, prints, logs, notes, tables of problems), all of them with spaces;
    keys and names have none.
    """
    return [
        (node.lineno, node.value)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"\s", node.value)
    ]


def _comments(source: str) -> list[tuple[int, str]]:
    """Return the comments of a Python module."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


def _yaml_comments(source: str) -> list[tuple[int, str]]:
    """Return the comments of a YAML file; a `#` inside a scalar begins none."""
    scalars = [
        range(token.start_mark.index, token.end_mark.index)
        for token in yaml.scan(source)
        if isinstance(token, yaml.ScalarToken)
    ]
    found: dict[int, str] = {}
    for mark in re.finditer(r"(?:^|(?<=\s))#", source, re.MULTILINE):
        if not any(mark.start() in scalar for scalar in scalars):
            found.setdefault(source.count("\n", 0, mark.start()) + 1, source[mark.start() :].partition("\n")[0])
    return list(found.items())


def _faults(path: Path, texts: list[tuple[int, str]]) -> list[str]:
    return [f"{path}:{line}: '{hit[0]}' in: {text}" for line, text in texts for hit in FORBIDDEN.finditer(text)]


@pytest.mark.parametrize("room", sorted(path.name for path in PACKAGE.iterdir() if path.suffix in ("", ".py")))
def test_messages_docstrings_and_comments_of_a_room(room):
    path = PACKAGE / room
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    sources = {file: file.read_text(encoding="utf-8") for file in files}
    faults = [fault for file, text in sources.items() for fault in _faults(file, _strings(text) + _comments(text))]
    assert not faults, "\n".join(faults)


def test_comments_of_the_settings_files():
    files = sorted(properties_dir().rglob("*.yaml"))
    faults = [fault for file in files for fault in _faults(file, _yaml_comments(file.read_text(encoding="utf-8")))]
    assert files and not faults, "\n".join(faults)


def test_every_place_of_a_phrase_is_found():
    source = (
        '"""Module, anew."""\n'
        "raise ValueError(f\"got {row['told']}, dear {name}\")  # mend it\n"
        'problems.append("it goes on")\n'
        'report = {"note": "skipped for want of time", "held to": "so many tests"}\n'
        'told = settings["told"]\n'
    )
    path = Path("x.py")
    found = [fault.split("'")[1] for fault in _faults(path, _strings(source))]
    assert sorted(found) == ["anew", "dear", "for want of", "goes on", "held to", "so many"]
    assert [fault.split("'")[1] for fault in _faults(path, _comments(source))] == ["mend"]
    assert _yaml_comments("a: 'x # y'  # told\n# dear\n") == [(1, "# told"), (2, "# dear")]
    assert _faults(path, [(1, "a mended, retold, undear anewspaper")]) == []
