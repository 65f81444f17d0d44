"""The rows of a run's blends: this model's scores, and those of the best other baseline, plus those of a baseline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from recbole.utils import EvaluatorType

from recbole_recfound.baseline.blend import Blend, Scorer, blend
from recbole_recfound.baseline.click_blend import ClickScorer, blend_clicks
from recbole_recfound.baseline.saved import load_baseline
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import Splits
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.results import Row
from recbole_recfound.runtime.ranks import world
from recbole_recfound.system.run import Job, Run


def check_blend(config: Config) -> None:
    """Refuse a blend with a baseline that the run does not have, and one on several processes.

    Args:
        config: settings of the run.

    Raises:
        ConfigError: naming blend.
    """
    if absent := [name for name in config["blend"] if name not in (config["baselines"] or [])]:
        raise ConfigError(f"blend: {absent[0]} is not among the baselines of this run: add it to baselines")
    if config["blend"] and world() > 1:
        raise ConfigError("blend: not with several processes")


def scorer_of(splits: Splits, model: Any) -> Scorer | ClickScorer:
    """Return a trained model as a blend reads it: of all items, or of labelled rows.

    Args:
        splits: its data.
        model: in eval.
    """
    clicks = splits.config["eval_type"] == EvaluatorType.VALUE
    return ClickScorer(splits, model) if clicks else Scorer.of(splits, model)


def blended(run: Run, row: Row, scorer: Scorer | ClickScorer, name: str) -> Iterator[Job]:
    """Yield the blends with one baseline that validation prefers to the model alone, each pair of models once.

    Args:
        run: after its baselines.
        row: of this model.
        scorer: this model.
        name: the baseline whose scores are added.
    """
    assert run.splits is not None
    config = run.splits.config
    metric, sign = config["valid_metric"].lower(), 1 if config["valid_metric_bigger"] else -1
    if name in run.not_run:
        return
    others = [run.rows[other] for other in run.config["baselines"] if other not in (name, *run.not_run)]
    best = max(others, key=lambda other: sign * other.valid_metrics[metric], default=None)
    second = _baseline(run, name)
    for first in (best, row):
        if first is None or f"{name} + {first.model}" in run.rows:
            continue
        started = time.monotonic()
        with run.plan.phase("blending"):
            found = _blend(scorer if first is row else _baseline(run, first.model), second)
        if found is None:
            print(f"{first.model} + {name}: validation prefers {first.model} alone", flush=True)
            continue
        seconds = (time.monotonic() - started) / 2
        row_of = partial(_row, first, run.rows[name], found, seconds, isinstance(scorer, ClickScorer))
        yield Job(f"{first.model} + {name}", row_of, resumable=False)


def _blend(first: Scorer | ClickScorer, second: Scorer | ClickScorer) -> Blend | None:
    if isinstance(first, ClickScorer) and isinstance(second, ClickScorer):
        return blend_clicks(first, second)
    assert isinstance(first, Scorer) and isinstance(second, Scorer), "rows of a table are scored alike"
    return blend(first, second)


def _baseline(run: Run, name: str) -> Scorer | ClickScorer:
    loaded = load_baseline(run.folder.path, name, Path(run.config["data_path"]).parent)
    return scorer_of(loaded.splits, loaded.model)


def _row(first: Row, second: Row, found: Blend, seconds: float, clicks: bool) -> Row:
    """Return the row of a blend, with the costs of both models."""
    how = "logits averaged" if clicks else "scores added"
    return Row(
        model=f"{first.model} + {second.model}",
        metrics=found.test,
        valid_metrics=found.valid,
        train_seconds=first.train_seconds + second.train_seconds,
        eval_seconds=seconds,
        trainable_parameters=first.trainable_parameters + second.trainable_parameters,
        converged=first.converged and second.converged,
        note=f"{how}, those of {second.model} {found.weight:g} times (weight from validation)",
        by_user=found.by_user,
        details=found.others,
    )
