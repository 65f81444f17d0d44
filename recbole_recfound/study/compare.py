"""The long table: RecBole's baselines, RecFound, its ablations and controls. Each row is saved when it is complete."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from recbole_recfound.atomic.find import NO_DATASET
from recbole_recfound.baseline.recbole import check_baselines, run_baseline
from recbole_recfound.config.configurator import Config
from recbole_recfound.config.settings import merged
from recbole_recfound.data.multi_task import USERS
from recbole_recfound.data.split.protocol import Protocol, Splits, build_splits
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.report.page import render_report
from recbole_recfound.evaluation.report.table import (
    format_table,
    markdown_seen,
    markdown_table,
    markdown_tasks,
    protocol_line,
)
from recbole_recfound.evaluation.results import BY_USER, without_users
from recbole_recfound.model.options import NO_ADAPTER
from recbole_recfound.runtime.finished import read_results
from recbole_recfound.runtime.run_folder import RESULTS, RunFolder, identity_of, write_text
from recbole_recfound.runtime.versions import versions
from recbole_recfound.study.identity import StudyFolder, open_study
from recbole_recfound.study.significance import Paired, compare_rows, paired_lines, read_users
from recbole_recfound.system.defaults import DEFAULTS
from recbole_recfound.system.execute import execute
from recbole_recfound.system.registry import get_system
from recbole_recfound.system.request import Request, without_baselines
from recbole_recfound.system.run import inputs_of, resolved_settings

LONG_LIST = ("Pop", "ItemKNN", "EASE", "BPR", "LightGCN", "GRU4Rec", "SASRec", "BERT4Rec")
NO_MERGE = "- merge (best single checkpoint)"
"""Not a training of its own: the best checkpoint, by validation, of the first row of ours."""
SINGLE_TASKS = "- multi-task (a model for each task)"
"""One training for each task, on as many of its examples as the model of all tasks had."""
CONSTANT = "control: one answer to all examples"
"""No model at all: for each task with few answers, the one that scores best."""
POPULARITY = "control: the most popular candidate"
"""No model at all: for each task with items as candidates, the one with the most training interactions."""


def compare(
    dataset: str = "ml-100k",
    config_file_list: Sequence[str] | None = None,
    config_dict: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Fill the long table of a data set; call it again to resume an interrupted run.

    `time_budget` counts for each row of ours, `baseline_time_budget` for each baseline (0: until RecBole's early
    stopping).

    Args:
        dataset: RecBole data set name.
        config_file_list: YAML files.
        config_dict: settings by key; `baselines` replaces the long list.

    Returns:
        `rows` and `folder` of the comparison.
    """
    system = get_system(DEFAULTS["model"])
    request = Request.of(system.name, dataset, config_file_list, {"score_unmasked": True, **(config_dict or {})})
    config = system.configure(request)
    if dataset == NO_DATASET or not all("U2I" in names for names in (config["tasks"], config["only_tasks"] or ["U2I"])):
        raise ConfigError("compare: the table needs a data set and the task U2I; without them use `recfound run`")
    if config["blend"]:
        raise ConfigError(f"blend: got {', '.join(config['blend'])}, but compare has no rows of blends; leave it out")
    system.check(config)
    names = config["baselines"] or list(LONG_LIST)
    inputs = inputs_of(config)  # before they are read
    splits = build_splits(config)
    check_baselines(names, config, splits)
    resolved = resolved_settings(config, inputs)
    # Rows trained for another time or with other packages are rows of another table.
    identity = identity_of({**resolved, "baselines": None, "seconds": config["time_budget"], "versions": versions()})
    path = Path(config["output_dir"]) / f"compare-{dataset}-{identity}"
    with open_study(path, identity, inputs) as folder:
        return _fill(folder, names, without_baselines(request.settings), config, splits)


