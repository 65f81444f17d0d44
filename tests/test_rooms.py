"""Rules of the package that its layers contract (pyproject.toml) does not say."""

import ast
import re
from pathlib import Path

import pytest

import recbole_recfound
from recbole_recfound.config.known import recbole_lines
from recbole_recfound.config.renamed import RENAMED

PACKAGE = Path(recbole_recfound.__file__).parent
SYSTEMS = {path.stem for path in (PACKAGE.parent / "properties" / "model").glob("*.yaml")}


def modules():
    return sorted(path for path in PACKAGE.rglob("*.py") if "__pycache__" not in path.parts)


def test_there_are_at_most_eighteen_rooms():
    assert len({path.relative_to(PACKAGE).parts[0] for path in modules() if path.parent != PACKAGE}) <= 18


def test_systems_are_named_only_where_they_live():
    """Settings, data, evaluation, reports and commands work for any system."""
    assert {"RecFound", "IAK"} <= SYSTEMS
    literal = re.compile("|".join(f"[\"']{name}[\"']" for name in SYSTEMS))
    found = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        if path.relative_to(PACKAGE).parts[0] not in ("system", "model", "trainer") and literal.search(path.read_text())
    }
    assert not found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_inside_a_function_gets_around_the_layers(path):
    """Only commands import what they run when they run it, so that `--help` needs no torch."""
    if path.relative_to(PACKAGE).parts[0] in ("cli", "__init__.py"):
        return
    inside = [
        node.module or ""
        for function in ast.walk(ast.parse(path.read_text()))
        if isinstance(function, ast.FunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.ImportFrom)
    ]
    assert not [name for name in inside if name.startswith("recbole_recfound")]


def test_messages_name_no_former_key():
    # Names of options today, of keys in results.json, and of weights.
    identifiers = {
        "history_mode",
        "user_tower",
        "body",
        "item_features",
        "lora_alpha",
        "lora_dropout",
        "experts_per_group",
        "target_modules",
    }
    now = {
        name
        for path in PACKAGE.rglob("*.py")
        for name in re.findall(r"^    (\w+): .* = option\(", path.read_text(), re.M)
    }
    former = re.compile(rf"\b({'|'.join(sorted(set(RENAMED) - now - identifiers - set(recbole_lines())))})\b")
    found = []
    for path in modules():
        if path.name == "renamed.py":
            continue
        tree = ast.parse(path.read_text())
        documents = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        found += [
            f"{path.relative_to(PACKAGE)}:{node.lineno}: {node.value}"
            for node in ast.walk(tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents
            if former.search(node.value)
        ]
    assert not found
