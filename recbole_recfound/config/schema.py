"""Rules of values: types, bounds and names.

The rule of a key of ours is the hint in its YAML line (`hint.py`). `RULES` holds what the defaults of RecBole's own
keys do not say, and `CHECKS` what needs code.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from recbole_recfound.config.hint import Hint
from recbole_recfound.config.models import ModelNames, baseline_models, model_names, nearest
from recbole_recfound.config.property_files import Setting, parse_text
from recbole_recfound.runtime import registry as registries

_REGISTRIES = [entry for entry in vars(registries).values() if isinstance(entry, registries.Registry)]
NAMES: dict[str, Any] = {registry.noun: registry for registry in _REGISTRIES}
NAMES |= {"model": ModelNames("model", model_names), "RecBole model": ModelNames("RecBole model", baseline_models)}
"""Noun in a hint (`any task`) -> registry."""


@dataclass(frozen=True)
class Rule:
    """Rule for the values of a key.

    Attributes:
        types: allowed types; empty: any.
        nullable: whether an empty value (`~`) is allowed.
        elements: allowed type of a list's elements and a mapping's values, by the outer type; missing: any.
        choices: allowed values: of a text, of a list's elements, of a mapping's keys.
        registry: noun of a registry in `NAMES` whose names are allowed beside `choices`.
        minimum, maximum: smallest and largest number allowed, of a list's elements and a mapping's values too.
        above, below: exclusive bounds.
        check: returns what is wrong with a value, or None.
        options: who checks the options of a mapping; see `hint.py`.
    """

    types: tuple[type, ...] = ()
    nullable: bool = False
    elements: tuple[tuple[type, type], ...] = ()
    choices: tuple[Any, ...] = ()
    registry: str = ""
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    check: Callable[[Any], str | None] | None = None
    options: str = ""

    @classmethod
    def of_hint(cls, hint: Hint) -> Rule:
        """Return the rule that a hint describes.

        Raises:
            ValueError: the hint names an unknown registry.
        """
        if hint.registry and hint.registry not in NAMES:
            raise ValueError(f"hint: unknown registry {hint.registry!r}; known: {', '.join(NAMES)}")
        return cls(
            hint.types, hint.nullable, hint.elements, hint.words, hint.registry,
            hint.minimum, hint.maximum, hint.above, hint.below, None, hint.options,
        )  # fmt: skip

    @property
    def is_text(self) -> bool:
        """Whether only text is allowed."""
        return self.types == (str,)

    @property
    def is_text_list(self) -> bool:
        """Whether lists of text are allowed and single texts are not."""
        return str not in self.types and (list, str) in self.elements

    @property
    def names(self) -> tuple[Any, ...]:
        """All allowed names; empty: any."""
        return (*(NAMES[self.registry] if self.registry else ()), *self.choices)


def _eval_args(value: dict) -> str | None:
    unknown = set(value) - {"split", "group_by", "order", "mode"}
    if unknown:
        return f"has no part {sorted(unknown)[0]!r}, only split, group_by, order and mode"
    split = value.get("split", {"RS": []})
    if not isinstance(split, dict) or len(split) != 1 or next(iter(split)) not in ("RS", "LS", "TS"):
        return "split must be one of {'LS': ...}, {'RS': [...]}, {'TS': [...]}"
    kind, parts = next(iter(split.items()))
    if kind == "LS" and parts not in LEFT_OUT:
        return f"split LS must be one of {', '.join(LEFT_OUT)}"
    if kind != "LS" and not (isinstance(parts, list) and all(isinstance(part, (int, float)) for part in parts)):
        return f"split {kind} must be a list of numbers"
    if kind != "LS" and parts and (len(parts) != 3 or min(parts) < 0 or parts[0] <= 0):
        return f"split {kind} must be three shares: training (above 0), validation and test"
    order = value.get("order", "RO")  # RecBole's default, whatever the model; ours is replaced with all of eval_args
    if order not in ("TO", "RO"):
        return "order must be TO (by time) or RO (random)"
    if kind == "TS" and order != "TO":
        return "split TS is by time: order must be TO (RecBole takes RO where there is none)"
    if str(value.get("group_by", "user")).lower() not in ("user", "none"):
        return "group_by must be user or none"
    modes = value.get("mode", "full")
    if isinstance(modes, dict) and (unknown := set(modes) - {"valid", "test"}):
        return f"mode has no part {sorted(map(str, unknown))[0]!r}, only valid and test"
    for mode in modes.values() if isinstance(modes, dict) else [modes]:
        if not re.fullmatch(r"full|labeled|(uni|pop)\d+", str(mode)):
            return f"mode {mode!r} must be full, labeled, uniN or popN"
    return None


LEFT_OUT = ("valid_and_test", "valid_only", "test_only")


def _negatives(value: dict) -> str | None:
    form = "such as {distribution: uniform, sample_num: 3}"
    if unknown := set(value) - NEGATIVES.keys():
        return f"has no part {sorted(map(str, unknown))[0]!r}, only {', '.join(NEGATIVES)}, {form}"
    for part, own in value.items():
        if own != NO_NEGATIVES and own is not None and (wrong := problem(NEGATIVES[part], own)):
            return f"{part}: {wrong}, {form}"
    if value.get("sample_num") == NO_NEGATIVES != value.get("distribution"):
        return f"sample_num: {problem(NEGATIVES['sample_num'], NO_NEGATIVES)}, {form}"
    return None


NO_NEGATIVES = "none"
"""RecBole's own value of the parts of `train_neg_sample_args` where nothing is drawn."""