def _fill(
    folder: StudyFolder,
    names: Sequence[str],
    settings: dict[str, Any],
    config: Config,
    splits: Splits,
) -> dict[str, Any]:
    """Compute the rows that are missing; see `compare`."""
    system = get_system(DEFAULTS["model"])
    folder.log_to(verbose=False)

    def variant(change: dict[str, Any]) -> Callable[[], dict[str, Any]]:
        own = merged(settings, change)
        return lambda: _ours(folder.part(DEFAULTS["model"], config["dataset"], own, baselines=[]))

    jobs = {name: _baseline_job(name, config, splits, folder) for name in names}
    own_row = system.row_name(config)
    variants = {own_row: {"test_args": {"best_checkpoint": True}}, **system.variants(config)}
    cap = config["baseline_time_budget"]
    print(
        f"each baseline: {f'at most {cap} s' if cap else 'until early stopping'}; each row of ours: {_limits(config)}",
        flush=True,
    )
    jobs |= {name: variant(change) for name, change in variants.items()}
    rows = []
    for number, (name, job) in enumerate(jobs.items(), start=1):
        rows.append(_row(folder, name, job, f"[{number}/{len(jobs)}]"))
        if name == own_row:
            rows.append(_best_single(rows[-1]))
        _write(config, splits, folder, rows)
    ours = next(row for row in rows if row["model"] == own_row)
    if len(ours["tasks"]) > 1 and config["control"] != NO_ADAPTER:
        single = {name: variant(settings_alone(name, ours, config)) for name in ours["tasks"]}
        rows.append(
            _together([_row(folder, f"only {name}", job, "[single tasks]") for name, job in single.items()], ours)
        )
    if ours["constants"]:
        rows.append({**_no_training(CONSTANT, ours), "task_metrics": ours["constants"]})
    if ours["popularity"]:
        rows.append({**_no_training(POPULARITY, ours), "task_metrics": ours["popularity"]})
    written = _write(config, splits, folder, rows)
    print(
        format_table(written), f"\ntable: {folder.path / 'table.md'}, report: {folder.path / 'report.html'}", flush=True
    )
    return {"rows": written, "folder": str(folder.path)}


def _limits(config: Config) -> str:
    limits = [f"{config['time_budget']} s"] if config["time_budget"] else []
    return ", ".join(
        [*limits, "any number of steps" if config["max_steps"] is None else f"at most {config['max_steps']} steps"]
    )


def _row(folder: RunFolder, name: str, job: Callable[[], dict[str, Any]], place: str) -> dict[str, Any]:
    """Return the saved row, or compute and save it."""

    def compute() -> dict[str, Any]:
        print(f"{place} {name} ... ({time.strftime('%H:%M:%S')})", flush=True)
        return {**job(), "model": name, "date": date.today().isoformat()}

    return folder.row(name, compute)


def _baseline_job(name: str, config: Config, splits: Splits, folder: RunFolder) -> Callable[[], dict[str, Any]]:
    return lambda: run_baseline(name, config, splits, folder.path / "baselines").to_json()


def _ours(part: Request) -> dict[str, Any]:
    result = execute(part)
    name = result["comparison"][-1]["model"]
    results = read_results(result["run_dir"])
    merge = results["merge"]
    keys = ("seen", "distinct", "step_alone")
    return {
        **result["comparison"][-1],
        BY_USER: read_users(result["run_dir"])["rows"].get(name, []),
        "candidates": {"valid": merge["valid"], "test": merge["test"]},
        "kept": merge["kept"],
        "steps": results["run"]["steps"],
        "tasks": {task["name"]: {key: task[key] for key in keys} for task in results["tasks"]},
        "constants": _guesses(results, "constant"),
        "popularity": _guesses(results, "popularity"),
    }


def _guesses(results: dict[str, Any], kind: str) -> dict[str, dict[str, float]]:
    """Return the metrics of a guess that reads no prompt, by task.

    Args:
        results: of a run.
        kind: `constant` or `popularity`.
    """
    return {task["name"]: task["test"][kind] for task in results["tasks"] if kind in (task["test"] or {})}


