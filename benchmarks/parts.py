"""What the parts of RecFound are worth, over all tasks and several seeds: TMoLE, S2Sched, merging, training together.

    python -m benchmarks.parts OUT --settings settings.yaml --seeds 2020,2021,2022 --json parts.json

Every run is a folder of OUT and every row a file: what was interrupted is continued by the same command. The settings
are those of all rows, with `max_steps` for equal steps (`time_budget: 0`) or `time_budget` for equal seconds. A model
for each task sees as many examples of it as the model of all tasks.

A task's score is its first metric (U2I: `valid_metric` of the test, all items ranked), divided by the best row's
mean over seeds; a row's number is the mean over tasks. Beside it stands the held-out loss: the loss of each task's
probe over that of RecFound, geometric mean over tasks (smaller is better), which tells rows apart that a test of a few
answers cannot. Differences from RecFound are paired over tasks and seeds, by a permutation test, corrected by Holm's
method for the number of rows.

Ratios:
    ROW  mean over tasks and seeds, over that of RecFound
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml

from benchmarks.frame import finish, progress
from recbole_recfound import run_recfound
from recbole_recfound.config.configurator import Config
from recbole_recfound.config.settings import merged
from recbole_recfound.data.multi_task import USERS
from recbole_recfound.runtime.finished import read_results
from recbole_recfound.runtime.run_folder import write_text
from recbole_recfound.study.compare import settings_alone
from recbole_recfound.study.significance import compare_rows

LEAST_LOSS = 1e-4
"""Losses below count as this one."""
LEAST_SCORE = 0.05
"""Mean score of the best row below which a task counts as learnt by none."""
OURS, BEST, ALONE = "RecFound", "best single checkpoint", "a model for each task"
ROWS: dict[str, dict[str, Any]] = {
    OURS: {"test_args": {"best_checkpoint": True}},
    "one LoRA": {"adapter": "lora"},
    "proportional": {"scheduler": "proportional"},
    "uniform": {"scheduler": "uniform"},
    # as wide as the experts that a task opens; each rank counts as much as with equal gates, which sum to one
    "one LoRA of rank 64": {"adapter": "lora", "adapter_args": {"r": 64, "lora_alpha": 64}},
    "CoBa": {"scheduler": "coba"},
}
Scores = dict[str, float]
"""Score of each task."""


class Measured(NamedTuple):
    """What a row is compared by.

    Attributes:
        scores: of each task on its test.
        losses: of each task on its probe; none for a checkpoint that was not probed.
    """

    scores: Scores
    losses: Scores


def trained(dataset: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Train and test a model, and return what a row needs.

    Args:
        dataset: name of the data set.
        settings: of the run.
    """
    result = run_recfound("RecFound", dataset, config_dict=dict(settings), baselines=[])
    results = read_results(result["run_dir"])
    row = results["rows"][-1]
    metric = results["protocol"]["valid_metric"].lower()
    ranked = {name: found.get(metric) for name, found in results["merge"]["test"].items()}
    return {
        "scores": first_scores(row["task_metrics"], row["metrics"].get(metric)),
        "best": first_scores(row.get("task_metrics_of_best") or {}, ranked.get("best")),
        "losses": {task["name"]: task["final_loss"] for task in results["tasks"]},
        "tasks": {task["name"]: {key: task[key] for key in ("seen", "step_alone")} for task in results["tasks"]},
        "steps": results["run"]["steps"],
        "train_seconds": row["train_seconds"],
    }


def first_scores(tasks: Mapping[str, Mapping[str, float]], ranked: float | None) -> Scores:
    """Return the score of each task: its first metric, and for U2I the ranking of all items where it is known."""
    found = {task: next(iter(metrics.values())) for task, metrics in tasks.items() if metrics}
    return found if ranked is None else {**found, USERS: ranked}


def rows_of(compute: Callable[[str, Mapping[str, Any]], dict[str, Any]], config: Config) -> dict[str, Measured]:
    """Return the scores and losses of all rows of one seed.

    Args:
        compute: name of a training and its own settings -> what `trained` returns.
        config: settings of all rows.
    """
    found = {name: compute(name, change) for name, change in ROWS.items()}
    ours = found[OURS]
    rows = {name: Measured(row["scores"], row["losses"]) for name, row in found.items()}
    if ours["best"]:
        rows[BEST] = Measured(ours["best"], {})
    alone = Measured({}, {})
    for task in ours["tasks"]:
        own = compute(f"only {task}", settings_alone(task, ours, config))
        for kept, measured in zip(alone, (own["scores"], own["losses"]), strict=True):
            kept.update({name: value for name, value in measured.items() if name == task})
    return {**rows, ALONE: alone}