def _threshold(value: dict) -> str | None:
    fits = len(value) == 1 and all(_has_type(NUMBER, limit) and _is_finite(limit) for limit in value.values())
    return None if fits else "expected one column and a number, such as {rating: 4}"


def _discretization(value: dict) -> str | None:
    for field, own in value.items():
        options = own if isinstance(own, dict) else {}
        equal = options.get("method") == "ED" and problem(COUNT, options.get("bucket")) is None
        if not equal and options.get("method") != "LD":
            return f"{field}: expected {{method: ED, bucket: 5}} (equal distances) or {{method: LD}} (logarithms)"
    return None


def _texts(value: Iterable) -> str | None:
    return None if all(isinstance(word, str) for word in value) else "expected text only"


def _columns(value: dict) -> str | None:
    fits = all(columns == "*" or (isinstance(columns, list) and _texts(columns) is None) for columns in value.values())
    return None if fits else "expected a list of columns for each file, or '*' (all)"


def _listed_columns(value: dict) -> str | None:
    fits = all(isinstance(columns, list) and _texts(columns) is None for columns in value.values())
    return None if fits else "expected a list of columns for each file"


def _suffixes(value: str | list) -> str | None:
    own = [name for name in ([value] if isinstance(value, str) else value) if name in ("inter", "user", "item")]
    return f"{own[0]} is read anyway, expected suffixes of further files" if own else None


def _interval(value: str) -> str | None:
    found = [_INTERVAL.fullmatch(part.strip()) for part in value.split(";")]
    fits = all(match and float(match[1]) <= float(match[2]) for match in found)
    return None if fits else 'expected an interval such as "[5,inf)"'


_NUMBER = r"\s*([-+]?(?:inf|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?))\s*"
_INTERVAL = re.compile(rf"[\[(]{_NUMBER},{_NUMBER}[\])]")


def _intervals(value: dict) -> str | None:
    for field, allowed in value.items():
        wrong = _interval(allowed) if isinstance(allowed, str) else None
        if wrong or not isinstance(allowed, (str, list)):
            return f'{field}: expected an interval of numbers such as "[3,inf)", or a list of tokens'
    return None


def _any_case(*names: str) -> Callable[[str], str | None]:
    return lambda value: None if value.lower() in names else f"expected one of {', '.join(names)}"


