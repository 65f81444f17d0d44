"""Examples in docstrings run."""

import doctest
import importlib
from pathlib import Path

import pytest

import recbole_recfound

PACKAGE = Path(recbole_recfound.__file__).parent
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_examples_of_a_module(path):
    result = doctest.testmod(importlib.import_module(name_of(path)), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted and not result.failed
