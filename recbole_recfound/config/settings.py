"""The user's settings: read from files and dict, validated together, all problems reported in one error."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from recbole_recfound.config.known import (
    is_plugin_model,
    is_recbole_model,
    known_rules,
    merge_depth,
    our_files,
    our_lines,
    own_keys,
    readers,
    recbole_lines,
    rule_of_hint,
)
from recbole_recfound.config.models import ALSO_KNOWN, get_model, model_file, nearest, unknown_model
from recbole_recfound.config.option_classes import option_problems
from recbole_recfound.config.property_files import Setting, read_settings
from recbole_recfound.config.renamed import renamed
from recbole_recfound.config.schema import OF_RECBOLES_MODELS, normal, problem
from recbole_recfound.config.shared import repeats_of, shared_keys
from recbole_recfound.errors import WRONG_VALUES, ConfigError

FILES, UNKNOWN, RENAMED = "files", "unknown keys", "renamed keys"
"""Headings of groups of problems; `not read by MODEL` and `WRONG_VALUES` follow."""

OF_A_RUN = {"identity", "data_files", "single_spec", "local_rank", "valid_neg_sample_args", "test_neg_sample_args"}
"""Keys that a run adds to its `config.yaml`; see `_written_by_user`."""

COMMAND_LINE = "command line"
"""Origin of a value typed as `--key=value`."""

EXAMPLE_BASELINE = "BPR"

TRUST = "trust_checkpoint"
"""The one key that only the user can set, not a file that may come from elsewhere."""

OF_RECBOLE, OF_EACH_MODEL = "RecBole", "each RecBole model"
"""`options of RecBole` in a hint: settings of another model; `options of each RecBole model`: model -> settings."""


class Settings(dict[str, Any]):
    """Settings by key, with the origin of each.

    Attributes:
        origins: key -> `file:line`, or `COMMAND_LINE`; a key that comes from a dict has none.
        notes: lines for the user about settings that have no effect or another one than they may seem to have.
    """

    def __init__(self, values: Mapping[str, Any] | None = None, origins: Mapping[str, str] | None = None) -> None:
        super().__init__(values or {})
        self.origins = dict(getattr(values, "origins", {}) if origins is None else origins)
        self.notes: list[str] = list(getattr(values, "notes", []))

    def put(self, key: str, value: Any, origin: str = "") -> None:
        """Set a key, merging mappings of options with what is there.

        Args:
            key: name of the setting.
            value: its value.
            origin: file and line, or `COMMAND_LINE`.
        """
        self[key] = merged_value(key, self.get(key), value)
        self.origins[key] = origin

    def place(self, key: str) -> str:
        """Return the place of a key for an error message: ` (file:line)`, or nothing."""
        origin = self.origins.get(key, "")
        return f" ({origin})" if origin and origin != COMMAND_LINE else ""


class Problems:
    """Problems of a configuration in groups, raised together."""

    def __init__(self) -> None:
        self.groups: dict[str, list[str]] = defaultdict(list)

    def add(self, heading: str, *lines: str) -> None:
        """Add problems under a heading."""
        self.groups[heading] += [line for line in lines if line not in self.groups[heading]]

    def refuse(self) -> None:
        """Raise ConfigError if there is any problem."""
        order = [FILES, UNKNOWN, RENAMED]
        last = [WRONG_VALUES]
        between = [heading for heading in self.groups if heading not in order + last]
        groups = {heading: self.groups[heading] for heading in order + between + last if self.groups.get(heading)}
        if groups:
            raise ConfigError(groups)


def refuse(problems: Iterable[str]) -> None:
    """Raise one ConfigError with all problems, if there are any.

    Args:
        problems: one line each: `key: got X, expected Y. Hint.`
    """
    if lines := list(problems):
        raise ConfigError(lines)


def merged_value(key: str, weaker: Any, stronger: Any) -> Any:
    """Return the value of a key that two sources give: the stronger one, or both merged for our mappings of options.

    Args:
        key: name of the setting.
        weaker: value of the weaker source.
        stronger: value of the stronger source.
    """
    return _merged(weaker, stronger, merge_depth(key))


def merged(weaker: Mapping[str, Any], stronger: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of two sources; our mappings of options are merged key by key.

    Args:
        weaker: settings by key.
        stronger: settings that win.
    """
    return {**weaker, **{key: merged_value(key, weaker.get(key), value) for key, value in stronger.items()}}