def _metric_at(value: str) -> str | None:
    return None if re.fullmatch(r"\w+(@[1-9]\d*)?", value) else "expected a metric's name, such as NDCG@10"


def _paths_by_part(value: list | dict) -> str | None:
    if isinstance(value, dict) and (unknown := [str(part) for part in value if part not in PARTS]):
        return f"unknown part {', '.join(unknown)}, expected {', '.join(PARTS)}"
    parts = value.values() if isinstance(value, dict) else [value]
    lists = [[part] if isinstance(part, str) else part for part in parts if part is not None]
    fits = all(isinstance(paths, list) and all(isinstance(path, str) and path for path in paths) for paths in lists)
    return None if fits else "expected files, or {train: [...], valid: [...], test: [...]} with a list of files each"


PARTS = ("train", "valid", "test")
"""Parts of `task_files`."""

NUMBER, COUNT = Rule((int, float)), Rule((int,), minimum=1)
NEGATIVES: dict[str, Rule] = {
    "distribution": Rule((str,), choices=("uniform", "popularity")),
    "sample_num": COUNT,
    "alpha": NUMBER,
    "dynamic": Rule((bool,)),
    "candidate_num": Rule((int,), minimum=0),
}
"""Parts of `train_neg_sample_args`."""
OF_COLUMNS = Rule((list,), elements=((list, str),))

RULES: dict[str, Rule] = {
    "model": Rule((str,)),
    "dataset": Rule((str,)),
    "data_path": Rule((str,)),
    "worker": Rule((int,), minimum=0),
    "state": Rule((str,)),
    "encoding": Rule((str,), nullable=True),
    "save_dataloaders": Rule((bool,), choices=(False,)),  # loaders are made for every run, with its mask
    "TIME_FIELD": Rule((str,), nullable=True),
    "LABEL_FIELD": Rule((str,), nullable=True),
    "RATING_FIELD": Rule((str,), nullable=True),
    "user_inter_num_interval": Rule((str,), nullable=True),
    "item_inter_num_interval": Rule((str,), nullable=True),
    "benchmark_filename": Rule((list,), nullable=True),
    "rm_dup_inter": Rule((str,), nullable=True, choices=("first", "last")),
    "additional_feat_suffix": Rule((str, list), nullable=True),
    "clip_grad_norm": Rule((dict,), nullable=True),
    "metric_decimal_place": Rule((int,), minimum=1),
    "tail_ratio": Rule((int, float), nullable=True, above=0),
    **{f"alias_of_{name}_id": replace(OF_COLUMNS, nullable=True) for name in ("user", "item", "entity", "relation")},
    "normalize_field": replace(OF_COLUMNS, nullable=True),
    "numerical_features": OF_COLUMNS,
    "selected_features": OF_COLUMNS,
    "preload_weight": Rule((dict,), nullable=True, elements=((dict, str),)),
    "seq_len": Rule((dict,), nullable=True, elements=((dict, int),)),
    **{key: Rule((dict,), nullable=True) for key in ("unload_col", "unused_col", "val_interval", "discretization")},
    # RecBole reads these although no YAML file of it names them
    "token_num_threshold": Rule((int,)),
    "xgb_early_stopping_rounds": Rule((int,), nullable=True),
}
"""Rules of RecBole's own keys."""

OF_RECBOLES_MODELS: dict[str, Rule] = {"epochs": Rule((int,), minimum=1), "eval_step": Rule((int,), minimum=1)}
"""Stricter rules where the model is one of RecBole's: its trainer needs an epoch and a validation, one of ours may do
without."""


def _encoding(value: str) -> str | None:
    try:
        plain = ASCII.encode(value).removeprefix(codecs.BOM_UTF8)
    except UnicodeError:
        plain = b""
    except (LookupError, ValueError):
        return "unknown encoding, expected a name such as utf-8 or latin-1"
    if plain != ASCII.encode():
        return "rows and cells are found by the bytes of ASCII, expected such an encoding; convert the files to utf-8"
    return None


