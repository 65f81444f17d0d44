"""Options of a class as a frozen dataclass: defaults, types and bounds stand in its fields.

Example:
    >>> @dataclasses.dataclass(frozen=True)
    ... class Sizes(Options):
    ...     width: int = option(8, minimum=1)
    ...     form: str = option("letters", choices=("letters", "title"))
    >>> Sizes.of({"width": 4}, "sizes")
    Sizes(width=4, form='letters')
    >>> Sizes.problems({"width": 0, "depth": 2}, "sizes")
    ['sizes: width: got 0, expected a whole number, at least 1', 'sizes: unknown option depth; known: width, form']
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from recbole_recfound.errors import ConfigError

_Options = TypeVar("_Options", bound="Options")
WORDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    Sequence: "a list",
    dict: "a mapping",
}


def option(
    default: Any,
    choices: Sequence[Any] | Callable[[], Sequence[Any]] = (),
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    below: float | None = None,
    empty: bool = False,
    infinite: bool = False,
    help: str = "",
) -> Any:
    """Return a dataclass field with bounds.

    Args:
        default: value when the user gives none.
        choices: allowed values, of a list's elements too, each once, or a function that returns them (a registry is
            complete only later).
        minimum: smallest number allowed; for a list, of each element.
        maximum: largest number allowed; for a list, of each element.
        above: exclusive lower bound.
        below: exclusive upper bound.
        empty: a list with choices may have no element.
        infinite: an infinite number has a meaning.
        help: effect of the option, for the documentation.
    """
    metadata = {
        "choices": choices, "minimum": minimum, "maximum": maximum, "above": above, "below": below, "empty": empty,
        "infinite": infinite, "help": help,
    }  # fmt: skip
    if isinstance(default, (list, dict)):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of option classes; values are validated when an instance is made.

    Raises:
        ConfigError: lists every wrong value.
    """

    def __post_init__(self) -> None:
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        if problems := self.problems(values):
            raise ConfigError(problems)

    @classmethod
    def of(cls: type[_Options], values: Mapping[str, Any] | None, where: str) -> _Options:
        """Build options from the value of a setting.

        Args:
            values: option -> value; None: all defaults.
            where: name of the setting, for errors.

        Raises:
            ConfigError: lists every unknown option and every wrong value.
        """
        if problems := cls.problems(values, where):
            raise ConfigError(problems)
        return cls(**(values or {}))

    @classmethod
    def names(cls) -> list[str]:
        """Return the names of all options."""
        return [field.name for field in dataclasses.fields(cls)]

    @classmethod
    def problems(cls, values: Mapping[str, Any] | None, where: str = "") -> list[str]:
        """Return one message for each unknown option and each wrong value.

        Args:
            values: option -> value.
            where: name of the setting, for the messages.
        """
        start = f"{where}: " if where else ""
        if values is not None and not isinstance(values, Mapping):
            return [f"{start}got {values!r}, expected a mapping of options"]
        known = {field.name: field for field in dataclasses.fields(cls)}
        types = get_type_hints(cls)
        problems = []
        for name, value in (values or {}).items():
            if name not in known:
                near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.75)
                hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known) or 'none'}"
                problems.append(f"{start}unknown option {name}; {hint}")
            elif not _fits(value, types[name], known[name].metadata):
                expected = _expected(types[name], known[name].metadata)
                problems.append(f"{start}{name}: got {value!r}, expected {expected}")
        return problems


@dataclasses.dataclass(frozen=True)
class OptionInfo:
    """Documentation of one option.

    Attributes:
        name: of the option.
        default: its default value.
        expected: allowed values, in words.
        effect: from `option(help=...)` or the docstring of the class.
    """

    name: str
    default: Any
    expected: str
    effect: str