def _merged(weaker: Any, stronger: Any, depth: int) -> Any:
    if not depth or not isinstance(weaker, Mapping) or not isinstance(stronger, Mapping):
        return stronger
    return {**weaker, **{key: _merged(weaker.get(key), value, depth - 1) for key, value in stronger.items()}}


def settings_of(
    paths: Iterable[str | Path] | None = None,
    values: Mapping[str, Any] | None = None,
    model: str | type | None = None,
    default_model: str | None = None,
    strict: bool = True,
) -> Settings:
    """Read and check the settings of files and dict.

    Values are taken as they are: text is never parsed.

    Args:
        paths: YAML files, weakest first.
        values: settings by key; they win over the files. A `Settings` keeps its origins.
        model: name or class of the model; None: `model` in the dict or the files.
        default_model: name where none is given.
        strict: reject keys that the model does not read, and write notes.

    Returns:
        The checked settings with `notes` for the user.

    Raises:
        ConfigError: all problems of all sources, in groups.
    """
    problems, settings = Problems(), Settings()
    for path in paths or ():
        try:
            lines = read_settings(path)
        except ConfigError as error:
            problems.add(FILES, *error.problems)
            continue
        for line in _written_by_user(lines):
            _put(settings, problems, line.key, line.value, f"{line.file}:{line.line}")
    for key, value in (values or {}).items():
        _put(settings, problems, key, value, getattr(values, "origins", {}).get(key, ""))
    name = model or settings.get("model") or default_model
    name = name.__name__ if isinstance(name, type) else name
    if isinstance(model, str) or (model is None and name):
        problems.add(WRONG_VALUES, *filter(None, [unknown_model(str(name))]))
    _check_own_hints(settings, str(name), problems)
    _check_options(settings, str(name), problems)
    if strict and name:
        _check_readers(settings, str(name), problems)
    problems.refuse()
    return settings


def _written_by_user(lines: list[Setting]) -> list[Setting]:
    """Return the lines of a file; those of a run's `config.yaml` in the form that repeats the run."""
    if not any(line.key == "data_files" for line in lines):
        return lines
    values = {line.key: line.value for line in lines}
    written = []
    for line in lines:
        value = line.value
        if line.key == "data_path":  # RecBole adds the name of the data set
            value = str(Path(value).parent)
        if (
            line.key == "train_neg_sample_args" and value and value["distribution"] == "none"
        ):  # RecBole's form of nothing
            value = None
        if line.key == "repeatable" and not repeats_of(values):
            continue  # RecBole's value for the kind of model, not the user's
        if line.key not in OF_A_RUN:
            written.append(replace(line, value=value))
    return written


def check_value(key: str, value: Any, place: str = "") -> Any:
    """Return a checked value in its normal form.

    Args:
        key: name of the setting.
        value: its value.
        place: file and line it comes from, for the message.

    Raises:
        ConfigError: names the key, its place and what is expected.
    """
    problems, settings = Problems(), Settings()
    _put(settings, problems, key, value, place)
    problems.refuse()
    return settings[key]


def _put(settings: Settings, problems: Problems, key: str, value: Any, origin: str) -> None:
    """Check one value by itself and store it."""
    rules = known_rules()
    where = f"{key} ({origin})" if origin and origin != COMMAND_LINE else key
    if key not in rules and (former := renamed(key)):
        problems.add(RENAMED, f"{where}: {former}")
    elif key not in rules:
        problems.add(UNKNOWN, f"{where}: unknown setting{nearest(key, rules)}")
    else:
        value = normal(rules[key], value)
        if wrong := problem(rules[key], value):
            problems.add(WRONG_VALUES, f"{where}: {wrong}")
        elif key == TRUST and value and origin not in ("", COMMAND_LINE):
            problems.add(WRONG_VALUES, f"{where}: a file cannot decide what is trusted; type --{TRUST}")
        else:
            settings.put(key, value, origin)


def _check_own_hints(settings: Settings, model: str, problems: Problems) -> None:
    """Check keys of which several models allow different values."""
    path = model_file(model)
    for key, rule in OF_RECBOLES_MODELS.items() if is_recbole_model(model) else ():
        if key in settings and (wrong := problem(rule, settings[key])):
            problems.add(WRONG_VALUES, f"{key}{settings.place(key)}: {wrong}")
    for line in read_settings(path) if path else ():
        if line.key in settings and any(other.hint != line.hint for other in our_lines()[line.key]):
            if wrong := problem(rule_of_hint([line]), settings[line.key]):
                problems.add(WRONG_VALUES, f"{line.key}{settings.place(line.key)}: {wrong}")