def summarise(seeds: Sequence[Mapping[str, Measured]]) -> dict[str, dict[str, Any]]:
    """Return of each row its scores by task, the normalised mean over tasks, and its losses over those of RecFound.

    Args:
        seeds: rows of each seed.

    Returns:
        Row -> `tasks` (task -> mean and deviation over seeds), `counted` (the tasks that some row has learnt: those of
        the normalised mean), `mean` and `spread` over seeds of the normalised mean, `paired`: the comparison with
        RecFound over tasks and seeds (not of itself), and `losses`, likewise, of the logarithm of losses (None where
        there are none).
    """
    rows = [name for name in seeds[0] if all(name in seed for seed in seeds)]
    tasks = [
        task for task in seeds[0][OURS].scores if all(task in seed[name].scores for seed in seeds for name in rows)
    ]
    values = {name: np.array([[seed[name].scores[task] for task in tasks] for seed in seeds]) for name in rows}
    best = np.max([each.mean(0) for each in values.values()], axis=0)
    learnt = best >= LEAST_SCORE  # of other tasks, a chance hit of one row would be its whole score
    if not learnt.any():
        learnt[:] = True
    normal = {name: each[:, learnt] / best[learnt] for name, each in values.items()}
    paired = compare_rows({name: each.ravel().tolist() for name, each in normal.items()}, OURS)
    losses = compare_rows({name: _logarithms(seeds, name) for name in rows}, OURS)
    return {
        name: {
            "tasks": {task: [float(each[:, at].mean()), _deviation(each[:, at])] for at, task in enumerate(tasks)},
            "counted": [task for task, counts in zip(tasks, learnt, strict=True) if counts],
            "mean": float(normal[name].mean()),
            "spread": _deviation(normal[name].mean(1)),
            "paired": paired[name].to_json() if name in paired else None,
            "losses": losses[name].to_json() if name in losses else None,
        }
        for name, each in values.items()
    }


def _logarithms(seeds: Sequence[Mapping[str, Measured]], name: str) -> list[float]:
    """Return the logarithms of a row's losses by seed and task; [] where a loss is missing."""
    tasks = list(seeds[0][OURS].losses)
    if any(seed[name].losses.keys() != set(tasks) for seed in seeds):
        return []
    return [math.log(max(seed[name].losses[task], LEAST_LOSS)) for seed in seeds for task in tasks]


def _deviation(values: np.ndarray) -> float:
    return statistics.stdev(values.tolist()) if len(values) > 1 else 0.0


def table(summary: Mapping[str, Mapping[str, Any]]) -> str:
    """Render the rows as a Markdown table."""
    tasks = list(summary[OURS]["tasks"])
    counted = summary[OURS]["counted"]
    names = [task if task in counted else f"{task} (not learnt, not in the mean)" for task in tasks]
    lines = [["", "mean of tasks", "beside RecFound", "p (Holm)", "loss over RecFound's", "p (Holm)", *names]]
    for name, row in summary.items():
        paired = row["paired"]
        beside = ["", ""] if paired is None else [f"{paired['difference']:+.3f}", f"{paired['p_holm']:.3f}"]
        lost = row["losses"]
        beside += ["", ""] if lost is None else [f"{math.exp(lost['difference']):.3f}", f"{lost['p_holm']:.3f}"]
        scores = [f"{mean:.3f} ± {spread:.3f}" for mean, spread in row["tasks"].values()]
        lines.append([name, f"{row['mean']:.3f} ± {row['spread']:.3f}", *beside, *scores])
    lines.insert(1, ["---", *["---:"] * (len(tasks) + 5)])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(argv: list[str] | None = None) -> int:
    """Train what is missing, print the table, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of rows and runs")
    parser.add_argument("--dataset", default="ml-100k", help="name of the data set")
    parser.add_argument("--settings", type=Path, help="YAML file with the settings of all rows")
    parser.add_argument("--seeds", default="2020,2021,2022", help="numbers, separated by commas")
    parser.add_argument("--json", type=Path, help="write the ratios to this file")
    given = parser.parse_args(argv)
    shared = yaml.safe_load(given.settings.read_text()) if given.settings else {}
    config = Config("RecFound", given.dataset, None, shared)
    found = []
    for seed in map(int, given.seeds.split(",")):

        def compute(name: str, change: Mapping[str, Any], seed: int = seed) -> dict[str, Any]:
            file = given.out / f"{seed}-{name.replace(' ', '_')}.json"
            if not file.is_file():
                progress(f"seed {seed}: {name}")
                place = {"seed": seed, "output_dir": str(given.out / "runs"), "resume": "auto"}
                write_text(file, json.dumps(trained(given.dataset, {**merged(shared, change), **place})))
            return json.loads(file.read_text())

        given.out.mkdir(parents=True, exist_ok=True)
        found.append(rows_of(compute, config))
        summary = summarise(found)
        print(table(summary), flush=True)
    ratios = {name: row["mean"] / summary[OURS]["mean"] for name, row in summary.items()}
    return finish(ratios, {}, given, rows=summary)


if __name__ == "__main__":
    sys.exit(main())
