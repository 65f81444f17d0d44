"""One protocol for every row of a table: the same split, the same candidates, the same mask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import digits
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.dataset import Dataset
from recbole.data.utils import create_dataset, create_samplers, get_dataloader
from recbole.sampler import KGSampler
from recbole.utils import EvaluatorType, FeatureSource, FeatureType, ModelType

from recbole_recfound.atomic.cold import cold_for_validation
from recbole_recfound.atomic.find import NO_DATASET
from recbole_recfound.atomic.match import match_ids
from recbole_recfound.atomic.times import unit_of
from recbole_recfound.config.configurator import Config
from recbole_recfound.config.models import LABELS_OR_NEGATIVES, OUR_MODELS
from recbole_recfound.data.split.eval_loader import FairEvalDataLoader
from recbole_recfound.data.split.histories import Histories
from recbole_recfound.data.split.interactions import histories_before, pairs_of
from recbole_recfound.errors import ConfigError, DataError, in_one_line


@dataclass(frozen=True)
class Splits:
    """A data set, split and built by RecBole for one model.

    The orders of all rows are RecBole's: interactions with equal timestamps must never be sorted again.

    Args:
        config: the settings it was built with.
        dataset: the whole data set.
        train_set: RecBole's built training rows; for sequential models one row per prefix.
        valid_set: RecBole's built validation rows.
        test_set: RecBole's built test rows.
        train_data: loader of the training rows.
        valid_data: loader for RecBole's `Trainer.evaluate`; with `cold_items` of the rows of new items alone.
        test_data: loader for RecBole's `Trainer.evaluate`.
        known_at_valid: each user's training history, oldest first.
        known_at_test: the same, with the validation item behind it.
        files: what was found in .item and .user beside the interactions, one line each.
    """

    config: Config
    dataset: Dataset
    train_set: Dataset
    valid_set: Dataset
    test_set: Dataset
    train_data: Any
    valid_data: Any
    test_data: Any
    known_at_valid: Histories
    known_at_test: Histories
    files: tuple[str, ...] = ()


def with_side_files(splits: Splits, items: str | None = None, strict: bool = False) -> Splits:
    """Compare the ids of .item and .user with those of the interactions.

    Args:
        splits: split data set.
        items: column of ids in .item; None: the interactions' own name of it.
        strict: refuse an .item file that has no id in common; if not, this is one of the lines.

    Returns:
        The splits, with a line on each file.

    Raises:
        DataError: no such column, or no id in common.
    """
    config, dataset = splits.config, splits.dataset
    lines = []
    for suffix, ids, column in (
        ("item", dataset.iid_field, items or dataset.iid_field),
        ("user", dataset.uid_field, dataset.uid_field),
    ):
        path = Path(config["data_path"]) / f"{config['dataset']}.{suffix}"
        if not path.is_file():
            continue
        tokens = {str(token) for token in dataset.field2id_token[ids][1:]}
        try:
            match = match_ids(path, column, f"{suffix}s", tokens, config["field_separator"], config["encoding"])
            lines.append(str(match))
        except DataError as error:
            if strict and suffix == "item":
                raise DataError(
                    f"{error}. Its texts are needed: item_args: {{id_field: COLUMN}} names the column of ids, "
                    "item_args: {read_file: False} does without the file"
                ) from None
            lines.append(str(error))
    return replace(splits, files=tuple(lines))


def build_splits(config: Config) -> Splits:
    """Read, filter and split the data set as RecBole does for the model in `config`, and make the loaders.

    Args:
        config: a run's settings.

    Raises:
        DataError: a part of the split is empty, or RecBole rejects the data.
        ConfigError: one of our models would be evaluated other than by full ranking.
    """
    ranks = config["MODEL_TYPE"] != ModelType.CONTEXT
    known = getattr(config.model_class, "modes", ("full",))
    if config["model"] in OUR_MODELS and ranks and not kinds_of_modes(config) <= set(known):
        raise ConfigError(
            f"eval_args: mode is {config['eval_args']['mode']}, but {config['model']} ranks all items (mode: full)"
        )
    _check_scored(config)
    _refuse_sequences(config)
    _check_cold(config)
    with in_one_line(config["dataset"], DataError):
        dataset = create_dataset(config)
        built = dataset.build()
        _refuse_unknown_columns(config, built[0])
        _refuse_empty(config, built)
        samplers = create_samplers(config, dataset, built)
        _refuse_full_users(config, samplers)
    train_set, valid_set, test_set = built
    validated = cold_for_validation(valid_set) if config["cold_items"] else valid_set
    if len(validated) == 0:
        raise DataError(
            f"cold_items: no validation row of {config['dataset']} has one of the {len(dataset.cold_valid)} items that "
            "are held out for validation. Hold out more items"
        )
    known_at_valid, known_at_test, _ = histories_before(built, train_set.user_num)
    return Splits(
        config,
        dataset,
        train_set,
        valid_set,
        test_set,
        _train_loader(config, dataset, train_set, samplers[0]),
        _eval_loader(config, "valid", validated, samplers[1], known_at_valid),
        _eval_loader(config, "test", test_set, samplers[2], known_at_test),
        known_at_valid,
        known_at_test,
    )


def kinds_of_modes(config: Config) -> set[str]:
    """Return the modes of `eval_args` without their numbers: full, labeled, uni or pop.

    Args:
        config: settings of a model.
    """
    return {mode.rstrip(digits) for mode in config["eval_args"]["mode"].values()}


def check_topk(splits: Splits) -> None:
    """Refuse a ranked list that is longer than the catalogue.

    Raises:
        ConfigError: naming topk.
    """
    longest, items = max(splits.config["topk"]), splits.train_set.item_num
    if kinds_of_modes(splits.config) != {"labeled"} and longest > items:
        raise ConfigError(f"topk: {longest}, but there are only {items - 1} items to rank")


def check_labels(splits: Splits) -> None:
    """Check that there are labels where a model learns them or is scored by them; see `_check_both_labels`.

    Raises:
        ConfigError: no such column, or labels that do not fit.
    """
    config, label = splits.config, splits.config["LABEL_FIELD"]
    scored = "labeled" in kinds_of_modes(config)
    if (scored or _learns_labels(config)) and label not in splits.dataset.inter_feat.columns:
        why = "is scored by labels (eval_args: mode labeled)"
        raise ConfigError(
            f"threshold: {config['model']} {'predicts clicks' if config['MODEL_TYPE'] == ModelType.CONTEXT else why}, "
            f"but there is no column {label!r}; make one from ratings: --threshold={{rating: 4}}"
        )
    _check_both_labels(splits)


def _learns_labels(config: Config) -> bool:
    """Return whether a model is trained on the labels of rows; drawn negatives have labels of their own."""
    drawn = config["train_neg_sample_args"]["distribution"] != "none"
    return not drawn and (config["MODEL_TYPE"] == ModelType.CONTEXT or config["model"] in LABELS_OR_NEGATIVES)


def _check_both_labels(splits: Splits) -> None:
    """Check that labels that are learned or compared are 0 and 1, and that each such part has both.

    Raises:
        ConfigError: other labels, or a part whose labels are all the same.
    """
    config, label = splits.config, splits.config["LABEL_FIELD"]
    if label not in splits.dataset.inter_feat.columns:
        return
    kinds, metrics = kinds_of_modes(config), {name.lower() for name in config["metrics"]}
    graded = metrics <= {"rmse", "mae", "logloss"} and config["model"] not in OUR_MODELS
    if _learns_labels(config) or ("labeled" in kinds and not graded):
        _check_label_values(label, splits.dataset.inter_feat[label], graded)
    if kinds != {"labeled"}:
        return
    parts = {}
    if config["train_neg_sample_args"]["distribution"] == "none":
        parts["training"] = splits.train_set
    if "auc" in metrics:
        parts |= {"validation": splits.valid_set, "test": splits.test_set}
    for name, part in parts.items():
        labels = part.inter_feat[label].unique().tolist()
        if len(labels) == 1:
            raise ConfigError(
                f"threshold: got only rows with the label {labels[0]:.9g} in the {name} part ({len(part):,} rows), "
                "expected both labels: another threshold or another split has them"
            )


def _check_label_values(label: str, values: torch.Tensor, graded: bool) -> None:
    """Refuse labels other than 0 and 1.

    Args:
        label: name of the column.
        values: all labels.
        graded: whether numbers between 0 and 1, such as normalised ratings, are labels too.

    Raises:
        ConfigError: names some of them.
    """
    others = values[~((values >= 0) & (values <= 1) if graded else (values == 0) | (values == 1))]
    if len(others):
        some = ", ".join(f"{value:.9g}" for value in others.unique()[:MOST_LABELS].tolist())
        allowed = "0 to 1" if graded else "0 and 1"
        raise ConfigError(
            f"LABEL_FIELD: got {label} with labels other than {allowed} in {len(others):,} of {len(values):,} rows, "
            f"such as {some}; make labels of them with threshold: {{{label}: NUMBER}} (1 from NUMBER on, else 0)"
        )


MOST_LABELS = 5
"""Wrong labels that a message names."""


@dataclass(frozen=True)
class Protocol:
    """The rules under which every row of a table is scored.

    Attributes:
        dataset: name of the data set.
        valid_metric: metric that chooses checkpoints.
        seed: seed of the run.
        rules: split, order, mode, mask and the numbers of test users and items; empty without atomic files.
    """

    dataset: str
    valid_metric: str
    seed: int
    rules: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, config: Config, splits: Splits | None) -> Protocol:
        """Read the protocol from settings and split data (None: no atomic files).

        Args:
            config: settings of the run.
            splits: split data set, or None.
        """
        if splits is None:
            return cls(NO_DATASET, config["valid_metric"], config["seed"])
        arguments = config["eval_args"]
        rules = {
            "split": f"files {', '.join(parts)}"
            if (parts := config["benchmark_filename"])
            else str(arguments["split"]),
            "order": arguments["order"],
            "mode": arguments["mode"]["test"] if isinstance(arguments["mode"], dict) else arguments["mode"],
            "mask_history": config["mask_history"],
            "cold_items": config["cold_items"],
            "test_users": config["test_users"],
            "load_col": config["load_col"],
            "users": len(np.unique(held_out(splits.test_set)[:, 0])),
            "items": splits.test_set.item_num - 1,
            "repeats": float(_repeats(splits).mean()),
            **_times(splits),
            "left_out": getattr(splits.dataset, "left_out", {}),
            "files": list(splits.files),
        }
        return cls(config["dataset"], config["valid_metric"], config["seed"], rules)

    def to_json(self) -> dict[str, Any]:
        """Return the protocol as in `results.json`."""
        return {"dataset": self.dataset, **self.rules, "valid_metric": self.valid_metric, "seed": self.seed}


def _repeats(splits: Splits) -> np.ndarray:
    """Return which test items the user has had before, bool [n]."""
    users, items = pairs_of(splits.test_set)
    row, item = splits.known_at_test.flat(users)
    width = splits.test_set.item_num
    return np.isin(np.arange(len(users)) * width + items, row * width + item)


def _times(splits: Splits) -> dict[str, Any]:
    """Return the unit of the times by which rows are ordered, and how many rows share theirs."""
    dataset = splits.dataset
    if getattr(dataset, "time_range", None) is None:
        return {}
    pairs = held_out(splits.test_set)
    tied = np.isin(pairs[:, 0] * dataset.item_num + pairs[:, 1], dataset.tied_rows).mean()
    return {
        "time_unit": unit_of(*dataset.time_range).name,
        "order_ties": splits.config["order_ties"],
        "tied_rows": dataset.tied_neighbours / dataset.inter_count,
        "tied_test_rows": float(tied),
    }


def further_tests(splits: Splits) -> dict[str, FairEvalDataLoader]:
    """Return loaders of the test rows with other rankings, by the name that a row of the table gives their metrics.

    `unmasked`: with the user's old items, if `score_unmasked` asks for it; `unseen`: cold items alone (`cold_items`).

    Args:
        splits: the data of a model.
    """
    config, loader = splits.config, splits.test_data
    if not isinstance(loader, FairEvalDataLoader):
        return {}
    found = {}
    if config["score_unmasked"] and config["mask_history"]:
        found["unmasked"] = loader.unmasked()
    if config["cold_items"]:
        found["unseen"] = loader.only(splits.dataset.cold)
    return found


def training_part(train_data: Any, rows: np.ndarray) -> Any:
    """Return a loader of some training rows only.

    Args:
        train_data: RecBole's loader of all training rows.
        rows: bool [N], the rows to keep.
    """
    whole = train_data._dataset
    part = whole.copy(whole.inter_feat[torch.from_numpy(np.flatnonzero(rows))])
    return _train_loader(whole.config, whole, part, train_data._sampler)


def held_out(dataset: Dataset) -> np.ndarray:
    """Return the (user, item) pairs of a built validation or test set, int64 [n, 2], by user."""
    users, items = pairs_of(dataset)
    order = np.lexsort((items, users))
    return np.stack([users[order], items[order]], axis=1)


def _refuse_sequences(config: Config) -> None:
    """Refuse a data set that comes split as sequences for models that read interactions."""
    columns = (config["load_col"] or {}).get("inter") or ()
    listed = [name for name in columns if name.endswith(config["LIST_SUFFIX"] or "_list")]
    if config["benchmark_filename"] and listed and config["model"] in OUR_MODELS:
        raise ConfigError(
            f"benchmark_filename: {config['model']} reads one interaction per row, and {', '.join(listed)} holds "
            "sequences. Give it files of interactions, or leave the column out of load_col"
        )


def _check_scored(config: Config) -> None:
    """Refuse metrics of rankings for labelled rows, which are ranked among nothing."""
    if config["eval_type"] == EvaluatorType.RANKING and "labeled" in kinds_of_modes(config):
        raise ConfigError(
            f"eval_args: got mode {config['eval_args']['mode']} and metrics {', '.join(config['metrics'])}, which "
            "score rankings; expected full, uniN or popN, or for mode labeled metrics among AUC, LogLoss, MAE and RMSE"
        )


def _refuse_unknown_columns(config: Config, dataset: Dataset) -> None:
    """Refuse columns of interactions that a click model reads and that items without an interaction do not have."""
    if config["MODEL_TYPE"] != ModelType.CONTEXT or config["double_tower"] or "full" not in kinds_of_modes(config):
        return
    tokens = dataset.fields([FeatureType.TOKEN, FeatureType.TOKEN_SEQ], [FeatureSource.INTERACTION])
    numbers = dataset.fields([FeatureType.FLOAT, FeatureType.FLOAT_SEQ], [FeatureSource.INTERACTION])
    read = [*tokens, *(field for field in numbers if field in config["numerical_features"])]
    if unknown := [field for field in read if field != config["LABEL_FIELD"]]:
        raise ConfigError(
            f"load_col: inter: got {', '.join(unknown)}, which {config['model']} reads and which is not known of items "
            "that a user has not interacted with (eval_args: mode full ranks them); leave it out of load_col, or name "
            "it in unused_col"
        )


def _check_cold(config: Config) -> None:
    """Refuse a split by which the last interaction of a user is not the test row."""
    arguments = config["eval_args"]
    by_last = arguments["split"] == {"LS": "valid_and_test"} and arguments["order"] == "TO"
    ranks = set(arguments["mode"].values()) == {"full"}
    if config["cold_items"] and not (by_last and ranks and config["benchmark_filename"] is None):
        raise ConfigError(
            "cold_items: needs eval_args: {split: {LS: valid_and_test}, order: TO, group_by: user, mode: full}, by "
            "which the last interaction of a user is the test row"
        )


def _refuse_full_users(config: Config, samplers: Sequence[Any]) -> None:
    """Refuse, before training, users for whom no negatives can be drawn."""
    kinds = (config["train_neg_sample_args"], config["valid_neg_sample_args"], config["test_neg_sample_args"])
    for sampler, kind in zip(samplers, kinds, strict=True):
        drawn = kind["distribution"] != "none" and kind["sample_num"] != "none"
        if sampler is not None and drawn and hasattr(sampler, "refuse_full_users"):
            sampler.refuse_full_users(range(len(sampler.used_ids)))


def _refuse_empty(config: Config, built: list[Dataset]) -> None:
    split, parts = config["eval_args"]["split"], config["benchmark_filename"]
    if len(built) != len(PARTS):
        raise ConfigError(
            f"benchmark_filename: got {len(built)} parts ({', '.join(parts)}), expected three: training, validation "
            "(it chooses the checkpoint) and test"
        )
    for part, rows in zip(PARTS, built, strict=True):
        if len(rows) == 0:
            why = "the data set is too small for it, or its filters leave too little"
            if parts is None and part in _left_out(split):
                why = f"this split has no {part} part, which is needed to choose and score a model"
            raise DataError(f"the {part} split of {config['dataset']} is empty (eval_args split {split}); {why}")


PARTS = ("training", "validation", "test")


def _left_out(split: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the parts to which a split gives no rows at all."""
    kind, shares = next(iter(split.items()))
    if kind == "LS":
        return {"test_only": ("validation",), "valid_only": ("test",)}.get(shares, ())
    return tuple(part for part, share in zip(PARTS, shares, strict=False) if not share)


def _train_loader(config: Config, dataset: Dataset, train_set: Dataset, sampler: Any) -> Any:
    loader = get_dataloader(config, "train")
    if config["MODEL_TYPE"] != ModelType.KNOWLEDGE:
        return loader(config, train_set, sampler, shuffle=config["shuffle"])
    negatives = config["train_neg_sample_args"]
    return loader(
        config, train_set, sampler, KGSampler(dataset, negatives["distribution"], negatives["alpha"]), shuffle=True
    )


def _eval_loader(config: Config, phase: str, rows: Dataset, sampler: Any, known: Histories) -> Any:
    loader = get_dataloader(config, phase)
    if loader is not FullSortEvalDataLoader:
        return loader(config, rows, sampler, shuffle=False)
    return FairEvalDataLoader(config, rows, sampler, known=known, with_histories=config["model"] in OUR_MODELS)
