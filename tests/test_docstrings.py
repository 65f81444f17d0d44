"""A docstring describes no argument that its function or class does not have."""

import ast
import re
from pathlib import Path

import pytest

import recbole_recfound

PACKAGE = Path(recbole_recfound.__file__).parent
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _described(docstring: str) -> set[str]:
    """Return the names in the section Args of a Google docstring."""
    section = re.search(r"^Args:\n((?: +.*\n?| *\n)*)", docstring, re.MULTILINE)
    lines = section[1].splitlines() if section else []
    entries = [re.match(r" {4}(?! )([*\w, ]+?)(?: \([^)]*\))?:", line) for line in lines]
    return {name.lstrip("*") for entry in entries if entry for name in entry[1].split(", ")}


def _arguments(node: Function | ast.ClassDef) -> set[str] | None:
    """Return the arguments of a function or of the making of a class; None where a base class decides them."""
    if isinstance(node, ast.ClassDef):
        made = next((part for part in node.body if isinstance(part, Function) and part.name == "__init__"), None)
        if made is None:
            return None if node.bases else {part.target.id for part in node.body if isinstance(part, ast.AnnAssign)}
        node = made
    found = node.args
    named = (*found.posonlyargs, *found.args, *found.kwonlyargs, found.vararg, found.kwarg)
    return {argument.arg for argument in named if argument}


def _unknown(source: str) -> dict[str, set[str]]:
    """Return the names that docstrings describe in vain, by function or class."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, Function | ast.ClassDef)]
    known = [(node, _arguments(node)) for node in nodes]
    unknown = {
        f"{node.name}:{node.lineno}": _described(ast.get_docstring(node) or "") - arguments
        for node, arguments in known
        if arguments is not None
    }
    return {place: names for place, names in unknown.items() if names}


@pytest.mark.parametrize("room", sorted(path.name for path in PACKAGE.iterdir() if path.suffix in ("", ".py")))
def test_docstrings_describe_arguments_that_exist(room):
    path = PACKAGE / room
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path]
    faults = {file.name: _unknown(file.read_text(encoding="utf-8")) for file in files}
    assert {name: found for name, found in faults.items() if found} == {}


def test_an_argument_of_another_name_is_found():
    source = '''
class Trainer:
    """Train.

    Args:
        budget: seconds (float: any).
        model, data: what is trained on what.
    """

    def __init__(self, model, data, plan): ...
'''
    assert _unknown(source) == {"Trainer:2": {"budget"}}