ASCII = "\t\n" + "".join(map(chr, range(32, 127)))
"""Separators of rows and cells, and whatever else a header or a number has."""


def _cache(value: str) -> str:
    return (
        "data are read from the atomic files each time: a cached data set is a pickle, which can run any code, and may "
        "be older than they are; leave it out"
    )


CHECKS: dict[str, Callable[[Any], str | None]] = {
    "state": _any_case("debug", "info", "warning", "error", "critical"),
    "learner": _any_case("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam"),
    "user_inter_num_interval": _interval,
    "item_inter_num_interval": _interval,
    "load_col": _columns,
    "unload_col": _listed_columns,
    "unused_col": _listed_columns,
    "additional_feat_suffix": _suffixes,
    "val_interval": _intervals,
    "encoding": _encoding,
    "dataset_save_path": _cache,
    "dataloaders_save_path": _cache,
    "eval_args": _eval_args,
    "train_neg_sample_args": _negatives,
    "threshold": _threshold,
    "discretization": _discretization,
    "valid_metric": _metric_at,
    "task_files": _paths_by_part,
}
"""Checks that need code."""


def rule_of_recbole(key: str, defaults: Iterable[Setting]) -> Rule:
    """Return the rule of one of RecBole's keys: from `RULES`, else from its defaults.

    Args:
        key: name of the setting.
        defaults: the key in every YAML file of RecBole that has it (RecBole's models share keys).
    """
    defaults = list(defaults)
    rule = RULES.get(key, Rule())
    if not rule.types:
        types = {type(setting.value) for setting in defaults if setting.value is not None}
        if any(setting.hint.startswith("float") for setting in defaults):
            types.add(float)
        rule = replace(rule, types=tuple(sorted(types, key=lambda kind: kind.__name__)))
    nullable = rule.nullable or any(setting.value is None or "None" in setting.hint for setting in defaults)
    return replace(rule, nullable=nullable, check=CHECKS.get(key))


def problem(rule: Rule, value: Any) -> str | None:
    """Return what is wrong with a value ("got X, expected Y"), or None.

    Args:
        rule: of the key.
        value: to be checked.
    """
    if value is None:
        return None if rule.nullable else f"got nothing, expected {expected(rule)}"
    if (
        not _has_type(rule, value)
        or not _is_finite(value)
        or not all(_within(rule, number) for number in _numbers(value))
    ):
        return f"got {value!r}, expected {expected(rule)}"
    if unknown := _unknown_names(rule, value):
        return unknown
    wrong = rule.check(value) if rule.check else None
    return f"got {value!r}: {wrong}" if wrong else None


def from_text(rule: Rule, text: str) -> Any:
    """Read a value typed on the command line.

    A text key takes it literally (`~`, `None` and `null` are empty where that is allowed). A list may be typed with
    commas alone. Everything else is YAML; text that is not, or does not fit, is returned unchanged, for `problem`.

    Args:
        rule: of the key.
        text: as typed.
    """
    if rule.nullable and text in ("~", "None", "null"):
        return None
    if rule.is_text:
        return text
    if list in rule.types and not text.lstrip().startswith(("[", "{")) and ("," in text or rule.is_text_list):
        parts = [part.strip() for part in text.split(",") if part.strip()]
        return parts if (list, str) in rule.elements else [_yaml(part) for part in parts]
    value = _yaml(text)
    fits = problem(rule, value) is None
    if not fits and list in rule.types and problem(rule, [value]) is None:
        return [value]
    return value if fits or str not in rule.types else text


def normal(rule: Rule, value: Any) -> Any:
    """Return a value in the form that is stored: as YAML has it, a single text as a list of one where a list is due.

    Args:
        rule: of the key.
        value: as given.
    """
    value = _as_in_yaml(value)
    return [value] if rule.is_text_list and isinstance(value, str) else value


