"""Settings of the base of IAK: its own `Config`, made from its checkpoint and the settings of the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

from recbole.config import Config as RecBoleConfig

from recbole_recfound.config.configurator import Config
from recbole_recfound.config.models import OUR_MODELS
from recbole_recfound.config.shared import shared_keys, without_empty
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.pretrained.checkpoint import BaseCheckpoint, read_base

OF_THE_SPLIT = (
    "eval_args",
    "threshold",
    "benchmark_filename",
    "user_inter_num_interval",
    "item_inter_num_interval",
    "val_interval",
    "rm_dup_inter",
    "filter_inter_by_user_or_item",
    "order_ties",
    "cold_items",
)
"""Settings that decide which rows the base was trained on: other values would test it on its own training rows."""

OF_THE_RUN = ("baselines", "baseline_args", "baseline_time_budget", "time_budget", "checkpoint_dir")
"""Further settings of a run that training and comparing the base needs."""

ADOPTED = (
    "MODEL_TYPE",
    "MODEL_INPUT_TYPE",
    "train_neg_sample_args",
    "eval_type",
    "eval_batch_size",
    "MAX_ITEM_LIST_LENGTH",
    "data_path",
)
"""Settings that RecBole derives from the model; those of IAK are its base's, which takes what the user has typed."""

_bases: WeakKeyDictionary[RecBoleConfig, tuple[Config, BaseCheckpoint | None]] = WeakKeyDictionary()


def base_of(config: RecBoleConfig) -> tuple[Config, BaseCheckpoint | None]:
    """Return the base's settings and its checkpoint (None: the base is trained first).

    The settings of IAK get those that follow from the base: type of model, data, evaluation.

    Args:
        config: settings of an IAK run, RecBole's own `Config` or ours.

    Raises:
        ConfigError: wrong settings, or ones that contradict the checkpoint.
    """
    if config not in _bases:
        base, checkpoint = base_config(config.dataset, config.external_config_dict, dict(config.final_config_dict))
        given = config.external_config_dict
        for key in shared_keys() - {"valid_metric"}:
            if key in base:
                config.final_config_dict[key] = base[key]
        for key in ADOPTED:
            config.final_config_dict[key] = base[key]
        if checkpoint is not None:
            config.final_config_dict["base_model"] = checkpoint.model  # and not the default, which names another base
        if "valid_metric" not in given:
            config.final_config_dict["valid_metric"] = default_valid_metric(base)
        _bases[config] = base, checkpoint
    return _bases[config]


def default_valid_metric(base: RecBoleConfig) -> str:
    """Return the metric that stops and guards kernels: for click models the log loss.

    A kernel can raise the AUC of its own domain and yet be so overconfident that rows of different domains are ordered
    worse.
    """
    names = {name.lower(): name for name in base["metrics"]}
    return names.get("logloss", base["valid_metric"])


def base_config(
    dataset: str, given: Mapping[str, Any], settings: Mapping[str, Any]
) -> tuple[Config, BaseCheckpoint | None]:
    """Build the settings of the base.

    Args:
        dataset: name of the data set.
        given: settings typed by the user; shared ones win over those of a checkpoint.
        settings: all settings of the run: `base_checkpoint`, `trust_checkpoint`, `base_model`, `base_args` and
            `OF_THE_RUN`.

    Raises:
        ConfigError: wrong settings, or ones that contradict the checkpoint.
    """
    checkpoint = None
    if settings["base_checkpoint"]:
        checkpoint = read_base(settings["base_checkpoint"], settings["trust_checkpoint"])
        _check_same_split(dataset, given, checkpoint)
    name = checkpoint.model if checkpoint else settings["base_model"]
    if checkpoint is None and name in OUR_MODELS:
        raise ConfigError(f"base_model: {name} is trained by its own run; name its folder with --base_checkpoint")
    # `repeatable` is not adopted from the base: RecBole's own value for a sequential one is not what the user wants.
    shared_names = (shared_keys() | {*ADOPTED, "repeatable"}) - {"valid_metric"}
    shared = {key: value for key, value in given.items() if key in shared_names}
    run = without_empty({key: settings[key] for key in OF_THE_RUN if key in settings})
    own = {**(checkpoint.settings if checkpoint else {}), **shared, **(settings["base_args"] or {}), **run}
    metric_of_base = "valid_metric" in (settings["base_args"] or {})
    try:
        return Config(name, dataset, None, own, is_base=True), checkpoint
    except ConfigError as error:
        of_metric = [line.startswith("valid_metric:") for line in error.problems]
        if all(of_metric) and "valid_metric" in given and not metric_of_base:
            # The base's default is not among the metrics of the run; the user's own one is that of the kernels.
            return Config(name, dataset, None, own | {"valid_metric": given["valid_metric"]}, is_base=True), checkpoint
        raise ConfigError(
            [
                f"base_args: {line}" if found and metric_of_base else line
                for line, found in zip(error.problems, of_metric, strict=True)
            ]
        ) from None


def _check_same_split(dataset: str, given: Mapping[str, Any], checkpoint: BaseCheckpoint) -> None:
    problems = []
    if checkpoint.dataset != dataset:
        problems.append(
            f"dataset: got {dataset}, but {checkpoint.path} was trained on {checkpoint.dataset}: "
            f"--dataset={checkpoint.dataset}"
        )
    if given.get("base_model", checkpoint.model) != checkpoint.model:
        problems.append(
            f"base_model: got {given['base_model']}, but {checkpoint.path} is a {checkpoint.model}; leave it out, or "
            "name another checkpoint"
        )
    share = (given.get("iak_args") or {}).get("base_share", checkpoint.share)
    if share != checkpoint.share:
        seen = "all training rows" if checkpoint.share is None else f"{checkpoint.share} of the training rows"
        problems.append(f"iak_args: base_share: got {share}, but {checkpoint.path} has seen {seen}; leave it out")
    for key in OF_THE_SPLIT:
        if key in given and not _same_split(key, given[key], checkpoint.settings.get(key)):
            problems.append(
                f"{key}: got {given[key]}, but the base was trained with {checkpoint.settings.get(key)}: another split "
                "would test it on rows it was trained on; leave it out"
            )
    if problems:
        raise ConfigError(problems)


def _same_split(key: str, value: Any, theirs: Any) -> bool:
    """Return whether a setting keeps the base's split; of eval_args only the parts that choose held-out rows count."""
    if key != "eval_args" or theirs is None:
        return (value or None) == (theirs or None)
    return all(value.get(part, theirs.get(part)) == theirs.get(part) for part in ("split", "order", "group_by"))
