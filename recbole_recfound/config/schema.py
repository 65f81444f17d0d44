"""What each setting may hold. Types follow from the default in the YAML file; `RULES` is for what a default cannot say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from recbole_recfound.config.property_files import Setting, parse_text
from recbole_recfound.runtime.registry import (
    ADAPTERS,
    HISTORIES,
    MERGE_METHODS,
    SCHEDULERS,
    SPARSIFICATIONS,
    TASKS,
    Registry,
)


@dataclass(frozen=True)
class Rule:
    """What a value may be.

    Args:
        types: allowed types; empty: those of the defaults in the YAML files (and any, where every default is empty).
        nullable: whether an empty value (`~`) is allowed.
        choices: the only values allowed, or a function that returns them (registries are complete at the first lookup only).
        minimum: smallest number allowed (in a list: of each element).
        maximum: largest number allowed.
        above: numbers must be larger than this.
        below: numbers must be smaller than this.
        check: returns what is wrong with a value, or None.
        names: registry of the names that a list or the keys of a mapping may have.
    """

    types: tuple[type, ...] = ()
    nullable: bool = False
    choices: tuple | Callable[[], tuple] = ()
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    check: Callable[[Any], str | None] | None = None
    names: Registry[Any] | None = None


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
    if value.get("order", "TO") not in ("TO", "RO"):
        return "order must be TO (by time) or RO (random)"
    modes = value.get("mode", "full")
    for mode in modes.values() if isinstance(modes, dict) else [modes]:
        if not re.fullmatch(r"full|labeled|(uni|pop)\d+", str(mode)):
            return f"mode {mode!r} must be full, labeled, uniN or popN"
    return None


LEFT_OUT = ("valid_and_test", "valid_only", "test_only")


def _texts(value: Iterable) -> str | None:
    return None if all(isinstance(word, str) for word in value) else "must hold text only"


def _columns(value: dict) -> str | None:
    fits = all(isinstance(columns, list) and _texts(columns) is None for columns in value.values())
    return None if fits else "must name a list of columns for each file"


def _settings_by_name(value: dict) -> str | None:
    return (
        None
        if all(isinstance(settings, dict) for settings in value.values())
        else "must hold a mapping of settings for each name"
    )


def _interval(value: str) -> str | None:
    number = r"\s*-?(?:inf|\d+(?:\.\d+)?)\s*"
    parts = value.split(";")
    fits = all(re.fullmatch(rf"[\[(]{number},{number}[\])]", part.strip()) for part in parts)
    return None if fits else 'must be an interval such as "[5,inf)"'


def _any_case(*names: str) -> Callable[[str], str | None]:
    return lambda value: None if value.lower() in names else f"expected one of {', '.join(names)}"


def _metric_at(value: str) -> str | None:
    return None if re.fullmatch(r"\w+(@[1-9]\d*)?", value) else "must be a metric's name, such as NDCG@10"


def _not_empty(value: float | list) -> str | None:
    return "must hold at least one value" if value == [] else None


def _task_counts(value: int | dict) -> str | None:
    counts = value.values() if isinstance(value, dict) else [value]
    whole = all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts)
    if not whole:
        return "must be whole numbers, at least 0"
    return _texts(value) if isinstance(value, dict) else None


def _texts_by_name(value: dict) -> str | None:
    return _texts([*value, *value.values()])


def _paths_by_part(value: list | dict) -> str | None:
    if isinstance(value, dict) and (unknown := [str(part) for part in value if part not in PARTS]):
        return f"unknown part {', '.join(unknown)}, expected {', '.join(PARTS)}"
    parts = value.values() if isinstance(value, dict) else [value]
    lists = [[part] if isinstance(part, str) else part for part in parts if part is not None]
    fits = all(isinstance(paths, list) and all(isinstance(path, str) and path for path in paths) for paths in lists)
    return (
        None
        if fits
        else "must be a list of files, or {train: [...], valid: [...], test: [...]} with a list of files each"
    )


PARTS = ("train", "valid", "test")
"""Parts of `task_files`."""

RULES: dict[str, Rule] = {
    # what to run
    "model": Rule((str,)),
    "dataset": Rule((str,)),
    "data_path": Rule((str,)),
    "use_gpu": Rule((bool,), nullable=True),
    "gpu_id": Rule((str, int, list)),
    "seed": Rule(minimum=0, maximum=2**32 - 1),
    "worker": Rule(minimum=0),
    "state": Rule(check=_any_case("debug", "info", "warning", "error", "critical")),
    "encoding": Rule((str,), nullable=True),
    "save_dataloaders": Rule(choices=(False,)),  # the loaders are made anew for every run, with its mask
    # the run
    "time_budget": Rule((int, float), minimum=0),
    "baselines": Rule((list,), check=_texts),
    "baseline_args": Rule((dict,), check=_settings_by_name),
    "baseline_time_budget": Rule((int, float), minimum=0),
    "resume": Rule((str,)),
    # data
    "load_col": Rule((dict,), nullable=True, check=_columns),
    "TIME_FIELD": Rule((str,), nullable=True),
    "LABEL_FIELD": Rule((str,), nullable=True),
    "RATING_FIELD": Rule((str,), nullable=True),
    "user_inter_num_interval": Rule((str,), nullable=True, check=_interval),
    "item_inter_num_interval": Rule((str,), nullable=True, check=_interval),
    "benchmark_filename": Rule((list,), nullable=True),
    "rm_dup_inter": Rule((str,), nullable=True, choices=("first", "last")),
    "additional_feat_suffix": Rule((str, list), nullable=True),
    "MAX_ITEM_LIST_LENGTH": Rule(minimum=1),
    # training
    "epochs": Rule(minimum=1),
    "train_batch_size": Rule(minimum=1),
    "eval_batch_size": Rule(minimum=1),
    "learning_rate": Rule(above=0),
    "weight_decay": Rule(minimum=0),
    "learner": Rule(check=_any_case("adam", "adamw", "sgd", "adagrad", "rmsprop", "sparse_adam")),
    "clip_grad_norm": Rule((dict,), nullable=True),
    "train_neg_sample_args": Rule((dict,), nullable=True),
    # evaluation
    "eval_args": Rule(check=_eval_args),
    "metrics": Rule((list, str)),
    "topk": Rule((list, int), minimum=1),
    "valid_metric": Rule(check=_metric_at),
    "metric_decimal_place": Rule(minimum=1),
    "tail_ratio": Rule((int, float), nullable=True, above=0),
    # RecFound (properties/model/RecFound.yaml)
    "backbone": Rule((str,)),
    "precision": Rule((str,), choices=("auto", "bf16", "float32")),
    "history_mode": Rule(choices=lambda: ("auto", "text", *HISTORIES)),
    "text_form": Rule(choices=("positions", "prompt")),
    "backbone_layers": Rule((int,), nullable=True, minimum=0),
    "user_tower": Rule(choices=("llm", "small")),
    "text_layers": Rule((int,), nullable=True, minimum=1),
    "frozen_feature_layers": Rule((list,), minimum=1),
    "body": Rule(choices=("pretrained", "random")),
    "adapter": Rule(choices=lambda: (*ADAPTERS, "none")),
    "experts_per_group": Rule(minimum=1, maximum=64),
    "lora_r": Rule(minimum=1),
    "lora_alpha": Rule((int, float), above=0),
    "lora_dropout": Rule((int, float), minimum=0, below=1),
    "item_text_fields": Rule((list,), nullable=True),
    "item_features": Rule(choices=("text", "random")),
    "id_scale": Rule((int, float), above=0),
    "max_item_tokens": Rule(minimum=1),
    "max_prompt_tokens": Rule(minimum=16),
    "max_answer_tokens": Rule(minimum=2),
    "history_titles": Rule(minimum=1),
    "sr_form": Rule(choices=("letters", "title")),
    "generative_candidates": Rule(minimum=0),
    "sr_candidates": Rule(minimum=2, maximum=26),
    "max_generative_examples": Rule(minimum=2),
    "task_files": Rule((list, dict), check=_paths_by_part),
    "task_test_examples": Rule((int, dict), check=_task_counts, names=TASKS),
    "tasks": Rule((list,), check=_texts, names=TASKS),
    "balanced_tasks": Rule((list,), check=_texts, names=TASKS),
    "only_tasks": Rule((list,), check=_texts, names=TASKS),
    "prompts": Rule((dict,), check=_texts_by_name, names=TASKS),
    "answer_beams": Rule(minimum=1),
    "bert_score_model": Rule((str,)),
    "hard_negatives": Rule(minimum=0),
    "negative_source": Rule(choices=("random", "title")),
    "item_neighbours": Rule(minimum=1),
    "neighbour_window": Rule(minimum=1),
    "embedding_batch": Rule(minimum=1),
    "sequence_targets": Rule(minimum=1),
    "generative_batch": Rule(minimum=1),
    "contrastive_batch": Rule(minimum=1),
    "generative_chunk": Rule(minimum=1),
    "generative_pass_tokens": Rule(minimum=1),
    "gradient_accumulation": Rule(minimum=1),
    "gradient_cache_chunk": Rule(minimum=0),
    "scheduler": Rule(choices=lambda: tuple(SCHEDULERS)),
    "s2sched_history": Rule(minimum=2),
    "s2sched_warmup": Rule(minimum=0),
    "s2sched_tau": Rule((int, float), above=0),
    "probe_interval": Rule(minimum=1),
    "probe_size": Rule(minimum=1),
    "probe_share": Rule((int, float), above=0, below=1),
    "refresh_interval": Rule(minimum=0),
    "temperature": Rule((int, float), above=0),
    "pair_temperature": Rule((int, float), above=0),
    "full_softmax_items": Rule(minimum=0),
    "sampled_items": Rule(minimum=1),
    "adapter_rate": Rule((int, float), above=0),
    "max_grad_norm": Rule((int, float), above=0),
    "max_steps": Rule((int,), nullable=True, minimum=0),
    "eval_interval": Rule(minimum=1),
    "warmup_steps": Rule(minimum=0),
    "merge_method": Rule(choices=lambda: (*MERGE_METHODS, "none")),
    "merge_last": Rule(minimum=2),
    "merge_sparsify": Rule(choices=lambda: ("none", *SPARSIFICATIONS)),
    "merge_density": Rule((int, float), above=0, maximum=1),
    # IAK (properties/model/IAK.yaml)
    "base_checkpoint": Rule((str,)),
    "base_model": Rule((str,)),
    "base_args": Rule((dict,)),
    "domain": Rule((list,)),
    "kernel_args": Rule((dict,)),
    "iak_args": Rule((dict,)),
    "control": Rule((str,), nullable=True),
    "tuning_baselines": Rule((list,), check=_texts),
    "tuning_args": Rule((dict,), check=_settings_by_name),
    # RecBole reads these although no YAML file of it names them
    "token_num_threshold": Rule((int,)),
    "xgb_early_stopping_rounds": Rule((int,), nullable=True),
}


def rule_for(key: str, defaults: Iterable[Setting]) -> Rule:
    """The rule of a key: from `RULES`, with what it leaves open taken from the key's defaults.

    Args:
        key: the name of the setting.
        defaults: the key in every YAML file that has it (RecBole's models share keys).
    """
    rule = RULES.get(key, Rule())
    defaults = list(defaults)
    if not rule.types:
        types = {type(setting.value) for setting in defaults if setting.value is not None}
        if any(setting.hint.startswith("float") for setting in defaults):
            types.add(float)
        rule = replace(rule, types=tuple(types))
    nullable = any(setting.value is None or "None" in setting.hint for setting in defaults)
    return replace(rule, nullable=rule.nullable or nullable)


def problem(rule: Rule, value: Any) -> str | None:
    """What is wrong with a value, as the end of a sentence, or None."""
    if value is None:
        return None if rule.nullable else f"must not be empty, expected {_expected(rule)}"
    if rule.types and not _is_instance(value, rule.types):
        return f"is {value!r}, expected {_expected(rule)}"
    choices = rule.choices() if callable(rule.choices) else rule.choices
    if choices and value not in choices:
        return f"is {value!r}, expected one of {', '.join(map(str, choices))}"
    for number in value if isinstance(value, (list, tuple)) else [value]:
        wrong = _out_of_range(rule, number)
        if wrong:
            return wrong
    wrong = rule.check(value) if rule.check else None
    if wrong:
        return f"is {value!r}: {wrong}"
    named = rule.names is not None and isinstance(value, (list, tuple, dict))
    return (rule.names.unknown(value) or None) if named else None


def from_text(rule: Rule, text: str) -> Any:
    """Reads a value typed on the command line, the way the rule asks for: `10` is text for a name and a number for a size.

    A list may be typed with commas alone. Gives `text` itself where nothing fits, for `problem` to say what is wrong with it.
    """
    try:
        value = parse_text(text)
    except yaml.YAMLError:
        value = text
    if value == "None" and rule.nullable:
        return None
    fits = problem(rule, value) is None
    if list in rule.types and isinstance(value, str) and ("," in text or not fits):
        return [parse_text(part) for part in text.split(",") if part.strip()]
    if fits:
        return value
    return text if str in rule.types else value


def _out_of_range(rule: Rule, number: Any) -> str | None:
    bounds = (rule.minimum, rule.maximum, rule.above, rule.below)
    if all(bound is None for bound in bounds):
        return None
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        return f"is {number!r}, expected a number"
    fits = (
        (rule.minimum is None or number >= rule.minimum)
        and (rule.maximum is None or number <= rule.maximum)
        and (rule.above is None or number > rule.above)
        and (rule.below is None or number < rule.below)
    )
    if fits:
        return None
    words = ("at least", "at most", "above", "below")
    return f"is {number!r}, must be " + " and ".join(
        f"{word} {bound:g}" for word, bound in zip(words, bounds) if bound is not None
    )


def _is_instance(value: Any, types: tuple[type, ...]) -> bool:
    if isinstance(value, bool):
        return bool in types
    if isinstance(value, int):
        return int in types or float in types
    if isinstance(value, tuple):
        return list in types
    return isinstance(value, types) or (isinstance(value, Path) and str in types)


def _expected(rule: Rule) -> str:
    words = {
        bool: "True or False",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a mapping",
    }
    names = [words.get(kind, kind.__name__) for kind in sorted(rule.types, key=lambda kind: kind.__name__)]
    return " or ".join([*names, *(["nothing (~)"] if rule.nullable else [])])