def describe(cls: type[Options]) -> list[OptionInfo]:
    """Return the documentation of every option of a class, from its fields and the `Attributes:` of its docstrings."""
    effects: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        effects |= documented(inspect.cleandoc(base.__doc__ or ""))
    types = get_type_hints(cls)
    infos = []
    for field in dataclasses.fields(cls):
        factory = field.default_factory
        default = field.default if factory is dataclasses.MISSING else factory()
        effect = field.metadata.get("help") or effects.get(field.name, "")
        infos.append(OptionInfo(field.name, default, _expected(types[field.name], field.metadata), effect))
    return infos


def documented(docstring: str) -> dict[str, str]:
    """Return name -> text of the `Args:` and `Attributes:` sections of a docstring in Google style."""
    texts: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in docstring.splitlines():
        if line and not line.startswith(" "):
            inside = line.strip() in ("Args:", "Attributes:")
        elif inside and (match := re.match(r" {4}(\*{0,2}\w+(?:, \w+)*)(?: \([^)]*\))?:\s*(.*)$", line)):
            names = match[1].split(", ")
            texts |= dict.fromkeys(names, match[2])
        elif inside and line.strip():
            texts |= {name: f"{texts[name]} {line.strip()}" for name in names}
    return texts


def plain_types(annotation: Any) -> tuple[type, ...]:
    """Return the plain types of an annotation: `float | list[float] | None` -> (float, list, NoneType)."""
    if get_origin(annotation) in (Union, UnionType):
        return tuple(kind for part in get_args(annotation) for kind in plain_types(part))
    origin = get_origin(annotation) or annotation
    return (dict,) if origin is Mapping or (isinstance(origin, type) and issubclass(origin, Mapping)) else (origin,)


def _choices(metadata: Mapping[str, Any]) -> Sequence[Any]:
    choices = metadata.get("choices", ())
    return choices() if callable(choices) else choices


def _fits(value: Any, annotation: Any, metadata: Mapping[str, Any]) -> bool:
    types = plain_types(annotation)
    if value is None:
        return NoneType in types
    allowed = {float: (int, float), list: (list, tuple), dict: (Mapping,)}
    plain = tuple(kind for each in types for kind in allowed.get(each, (each,)))
    if (isinstance(value, bool) and bool not in types) or not isinstance(value, plain):
        return False
    elements = value if isinstance(value, (list, tuple)) else [value]
    if choices := _choices(metadata):
        once = all(element in choices and element not in elements[:place] for place, element in enumerate(elements))
        return once and bool(elements or metadata.get("empty"))
    return all(_within(number, metadata) for number in elements)


def _within(number: Any, metadata: Mapping[str, Any]) -> bool:
    if (
        isinstance(number, float)
        and not math.isfinite(number)
        and not (math.isinf(number) and metadata.get("infinite"))
    ):
        return False
    bounds = {name: metadata.get(name) for name in ("minimum", "maximum", "above", "below")}
    if all(bound is None for bound in bounds.values()):
        return True
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return False
    return (
        (bounds["minimum"] is None or number >= bounds["minimum"])
        and (bounds["maximum"] is None or number <= bounds["maximum"])
        and (bounds["above"] is None or number > bounds["above"])
        and (bounds["below"] is None or number < bounds["below"])
    )


def _expected(annotation: Any, metadata: Mapping[str, Any]) -> str:
    if choices := _choices(metadata):
        form = "a list of different names among" if list in plain_types(annotation) else "one of"
        return f"{form} {', '.join(map(str, choices))}{' or []' if metadata.get('empty') else ''}"
    kinds = [kind for kind in plain_types(annotation) if kind is not NoneType]
    if object in kinds:
        return "any value"
    words = " or ".join(WORDS.get(kind, kind.__name__) for kind in kinds)
    if NoneType in plain_types(annotation):
        words += " or nothing (~)"
    named = {"minimum": "at least", "maximum": "at most", "above": "above", "below": "below"}
    bounds = [f"{word} {metadata[name]:.15g}" for name, word in named.items() if metadata.get(name) is not None]
    return ", ".join([words, *bounds])


def parameters_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the named parameters of a class or function with their defaults.

    A parameter without a default has `inspect.Parameter.empty`.
    """
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.kind in named}
