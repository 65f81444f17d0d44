"""Options of a class: typed, bounded dataclass fields, checked together with one message."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, TypeVar

from recbole_recfound.errors import ConfigError

OptionsType = TypeVar("OptionsType", bound="Options")


def option(
    default: Any,
    choices: Sequence[Any] = (),
    minimum: float | None = None,
    maximum: float | None = None,
) -> Any:
    """Declare a dataclass field of an `Options` class.

    Args:
        default: default value; its type is the type of the option (a whole number is accepted for a float).
        choices: allowed values; empty allows all.
        minimum: smallest allowed number.
        maximum: largest allowed number.
    """
    metadata = {"choices": tuple(choices), "minimum": minimum, "maximum": maximum}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Options:
    """Base of option classes; values are validated when an instance is made.

    Raises:
        ConfigError: values of a wrong type or out of range, all in one message.
    """

    def __post_init__(self) -> None:
        problems = [f"{item.name}: {wrong}" for item in fields(self) if (wrong := _problem(self, item))]
        if problems:
            raise ConfigError("; ".join(problems))

    @classmethod
    def of(cls: type[OptionsType], values: Mapping[str, Any], where: str) -> OptionsType:
        """Make options from settings.

        Args:
            values: option -> value; missing options take their defaults.
            where: the setting they come from, for errors.

        Raises:
            ConfigError: an unknown option, or a value that does not fit.
        """
        known = [item.name for item in fields(cls)]
        if wrong := [name for name in values if name not in known]:
            raise ConfigError(
                f"{where}: unknown option {', '.join(map(repr, wrong))}; known: {', '.join(known) or '-'}"
            )
        try:
            return cls(**values)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from None


def _problem(options: Options, item: Any) -> str:
    """Return the error of one option's value, or ""."""
    value, default = getattr(options, item.name), item.default
    kind = type(default)
    typed = default is not MISSING and default is not None
    if typed and not (type(value) is kind or (kind is float and type(value) is int)):
        return f"got {value!r}, expected {_KINDS.get(kind, kind.__name__)}"
    choices = item.metadata.get("choices")
    if choices and value not in choices:
        return f"got {value!r}, expected one of {', '.join(map(str, choices))}"
    least, most = item.metadata.get("minimum"), item.metadata.get("maximum")
    if (least is not None and value < least) or (most is not None and value > most):
        bounds = [f"at least {least}" if least is not None else "", f"at most {most}" if most is not None else ""]
        return f"got {value!r}, expected {' and '.join(filter(None, bounds))}"
    return ""


_KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", tuple: "a list"}


def parameters_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the named parameters of a class or function with their defaults (`inspect.Parameter.empty` where there is none)."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name: parameter.default for parameter in parameters if parameter.kind in named}
