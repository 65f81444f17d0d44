"""RecBole's own models as rows of our table: RecBole's settings, RecBole's trainer, our protocol."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from recbole.utils import EvaluatorType, ModelType, get_trainer, init_seed
from torch import nn

from recbole_recfound.baseline.resume import ResumableTraining
from recbole_recfound.baseline.saved import save_baseline
from recbole_recfound.config.configurator import Config
from recbole_recfound.config.models import OUR_MODELS, PACKAGES, get_model
from recbole_recfound.config.property_files import defaults_beside_recbole
from recbole_recfound.config.shared import INPUTS, shared_settings
from recbole_recfound.data.split.comparison import check_ranked_alike, check_same_rows, check_short_histories
from recbole_recfound.data.split.protocol import Splits, build_splits
from recbole_recfound.errors import ConfigError, RecFoundError, TrainingError, cause_of, in_one_line
from recbole_recfound.evaluation.by_user import kept_ranking
from recbole_recfound.evaluation.clicks import with_gauc
from recbole_recfound.evaluation.drawn_ties import further_rankings
from recbole_recfound.evaluation.results import Row, not_converged
from recbole_recfound.trainer.checkpoint import CheckpointStore

WITHOUT_RANKING = (ModelType.CONTEXT, ModelType.DECISIONTREE)
"""Types of models that score labelled rows."""


LAST_STAGE = "finetune"
"""The `train_stage` of RecBole's pretrained models that validates."""


class _OutOfTime(Exception):
    """Raised to end RecBole's training loop after an epoch.

    Args:
        epochs: that were trained.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__(epochs)
        self.epochs = epochs


STATE = "state"
"""Folder of the state, beside RecBole's own files of a training."""
READ_ALIKE = ("backbone", "item_args")
"""Settings of a run that its baselines of this package share: the language model, and the texts of items."""


def baseline_config(name: str, config: Config, checkpoint_dir: str | Path) -> Config:
    """Return RecBole's defaults for a model, under the protocol of a run.

    Args:
        name: a RecBole model.
        config: the run's settings; `baseline_args[name]` goes over RecBole's defaults.
        checkpoint_dir: where RecBole's trainer saves.

    Raises:
        ConfigError: unknown model, one with another kind of evaluation, a stage without validation, or a setting in
            `baseline_args` that is wrong or shared by all rows.
    """
    ranks, wanted = get_model(name).type not in WITHOUT_RANKING, config["eval_type"] == EvaluatorType.RANKING
    if ranks != wanted:
        forms = ("ranks items", "predicts clicks or ratings")
        raise ConfigError(
            f"baselines: {name} {forms[not ranks]}, but this run {forms[not wanted]}; run it alone with --model={name}"
        )
    own = (config["baseline_args"] or {}).get(name) or {}
    if name in OUR_MODELS:
        known = defaults_beside_recbole(name)
        own = {**{key: config[key] for key in READ_ALIKE if key in config and key in known}, **own}
    shared = {**shared_settings(config), "checkpoint_dir": str(checkpoint_dir)}
    if config.repeats:
        shared["repeatable"] = True
    inputs = {key: own[key] for key in INPUTS if key in own}
    if others := sorted(key for key in own.keys() & shared.keys() - inputs.keys() if own[key] != shared[key]):
        raise ConfigError(
            f"baseline_args: {name}: got {', '.join(others)}, which all rows of a table share; set it for the whole run"
        )
    theirs = Config(name, config["dataset"], config_dict={**own, **shared, **inputs})
    check_stage(theirs)
    return theirs


def check_stage(config: Config) -> None:
    """Refuse a stage of training that validates nothing, so that it has no best checkpoint and no row.

    Args:
        config: the settings of a RecBole model.

    Raises:
        ConfigError: naming train_stage.
    """
    stage = config["train_stage"]
    if stage not in (None, LAST_STAGE):
        raise ConfigError(
            f"train_stage: got {stage} for {config['model']}, which is pretrained without validation and gives no row, "
            f"expected {LAST_STAGE}. Pretrain with RecBole alone and name its file as pre_model_path"
        )


def check_baselines(names: list[str], config: Config, reference: Splits) -> None:
    """Reject baselines that cannot be part of the table, before anything is trained.

    Args:
        names: RecBole models.
        config: the run's settings.
        reference: the splits of the run's own model.

    Raises:
        ConfigError: see `check_baseline_settings`.
        DataError: see `check_short_histories`.
    """
    check_baseline_settings(names, config)
    check_baseline_rows(names, reference)


