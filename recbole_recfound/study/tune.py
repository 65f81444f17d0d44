"""Search for settings by validation, with Optuna: pruned at validations, resumable after any stop."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from itertools import islice, product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from recbole_recfound.config.settings import settings_of
from recbole_recfound.errors import ConfigError, TrainingError
from recbole_recfound.evaluation.report.figures import search
from recbole_recfound.evaluation.report.table import smaller_is_better
from recbole_recfound.runtime.run_folder import RESULTS, SPENT, RunFolder, write_text
from recbole_recfound.study.identity import study_folder
from recbole_recfound.study.journal import open_journal
from recbole_recfound.study.space import Dimension, read_space, with_values
from recbole_recfound.system.defaults import DEFAULTS
from recbole_recfound.system.execute import execute
from recbole_recfound.system.registry import get_system
from recbole_recfound.system.request import Request, without_baselines

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

COMBINATIONS = 64
"""Combinations of values that are checked before the search, at most."""
BEST, TABLE, PICTURE = "best.yaml", "table.md", "search.svg"
FIRST = 4
"""Trials before any is pruned: the median of fewer says little."""


def tune(
    params: str | Path,
    trials: int = 20,
    model: str = DEFAULTS["model"],
    dataset: str = DEFAULTS["dataset"],
    config_file_list: Sequence[str] | None = None,
    config_dict: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Search for the settings with the best validation score; call it again to resume, or for more trials.

    Args:
        params: file of the search space, see `read_space`.
        trials: number of finished trials, those of earlier calls included.
        model: name of the model, as for `run_recfound`.
        dataset: name of the data set.
        config_file_list: YAML files.
        config_dict: settings of all trials.

    Returns:
        `best` (its settings), `score`, `test_result` of that trial, `trials` and `folder`.

    Raises:
        ConfigError: a wrong line, setting or value, or Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise ConfigError("tune: needs the package optuna: pip install optuna") from None
    if trials < 1:
        raise ConfigError(f"trials: got {trials}, expected at least 1")
    space = read_space(params)
    settings = without_baselines(settings_of(config_file_list, config_dict, model))
    config = _checked(space, settings, model, dataset)
    metric = get_system(config["model"]).validated_by(config)
    if metric is None:
        raise ConfigError(
            f"tune: what scores these settings of {config['model']} trains nothing, so that no validation chooses"
        )
    with study_folder("tune", model, dataset, settings, {"space": [vars(one) for one in space]}) as folder:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        logging.getLogger("optuna").propagate = False
        study = optuna.create_study(
            storage=open_journal(folder.path),
            study_name="search",
            direction="minimize" if smaller_is_better(metric) else "maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=FIRST),
            load_if_exists=True,
        )
        _repeat_interrupted(study)
        # A resumed search draws other numbers than it began with.
        study.sampler = optuna.samplers.TPESampler(seed=config["seed"] + len(study.trials))

        def objective(trial: Trial) -> float:
            values = {one.key: one.suggest(trial) for one in space}
            own = with_values(space, settings, values)
            told = ", ".join(f"{key}={_short(value)}" for key, value in values.items())
            print(f"[{_finished(study) + 1}/{trials}] {told}", flush=True)

            def watch(step: int, score: float) -> None:
                trial.report(score, step)
                if trial.should_prune():
                    raise optuna.TrialPruned

            try:
                with folder.unchanged():
                    part = folder.part(model, dataset, own, runs="trials", baselines=[])
                    result = execute(part, saved=False, watch=watch)
            except optuna.TrialPruned:
                _forget(folder.path / "trials")
                raise
            except (ConfigError, TrainingError) as error:  # values that do not fit together, or numbers that do not
                _forget(folder.path / "trials")
                trial.set_user_attr(DIVERGED, str(error))
                print(f"failed: {error}", flush=True)
                raise
            trial.set_user_attr("settings", json.dumps(values))
            trial.set_user_attr("test_result", json.dumps(result["test_result"]))
            trial.set_user_attr("run_dir", result["run_dir"])
            return float(result["best_valid_score"])

        def keep(study: Study, trial: FrozenTrial) -> None:
            _write(study, folder, space, metric)

        refused = (ConfigError, TrainingError)
        study.optimize(objective, n_trials=max(0, trials - _finished(study)), catch=refused, callbacks=[keep])
        _write(study, folder, space, metric)
        if not _scored(study):
            raise TrainingError("tune: no trial has a score; the line after each says why")
        best = study.best_trial
        print(f"{(folder.path / TABLE).read_text(encoding='utf-8')}\nbest settings: {folder.path / BEST}", flush=True)
        return {
            "best": json.loads(best.user_attrs["settings"]),
            "score": best.value,
            "test_result": json.loads(best.user_attrs["test_result"]),
            "trials": len(study.trials),
            "folder": str(folder.path),
        }


def _checked(space: Sequence[Dimension], settings: dict[str, Any], model: str, dataset: str) -> Any:
    """Check every key and value of the space like settings that are typed, and return the settings of a run.

    A value that the model refuses beside each combination of the others is refused; one that fits some of them is not.

    Raises:
        ConfigError: names all that are wrong.
    """
    problems: list[str] = []
    for one in space:
        for value in one.examples():
            try:
                Request.of(model, dataset, None, one.put(settings, value), baselines=[])
            except ConfigError as error:
                problems += [line for line in error.problems if line not in problems]
    if problems:
        raise ConfigError(problems)
    accepted: dict[tuple[str, str], Any] = {}
    refused: dict[tuple[str, str], list[str]] = {}
    for values in islice(product(*(one.examples() for one in space)), COMBINATIONS):
        by_key = {one.key: value for one, value in zip(space, values, strict=True)}
        named = [(key, repr(value)) for key, value in by_key.items()]
        try:
            request = Request.of(model, dataset, None, with_values(space, settings, by_key), baselines=[])
            system = get_system(request.model)
            config = system.configure(request)
            system.check(config)
            accepted.update(dict.fromkeys(named, config))
        except ConfigError as error:
            for name in named:
                refused.setdefault(name, error.problems)
    lines = dict.fromkeys(line for name, own in refused.items() if name not in accepted for line in own)
    if lines:
        raise ConfigError(list(lines))
    return next(iter(accepted.values()))


def _forget(trials: Path) -> None:
    """Remove what a trial that ended without a score would continue from: the same values begin again."""
    for run in trials.glob("*"):
        if not (run / RESULTS).exists():
            shutil.rmtree(run / "trainer_state", ignore_errors=True)
            (run / SPENT).unlink(missing_ok=True)


def _repeat_interrupted(study: Study) -> None:
    """End trials that a stopped process left behind, and try their values first."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
    repeated = {trial.user_attrs.get(REPEATS) for trial in study.trials}
    for trial in study.get_trials(states=(TrialState.FAIL,)):
        if DIVERGED not in trial.user_attrs and trial.number not in repeated and trial.params:
            study.enqueue_trial(trial.params, user_attrs={REPEATS: trial.number})