def _check_options(settings: Settings, model: str, problems: Problems) -> None:
    """Check the mappings of options (`*_args`), whose rules stand in option classes."""
    rules, chosen = known_rules(), {**_defaults(model), **settings}
    for key, value in settings.items():
        where, options = f"{key}{settings.place(key)}", rules[key].options
        if options == OF_RECBOLE:
            _check_nested(where, value, problems)
        elif options == OF_EACH_MODEL:
            for name, own in value.items():
                _check_nested(f"{where}: {name}", own, problems)
        elif options:
            problems.add(WRONG_VALUES, *option_problems(key, value, chosen, settings.place(key)))


def _check_nested(where: str, values: Mapping[str, Any], problems: Problems) -> None:
    """Check settings that are handed on to another model."""
    for key, value in values.items():
        if key == TRUST:
            problems.add(WRONG_VALUES, f"{where}: {TRUST}: set it for the whole run, --{TRUST}")
            continue
        inner = Problems()
        _put(Settings(), inner, str(key), value, "")
        for heading, lines in inner.groups.items():
            problems.add(heading, *(f"{where}: {line}" for line in lines))


def _defaults(model: Any) -> dict[str, Any]:
    """Return the defaults of our own keys for a model."""
    files = [path for path in our_files() if path.stem in ("overall", model)]
    return {line.key: line.value for path in files for line in read_settings(path)}


def _check_readers(settings: Settings, model: str, problems: Problems) -> None:
    """Refuse RecBole's keys that one of our models does not read, and write notes."""
    ignored: dict[str, list[str]] = {}
    if is_plugin_model(model):
        _refuse_unread(settings, model, problems)
        if adopted := _meant_for_a_baseline(settings, model):
            names = ", ".join(f"{key}{settings.place(key)}" for key in adopted)
            settings.notes.append(
                f"{names}: set for {model}, not for baselines; for a baseline write "
                f"baseline_args: {{{EXAMPLE_BASELINE}: {{{adopted[0]}: {settings[adopted[0]]}}}}}"
            )
    if is_plugin_model(model) or is_recbole_model(model):
        for key in settings:
            models = readers(key)
            if models and model not in models and all(map(is_plugin_model, models)):
                ignored.setdefault(" and ".join(models), []).append(f"{key}{settings.place(key)}")
    settings.notes += [f"{', '.join(keys)}: not read by {model}, only by {owner}" for owner, keys in ignored.items()]


def _refuse_unread(settings: Settings, model: str, problems: Problems) -> None:
    heading = f"not read by {model}"
    cls = ALSO_KNOWN[model].cls if model in ALSO_KNOWN else get_model(model)
    instead: Mapping[str, str] = getattr(cls, "reads_instead", {})
    for key, value in settings.items():
        where, models = f"{key}{settings.place(key)}", readers(key)
        if key in instead:
            # A run's own config.yaml names these keys with RecBole's defaults.
            defaults = [line.value for line in recbole_lines().get(key, ()) if line.file.name == "overall.yaml"]
            if value is not None and value not in defaults:
                problems.add(heading, f"{where}: not read by {model}; use {instead[key]}")
        elif models and model not in models and not all(map(is_plugin_model, models)):
            theirs = [name for name in models if is_recbole_model(name)]
            example = EXAMPLE_BASELINE if EXAMPLE_BASELINE in theirs else theirs[0]
            names = ", ".join(theirs[:3]) + ", ..." * (len(theirs) > 3)
            ours = f"for {model} it was {renamed(key)}; " if renamed(key) else ""
            problems.add(
                heading,
                f"{where}: a setting of {names}, not read by {model}; {ours}"
                f"for a baseline write baseline_args: {{{example}: {{{key}: {value}}}}}",
            )


def _meant_for_a_baseline(settings: Settings, model: str) -> list[str]:
    """Return the keys of a file or dict that both our model and RecBole's trainer or models read.

    Excluded are keys of the protocol that all rows share, keys typed on the command line, and default values.
    """
    own, defaults = own_keys(model), _defaults(model)
    return [
        key
        for key, value in settings.items()
        if key in own and key in recbole_lines() and key not in shared_keys()
        if settings.origins.get(key, "") != COMMAND_LINE and value != defaults.get(key)
    ]