def check_baseline_rows(names: list[str], reference: Splits) -> None:
    """Reject baselines for which RecBole would hold out other rows, or rank other candidates.

    Args:
        names: RecBole models.
        reference: the splits of the run's own model.

    Raises:
        ConfigError: sequential and other models with sampled candidates.
        DataError: see `check_ranked_alike` and `check_short_histories`, and for models of a knowledge graph, of which
            RecBole drops items without a link, `check_same_rows`.
    """
    config = reference.config
    sequential = [name for name in names if get_model(name).type == ModelType.SEQUENTIAL]
    if config["eval_args"]["mode"]["test"].startswith(("uni", "pop")) and not config.repeats:
        others = [name for name in names if (name in sequential) != bool(config["repeatable"])]
        if others:
            raise ConfigError(
                f"baselines: got {', '.join(others)} beside {config['model']}, but of sampled candidates (eval_args: "
                "mode) RecBole draws those of sequential models among old items too: name models of one kind, or rank "
                "all items (mode: full)"
            )
    kinds = {name: get_model(name).type for name in names}
    check_ranked_alike(reference, kinds)
    check_short_histories(reference, sequential)
    for name in (name for name, kind in kinds.items() if kind == ModelType.KNOWLEDGE):
        check_same_rows(reference, _splits(baseline_config(name, config, config["checkpoint_dir"])))


def check_baseline_settings(names: list[str], config: Config) -> None:
    """Reject baselines by their settings and files alone, before any data are read.

    Args:
        names: RecBole models.
        config: the run's settings.

    Raises:
        ConfigError: names all that cannot be part of the table, see `baseline_config`, and those that would be two
            rows of one name.
    """
    problems: list[str] = []
    if config["model"] in names:
        problems.append(f"baselines: got {config['model']}, which is the model of the run itself. Leave it out")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"baselines: {', '.join(twice)} specified more than once")
    for name in names:
        try:
            theirs = baseline_config(name, config, config["checkpoint_dir"])
            _check_files(name, config)
            check_package(theirs)
        except ConfigError as error:
            problems += [line for line in error.problems if line not in problems]
    unknown = sorted(set(config["baseline_args"] or {}) - set(names))
    if unknown:
        known = ", ".join(names) or "none"
        problems.append(f"baseline_args: got {', '.join(unknown)}, expected names among the baselines: {known}")
    if problems:
        raise ConfigError(problems)


def _check_files(name: str, config: Config) -> None:
    """Refuse a baseline whose own files are missing.

    Raises:
        ConfigError: names them.
    """
    folder, dataset = Path(config["data_path"]), config["dataset"]
    needed = []
    if get_model(name).type == ModelType.KNOWLEDGE:
        needed = [folder / f"{dataset}.kg", folder / f"{dataset}.link"]
    if name == "LDiffRec" and ((config["baseline_args"] or {}).get(name) or {}).get("n_cate", 1) > 1:
        needed = [folder / "item_emb.npy"]
    if missing := [str(file) for file in needed if not file.is_file()]:
        raise ConfigError(f"baselines: {name} needs {' and '.join(missing)} (not found)")


def check_package(config: Config) -> None:
    """Refuse a model whose package is not installed, which RecBole finds when it builds or trains the model.

    Args:
        config: settings of a RecBole model.

    Raises:
        ConfigError: names the package.
    """
    name, package = config["model"], PACKAGES.get(config["model"])
    if name == "NNCF" and config["neigh_info_method"] == "louvain":
        package = "community"
    if name == "LDiffRec" and config["n_cate"] > 1:
        package = "kmeans_pytorch"
    if package and find_spec(package) is None:
        raise ConfigError(f"model: {name} of RecBole needs the package {package}, which is not installed")


def _training_of(folder: Path, name: str) -> Path:
    """Return where the state of a baseline's training lies until its row is complete."""
    return folder / f"{name}.training"


def has_training(folder: Path, name: str) -> bool:
    """Return whether a baseline has the state of a training that was stopped.

    Args:
        folder: of the baselines of a run.
        name: of the model.
    """
    return bool(CheckpointStore(_training_of(folder, name) / STATE, 1).steps())


def run_baseline(
    name: str, config: Config, reference: Splits, folder: str | Path, deadline: float | None = None
) -> Row:
    """Train and test one of RecBole's models, and keep it at its best checkpoint (see `load_baseline`).

    A training that was stopped continues from its last saved epoch (see `fit`).

    Args:
        name: a RecBole model.
        config: the run's settings.
        reference: the splits of the run's own model; the baseline must hold out the same rows.
        folder: gets a folder of the model's name; the state of the training lies beside it until then.
        deadline: a time of `time.monotonic()` at which training ends, in addition to `baseline_time_budget`.

    Returns:
        The table's row, see `fit`.

    Raises:
        ConfigError: the model cannot be used.
        DataError: RecBole holds out other rows for it.
    """
    training = _training_of(Path(folder), name)
    theirs = baseline_config(name, config, training)
    splits = _splits(theirs)
    check_same_rows(reference, splits)
    try:
        row, model = fit(theirs, splits, deadline, seconds=config["baseline_time_budget"], state=training / STATE)
    finally:
        for pickle in training.glob("*.pth"):
            pickle.unlink()
    save_baseline(Path(folder) / name, model, splits, row)
    shutil.rmtree(training, ignore_errors=True)
    return row


def _splits(config: Config) -> Splits:
    init_seed(config["seed"], config["reproducibility"])  # a random order is that of the reference
    return build_splits(config)


