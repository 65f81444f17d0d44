"""Every key that a run may set: its lines in RecBole's and our YAML files, its rule, and the models that read it."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from dataclasses import replace
from functools import cache
from pathlib import Path

from recbole_recfound.config.hint import Hint, parse_hint
from recbole_recfound.config.models import ALSO_KNOWN, OUR_MODELS, Registered, model_file, recbole_models
from recbole_recfound.config.property_files import Setting, read_settings
from recbole_recfound.config.schema import CHECKS, RULES, Rule, rule_of_recbole
from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.locations import properties_dir, recbole_dir

RECBOLES = ("overall.yaml", "model/*.yaml", "dataset/sample.yaml", "dataset/ml-100k.yaml", "quick_start_config/*.yaml")
LISTS = ("general_arguments", "training_arguments", "evaluation_arguments", "dataset_arguments")


def our_files() -> list[Path]:
    """Return the YAML files that define keys beside RecBole's: that of all models and those of single ones."""
    registered = [entry.properties for entry in ALSO_KNOWN.values() if entry.properties]
    return [properties_dir() / "overall.yaml", *sorted((properties_dir() / "model").glob("*.yaml")), *registered]


def add_model(name: str, cls: type | None = None, properties: Path | None = None) -> None:
    """Make a model from outside the package known by name.

    Args:
        name: for `--model`.
        cls: its class, where it is one of RecBole's kind.
        properties: YAML file with its own keys, defaults and hints; its name must be `<name>.yaml`.
    """
    if name in OUR_MODELS:
        return
    ALSO_KNOWN[name] = Registered(cls, properties)
    for cached in (our_lines, known_rules):
        cached.cache_clear()


@cache
def argument_lists() -> dict[str, list[str]]:
    """Return RecBole's lists of keys by subject, read without importing RecBole (which imports torch)."""
    spec = importlib.util.spec_from_file_location("_argument_list", recbole_dir() / "utils" / "argument_list.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: list(getattr(module, name)) for name in LISTS}


@cache
def recbole_lines() -> dict[str, list[Setting]]:
    """Return RecBole's keys with their lines in RecBole's YAML files."""
    root = recbole_dir() / "properties"
    return _by_key(sorted(path for pattern in RECBOLES for path in root.glob(pattern)))


@cache
def our_lines() -> dict[str, list[Setting]]:
    """Return our keys with their lines in our YAML files."""
    return _by_key(our_files())


def _by_key(paths: list[Path]) -> dict[str, list[Setting]]:
    lines: dict[str, list[Setting]] = defaultdict(list)
    for path in paths:
        for setting in read_settings(path):
            lines[setting.key].append(setting)
    return dict(lines)


@cache
def known_rules() -> dict[str, Rule]:
    """Return the rule of every key that a run may set, ours and RecBole's.

    Raises:
        ConfigError: a malformed hint in one of our files, or hints of different types for one key.
    """
    listed = {key for keys in argument_lists().values() for key in keys}
    theirs = {*recbole_lines(), *listed, *RULES} - set(our_lines())
    rules = {key: rule_of_recbole(key, recbole_lines().get(key, ())) for key in theirs}
    return rules | {key: rule_of_hint(lines) for key, lines in our_lines().items()}


def rule_of_hint(lines: list[Setting]) -> Rule:
    """Return the rule of one of our keys.

    Models may allow different values of one key (`control`), but not different types; the rule has the types then, and
    `settings.settings_of` applies the hint of the model.

    Args:
        lines: the key in each of our files that has it.

    Raises:
        ConfigError: a malformed hint, or different types; names file and line.
    """
    first, *others = lines
    hint = _hint(first)
    for other in others:
        theirs = _hint(other)
        if (theirs.types, theirs.nullable) != (hint.types, hint.nullable):
            raise ConfigError(
                f"{first.file}:{first.line}: {first.key}: types of the hint ({first.hint}) differ from "
                f"({other.hint}) in {other.file}:{other.line}"
            )
    if any(other.hint != first.hint for other in others):
        return Rule(hint.types, hint.nullable, check=CHECKS.get(first.key))
    return replace(Rule.of_hint(hint), check=CHECKS.get(first.key))


def _hint(line: Setting) -> Hint:
    try:
        hint = parse_hint(line.hint)
        Rule.of_hint(hint)
    except ValueError as error:
        raise ConfigError(f"{line.file}:{line.line}: {line.key}: {error}") from None
    return hint


def readers(key: str) -> list[str]:
    """Return the models whose own files name a key; empty where a file of all models does."""
    files = [setting.file for setting in (*recbole_lines().get(key, ()), *our_lines().get(key, ()))]
    listed = any(key in keys for keys in argument_lists().values())
    registered = [entry.properties for entry in ALSO_KNOWN.values()]
    if listed or not all(file.parent.name == "model" or file in registered for file in files):
        return []
    return list(dict.fromkeys(file.stem for file in files))


def is_plugin_model(name: str) -> bool:
    """Return whether a model has a file of its own keys, in this package or registered with it."""
    return name in OUR_MODELS or (name in ALSO_KNOWN and model_file(name) is not None)


def is_recbole_model(name: str) -> bool:
    """Return whether a model is one of RecBole's."""
    return name not in OUR_MODELS and name not in ALSO_KNOWN and name in recbole_models()


def own_keys(model: str) -> set[str]:
    """Return the keys in the file of one of our models."""
    path = model_file(model)
    return {setting.key for setting in read_settings(path)} if path else set()


def merge_depth(key: str) -> int:
    """Return how many levels of a mapping are merged with weaker sources instead of replacing them.

    0 for keys of RecBole (it replaces) and for all but mappings of options (`*_args`); 2 for mappings of mappings.
    """
    if not key.endswith("_args") or key in recbole_lines() or key not in our_lines():
        return 0
    rule = known_rules()[key]
    if rule.types != (dict,):
        return 0
    return 2 if (dict, dict) in rule.elements or rule.options.startswith("each ") else 1
