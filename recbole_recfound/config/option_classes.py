"""Option classes behind the `*_args` mappings of our YAML files."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from recbole_recfound.config.known import known_rules
from recbole_recfound.config.schema import NAMES
from recbole_recfound.runtime.options import Options, option, parameters_of, plain_types

ANYTHING = object | bool | None
"""Type of an option whose parameter has no annotation that can be checked."""
PACKAGE = __name__.partition(".")[0]
ALL = "*"
"""In a mapping from entries to their options (`task_args`): every entry that has the option."""


def options_of(entry: Any) -> type[Options]:
    """Return the option class of a class or function.

    Args:
        entry: an `Options` subclass; something with an attribute `Options`; or a class or function, whose parameters
            with a default are its options; an attribute `bounds` (option -> arguments of `option`) limits them.
    """
    if isinstance(entry, type) and issubclass(entry, Options):
        return entry
    own = getattr(entry, "Options", None)
    if isinstance(own, type) and issubclass(own, Options):
        return own
    entry = getattr(entry, "function", entry)
    named = _defaults(entry)
    # Annotations of a dataclass are read where they stand: its bases may come from modules with names of their own.
    plain_class = isinstance(entry, type) and not dataclasses.is_dataclass(entry)
    hints = _hints_of(entry.__init__ if plain_class else entry)
    bounds = getattr(entry, "bounds", {})
    fields = [(name, hints.get(name, ANYTHING), option(value, **bounds.get(name, {}))) for name, value in named.items()]
    cls: type[Options] = dataclasses.make_dataclass(
        f"{getattr(entry, '__name__', 'Entry')}Options", fields, bases=(Options,), frozen=True
    )
    classes = reversed(entry.__mro__) if isinstance(entry, type) else [entry]
    documents = [each.__doc__ for each in classes if each is not object and each.__doc__]
    cls.__doc__ = "\n".join(map(inspect.cleandoc, documents))
    return cls


def _defaults(entry: Any) -> dict[str, Any]:
    """Return the default of each option of a class or function; of a dataclass, without inherited fields."""
    if isinstance(entry, type) and dataclasses.is_dataclass(entry):
        own = [field for field in dataclasses.fields(entry) if field.name in vars(entry).get("__annotations__", {})]
        return {
            field.name: field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            for field in own
            if not field.metadata.get("of_tasks")
        }
    return {name: value for name, value in parameters_of(entry).items() if value is not inspect.Parameter.empty}


def _hints_of(function: Any) -> dict[str, Any]:
    """Return the annotations of a function whose types can be checked."""
    try:
        hints = get_type_hints(function)
    except (NameError, TypeError):  # names that exist for type checkers alone
        return {}
    return {name: hint for name, hint in hints.items() if all(isinstance(kind, type) for kind in plain_types(hint))}


def option_classes(options: str, settings: Mapping[str, Any] | None = None) -> dict[str, type[Options]]:
    """Return the option classes that a hint names.

    Args:
        options: text behind "options of" in a hint: a class, a key, both joined by "and", or `each NOUN`.
        settings: settings of the run; with them, only the entry that the key chooses. None: every entry.

    Returns:
        Name of the entry -> class; "" for the name where the hint names a class.

    Raises:
        ValueError: the hint names no class and no registry.
    """
    if " and " in options:
        parts = options.split(" and ")
        return {f"{part} {name}": cls for part in parts for name, cls in option_classes(part, settings).items()}
    if "." in options:
        module, _, name = options.rpartition(".")
        path = module if module.partition(".")[0] == PACKAGE or _is_foreign(module) else f"{PACKAGE}.{module}"
        return {"": getattr(importlib.import_module(path), name)}
    noun = options.removeprefix("each ")
    if options.startswith("each ") and noun in NAMES:
        return {name: options_of(NAMES[noun][name]) for name in NAMES[noun]}
    rule = known_rules().get(options)
    if rule is None or not rule.registry:
        raise ValueError(f"options of {options}: expected a class, a key that chooses from a registry, or 'each NOUN'")
    registry = NAMES[rule.registry]
    names = list(registry) if settings is None else [str(settings.get(options))]
    return {name: options_of(registry[name]) for name in names if name in registry}


def _is_foreign(module: str) -> bool:
    """Return whether a module's first part is a package beside this one, not a room of it."""
    first = module.partition(".")[0]
    return importlib.util.find_spec(f"{PACKAGE}.{first}") is None


def option_problems(key: str, value: Any, settings: Mapping[str, Any], place: str = "") -> list[str]:
    """Return one message for each wrong option in a `*_args` mapping.

    Args:
        key: name of the setting.
        value: its value, a mapping.
        settings: settings of the run, for keys that choose whose options these are.
        place: file and line of the setting, in brackets.
    """
    options = known_rules()[key].options
    if not options or not isinstance(value, Mapping):
        return []
    where = f"{key}{place}"
    if options.startswith("each "):
        classes = option_classes(options)
        unknown = NAMES[options.removeprefix("each ")].unknown(name for name in value if name != ALL)
        problems = [f"{where}: {unknown}"] if unknown else []
        for name, own in value.items():
            if name == ALL or name in classes:
                owners = list(classes.values()) if name == ALL else [classes[name]]
                problems += _joint_problems(own, owners, owners, f"{where}: {name}")
        return problems
    chosen, every = option_classes(options, settings), option_classes(options)
    return _joint_problems(value, list(chosen.values()), list(every.values()), where)


def _joint_problems(values: Any, chosen: list[type[Options]], every: list[type[Options]], where: str) -> list[str]:
    """Return messages about options that several classes may have.

    Args:
        values: option -> value.
        chosen: classes that read the options.
        every: further classes that could be chosen instead; an option that only these have is ignored, so that a
            scheduler or adapter can be swapped without touching its options.
        where: name of the setting.
    """
    speaker = (chosen or every)[0]
    if not isinstance(values, Mapping):
        return speaker.problems(values, where)
    problems: list[str] = []
    for name, value in values.items():
        owners = [cls for cls in chosen if name in cls.names()]
        if owners or not any(name in cls.names() for cls in every):
            found = [cls.problems({name: value}, where) for cls in owners or [speaker]]
            problems += found[0] if all(found) else []
    return problems