def fit(
    config: Config,
    splits: Splits,
    deadline: float | None = None,
    watch: Callable[[int, float], None] | None = None,
    *,
    seconds: float | None = None,
    state: Path | None = None,
) -> tuple[Row, nn.Module]:
    """Train a RecBole model with RecBole's trainer and test its best checkpoint.

    Args:
        config: the model's settings.
        splits: its data.
        deadline: a time of `time.monotonic()`; no epoch starts that would probably end after it, except the first, and
            an epoch ends after the batch in which it passes.
        watch: called with epoch and score after every validation; what it raises ends the training.
        seconds: that the training may take, with those before it was stopped; None or 0: any.
        state: a folder for the state after an epoch; a training that finds one there continues it. None: none is kept.

    Returns:
        The row of the table, and the model at its best checkpoint. The row's `train_seconds` include validation, as
        RecBole does it, and those before the training was stopped; `trainable_parameters` are 0 for models without
        gradients; `converged` says that RecBole's early stopping ended training, or that there is nothing to repeat;
        with `score_unmasked` also `unmasked`, the test metrics of a ranking that holds the user's old items.
    """
    check_stage(config)  # the base of another model comes here unchecked
    init_seed(config["seed"] + config["local_rank"], config["reproducibility"])
    began = time.monotonic()  # some models are fitted by their construction
    with in_one_line(config["model"]):
        model = get_model(config["model"])(config, splits.train_set).to(config["device"])
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    # RecBole limits it by the epochs that were asked for; models without gradients have a single one.
    trainer.eval_step = min(trainer.eval_step, trainer.epochs)
    training = ResumableTraining(state, trainer, (splits.train_data, splits.valid_data), began)
    continued = training.restore()
    if seconds:
        capped = training.began + seconds
        deadline = capped if deadline is None else min(deadline, capped)
    epochs, out_of_time = trainer.epochs, False
    ended = continued and training.finished
    if continued and not ended and deadline is not None and time.monotonic() > deadline:
        epochs, out_of_time, ended = trainer.start_epoch, True, True
    if ended:  # nothing but the test is left; RecBole's `fit` makes it ready
        trainer.epochs = trainer.start_epoch
    train_data = splits.train_data if deadline is None else _until(deadline, splits.train_data)
    stop = _after_validation(deadline, watch, training)
    shown = config["show_progress"]
    try:
        trainer.fit(train_data, splits.valid_data, saved=not ended, show_progress=shown, callback_fn=stop)
    except _OutOfTime as end:
        epochs, out_of_time = end.epochs, True
    except RecFoundError:
        raise
    except (RuntimeError, ValueError) as error:  # torch: no memory, shapes; RecBole: the loss is no number
        raise TrainingError(f"{config['model']}: {cause_of(error)}") from error
    if trainer.best_valid_result is None:
        raise TrainingError(f"{config['model']}: no validation gave a {config['valid_metric']} that is a number")
    trained = time.monotonic()
    init_seed(config["seed"], config["reproducibility"])  # sampled candidates are those of every other row
    with with_gauc(trainer, splits.test_set), kept_ranking(trainer) as kept:
        metrics = trainer.evaluate(splits.test_data, load_best_model=True, show_progress=shown)
    scored = time.monotonic()
    score = partial(trainer.evaluate, load_best_model=False, show_progress=shown)
    details = further_rankings(trainer, splits, score)
    once = config["MODEL_TYPE"] == ModelType.TRADITIONAL
    converged = once or (not out_of_time and trainer.cur_step > trainer.stopping_step)
    row = Row(
        model=config["model"],
        metrics={metric: float(value) for metric, value in metrics.items()},
        valid_metrics={metric: float(value) for metric, value in trainer.best_valid_result.items()},
        train_seconds=trained - training.began,
        eval_seconds=scored - trained,
        trainable_parameters=0 if once else sum(p.numel() for p in model.parameters() if p.requires_grad),
        converged=converged,
        note="" if converged else not_converged(epochs),
        details=details,
        by_user=kept.by_user(config, splits.test_data),
    )
    return row, model


def _until(deadline: float, loader: Any) -> Any:
    """Return a loader whose passes end after the batch in which a time of `time.monotonic()` passes.

    The trainer takes what it got for an epoch, validates and saves it.
    """

    class Limited(type(loader)):  # type: ignore[misc]
        def __iter__(self) -> Iterator[Any]:
            batches = super().__iter__()  # of a knowledge graph the loader itself
            while (batch := next(batches, None)) is not None:
                yield batch
                if time.monotonic() > deadline:
                    return

    limited = copy.copy(loader)
    limited.__class__ = Limited
    return limited


def _after_validation(
    deadline: float | None, watch: Callable[[int, float], None] | None, training: ResumableTraining
) -> Callable[[int, float], None]:
    """Return the callback for RecBole's `fit`, which calls it after every validation."""
    last = time.monotonic()

    def after_validation(epoch: int, score: float) -> None:
        """Save the state, and stop training if the next validation would probably end after the deadline.

        Args:
            epoch: number of the validated epoch.
            score: its validation score.
        """
        nonlocal last
        training.save(epoch)
        if watch is not None:
            watch(epoch, float(score))
        now = time.monotonic()
        if deadline is not None and now + (now - last) > deadline:
            raise _OutOfTime(epoch + 1)
        last = now

    return after_validation