def _finished(study: Study) -> int:
    """Return the number of trials that were scored, pruned, or failed in training."""
    from optuna.trial import TrialState

    done = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    return len(done) + sum(DIVERGED in trial.user_attrs for trial in study.trials)


REPEATS, DIVERGED = "repeats", "diverged"
"""Notes of a trial: the number of the interrupted one that it repeats; why its training failed."""


def _scored(study: Study) -> list[FrozenTrial]:
    """Return the trials with a score, best first."""
    from optuna.study import StudyDirection
    from optuna.trial import TrialState

    found = study.get_trials(states=(TrialState.COMPLETE,))
    sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
    return sorted(found, key=lambda trial: sign * (trial.value or 0.0))


def _write(study: Study, folder: RunFolder, space: Sequence[Dimension], metric: str) -> None:
    """Write table, picture, results and the best settings; called after every trial."""
    scored = _scored(study)
    keys = [one.key for one in space]
    lines = [f"| trial | {' | '.join(keys)} | validation {metric} |", f"|---:|{'---:|' * (len(keys) + 1)}"]
    rows = []
    for trial in [*scored, *(one for one in study.trials if one not in scored)]:
        values = json.loads(trial.user_attrs["settings"]) if "settings" in trial.user_attrs else trial.params
        state = f"{trial.value:.4f}" if trial.state.name == "COMPLETE" else trial.state.name.lower()
        lines.append(f"| {trial.number} | {' | '.join(_short(values.get(key, '')) for key in keys)} | {state} |")
        rows.append({"trial": trial.number, "settings": values, "state": trial.state.name, "score": trial.value})
    tested = ""
    if scored:
        test = json.loads(scored[0].user_attrs["test_result"])
        told = ", ".join(f"{name} {value:.4f}" for name, value in test.items())
        tested = f"\nTest of the best by validation (trial {scored[0].number}): {told}\n"
        best = with_values(space, {}, json.loads(scored[0].user_attrs["settings"]))
        write_text(folder.path / BEST, yaml.safe_dump(best, sort_keys=False))
        points = [(trial.number, float(trial.value or 0.0)) for trial in sorted(scored, key=lambda one: one.number)]
        write_text(folder.path / PICTURE, search(points, f"validation {metric}", smaller_is_better(metric)))
    write_text(folder.path / TABLE, "\n".join(lines) + "\n" + tested)
    write_text(folder.path / RESULTS, json.dumps({"metric": metric, "trials": rows}, indent=1))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
