"""Replacement of an expression inside a function that is already defined, keeping the function object.

Repairs of one expression in a 60-line method would otherwise need a copy of the method.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from types import CodeType
from typing import cast


class PlaceNotFound(LookupError):
    """The function does not contain the expected text: the repair was written for another version of RecBole."""


def rewrite(function: Callable, *replacements: tuple[str, str, int]) -> None:
    """Replace text in the source of a function and give the function the code compiled from it.

    The function object stays the same, so classes, decorators and names imported elsewhere all see the change, and
    tracebacks keep the file and line of the original. All replacements of a function go into one call: the source that
    Python finds is always the original one.

    Args:
        function: a plain function, or one wrapped by decorators that set `__wrapped__`.
        replacements: text on one line, its replacement (on one line), and the expected number of occurrences.

    Raises:
        PlaceNotFound: a text does not occur as often as expected; the function is unchanged.
    """
    inner = inspect.unwrap(function)
    source = textwrap.dedent(inspect.getsource(inner))
    for old, new, count in replacements:
        if source.count(old) != count:
            raise PlaceNotFound(f"{old!r} was found {source.count(old)} times instead of {count}")
        source = source.replace(old, new)
    code = _compile_like(source, inner.__code__)
    inner.__code__ = code.replace(co_qualname=inner.__code__.co_qualname)


def _compile_like(source: str, original: CodeType) -> CodeType:
    """Compile a function with the original's file, lines and free variables (`__class__` where it calls `super()`)."""
    tree = ast.parse(source)
    if original.co_freevars:
        scope = ast.parse(f"def scope({', '.join(original.co_freevars)}): pass")
        cast(ast.FunctionDef, scope.body[0]).body = tree.body
        tree = scope
    ast.increment_lineno(tree, original.co_firstlineno - 1)
    code = compile(tree, original.co_filename, "exec", dont_inherit=True)
    while code.co_name != original.co_name:
        code = next(constant for constant in code.co_consts if isinstance(constant, CodeType))
    return code