def _as_in_yaml(value: Any) -> Any:
    """Return a value from Python as a file would give it: what a run writes of its settings must repeat it.

    Texts that begin with ~/ are paths, of which a shell leaves the ~ alone in --key=~/folder.
    """
    if isinstance(value, Mapping):
        return {_as_in_yaml(key): _as_in_yaml(own) for key, own in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_in_yaml(own) for own in value]
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Path):
        value = str(value)
    return str(Path(value).expanduser()) if isinstance(value, str) and value.startswith("~/") else value


def expected(rule: Rule) -> str:
    """Return what is allowed, in words."""
    if not {list, dict} & set(rule.types) and rule.names:
        return f"one of {', '.join(map(str, rule.names))}" + " or nothing (~)" * rule.nullable
    of = dict(rule.elements)
    words = [WORDS[kind] + (f" of {PLURALS[of[kind]]}" if kind in of else "") for kind in _plain(rule.types)]
    words += ["nothing (~)"] if rule.nullable else []
    named = {"minimum": "at least", "maximum": "at most", "above": "above", "below": "below"}
    bounds = {name: getattr(rule, name) for name in named}
    limits = [f"{word} {bounds[name]:.15g}" for name, word in named.items() if bounds[name] is not None]
    return ", ".join([" or ".join(words) or "another value", *limits])


NEAR_NAME = registries.NEAR
"""Least similarity of a name that an error message suggests."""

WORDS: dict[type, str] = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
}
PLURALS: dict[type, str] = {
    bool: "True or False",
    int: "whole numbers",
    float: "numbers",
    str: "text",
    dict: "mappings",
}


def _yaml(text: str) -> Any:
    try:
        return parse_text(text)
    except yaml.YAMLError:
        return text


def _plain(types: tuple[type, ...]) -> list[type]:
    """Return the types without int where float is allowed as well."""
    return [kind for kind in types if not (kind is int and float in types)]


def _has_type(rule: Rule, value: Any) -> bool:
    if rule.types and not _is_instance(value, rule.types):
        return False
    of = dict(rule.elements)
    if isinstance(value, (list, tuple)) and list in of:
        return all(_is_instance(each, (of[list],)) for each in value)
    if isinstance(value, Mapping) and dict in of:
        return all(isinstance(key, str) and _is_instance(each, (of[dict],)) for key, each in value.items())
    return True


def _is_instance(value: Any, types: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in types
    if isinstance(value, int):
        return int in types or float in types
    if isinstance(value, tuple):
        return list in types
    return isinstance(value, types) or (isinstance(value, Path) and str in types)


def _is_finite(value: Any) -> bool:
    """Return whether a number is finite; those in a mapping may have a meaning of their own (`norm_type: .inf`)."""
    numbers = value if isinstance(value, (list, tuple)) else [value]
    return all(math.isfinite(number) for number in numbers if isinstance(number, float))


def _numbers(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _within(rule: Rule, number: Any) -> bool:
    if all(bound is None for bound in (rule.minimum, rule.maximum, rule.above, rule.below)):
        return True
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return False
    return (
        (rule.minimum is None or number >= rule.minimum)
        and (rule.maximum is None or number <= rule.maximum)
        and (rule.above is None or number > rule.above)
        and (rule.below is None or number < rule.below)
    )


def _unknown_names(rule: Rule, value: Any) -> str | None:
    """Describe unknown names in a value (a text, the elements of a list, the keys of a mapping), or return None."""
    several = isinstance(value, (list, tuple, dict))
    if not (rule.registry or rule.choices) or (str not in rule.types and bool not in rule.types and not several):
        return None
    given = list(value) if several else [value]
    if not [name for name in given if name not in rule.names]:
        return None
    if rule.registry and not rule.choices and (several or isinstance(NAMES[rule.registry], ModelNames)):
        return str(NAMES[rule.registry].unknown(given))
    allowed = ", ".join(map(str, rule.names))
    near = "" if several else nearest(str(value), map(str, rule.names), NEAR_NAME)
    return f"got {value!r}, expected {'names among' if several else 'one of'} {allowed}{near}"