def settings_alone(name: str, ours: Mapping[str, Any], config: Config) -> dict[str, Any]:
    """Return the settings that train one task alone, on as many examples as the run of all tasks.

    Args:
        name: of the task.
        ours: `steps` of that run, and of each of its `tasks` the examples `seen` and those of a `step_alone`.
        config: settings of that run.
    """
    counts = ours["tasks"][name]
    steps = -(-counts["seen"] // counts["step_alone"])
    share, interval = steps / max(1, ours["steps"]), config["eval_interval"]
    return {
        "only_tasks": [name],
        "balanced_tasks": [task for task in config["balanced_tasks"] if task == name],
        "control": config["control"] if name == USERS else None,
        "test_args": {"rank_titles": 0},
        "max_steps": steps,
        "time_budget": 0,
        # Fewer steps with the same course: as many validations, as large a part of warm-up.
        "eval_interval": interval and max(1, round(interval * share)),
        "warmup_steps": round(config["warmup_steps"] * share),
    }


def _together(singles: Sequence[dict[str, Any]], ours: dict[str, Any]) -> dict[str, Any]:
    """Summarise the models of single tasks as one row: each task's metrics from its own model, summed costs."""
    tasks = {name: counts for row in singles for name, counts in row["tasks"].items()}
    # The one that ranks can stop early.
    fewer = [
        f"{name} only {counts['seen']}"
        for name, counts in tasks.items()
        if counts["seen"] < ours["tasks"][name]["seen"]
    ]
    ranking: dict[str, Any] = next((row for row in singles if row["metrics"]), {"metrics": {}, "valid_metrics": {}})
    sums = {key: sum(row[key] for row in singles) for key in ("train_seconds", "eval_seconds", "trainable_parameters")}
    return {
        **sums,
        "model": SINGLE_TASKS,
        "metrics": ranking["metrics"],
        "valid_metrics": ranking["valid_metrics"],
        "task_metrics": {task: found for row in singles for task, found in row["task_metrics"].items()},
        "tasks": tasks,
        "note": ", ".join([f"{len(singles)} models, as many examples of each task as the model of all tasks", *fewer]),
        "date": max(row["date"] for row in singles),
    }


def _no_training(name: str, like: dict[str, Any]) -> dict[str, Any]:
    """Return a row without a model."""
    zeros = {"train_seconds": 0.0, "eval_seconds": 0.0, "trainable_parameters": 0}
    return {**zeros, "model": name, "metrics": {}, "valid_metrics": {}, "date": like["date"], "note": "no model"}


def _best_single(row: dict[str, Any]) -> dict[str, Any]:
    candidates = row["candidates"]
    return {
        **row,
        "model": NO_MERGE,
        "metrics": candidates["test"]["best"],
        BY_USER: [],
        "valid_metrics": candidates["valid"]["best"],
        "task_metrics": row["task_metrics_of_best"],
        "note": f"same training as {row['model']}",
    }


def _marked(row: dict[str, Any], compared: Mapping[str, Paired]) -> dict[str, Any]:
    """Return a row with its comparison over users; its note says where a difference is more than chance."""
    one = compared.get(row["model"])
    if one is None:
        return row
    note = f"differs by {one.difference:+.4f}" if one.significant else ""
    return {**row, "over_users": one.to_json(), "note": ", ".join(filter(None, [row.get("note", ""), note]))}


def _write(config: Config, splits: Splits, folder: RunFolder, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep table and results after every row, and return the rows as they are written."""
    protocol = Protocol.of(config, splits).to_json()
    days = sorted({row["date"] for row in rows})
    ours = next((row["model"] for row in rows if "candidates" in row), "")
    compared = compare_rows({row["model"]: row.get(BY_USER) or [] for row in rows}, ours)
    users = max((len(row.get(BY_USER) or []) for row in rows), default=0)
    rows = [_marked(without_users(row), compared) for row in rows]
    results = {
        "dataset": config["dataset"],
        "protocol": protocol,
        "rows": rows,
        "versions": versions(),
        "seed": config["seed"],
        "date": days[-1],
    }
    write_text(folder.path / RESULTS, json.dumps(results, indent=1))
    counts = ", ".join(f"{name} {version}" for name, version in versions().items())
    days_told = " to ".join(dict.fromkeys((days[0], days[-1])))
    parts = [
        protocol_line(protocol),
        markdown_table(rows),
        paired_lines(compared, ours, config["valid_metric"], users).strip(),
        markdown_tasks(rows),
        markdown_seen(rows),
        f"{days_told}; {counts}.",
    ]
    write_text(folder.path / "table.md", "\n\n".join(filter(None, parts)) + "\n")
    write_text(folder.path / "report.html", render_report({"model": config["model"], **results}))
    return rows
