"""Runs over several seeds: means, standard deviations and paired differences (one seed says little on small data)."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from datetime import date
from functools import partial
from typing import Any

from recbole_recfound.config.settings import check_value, settings_of
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.report.table import columns_of, smaller_is_better
from recbole_recfound.runtime.run_folder import RESULTS, write_text
from recbole_recfound.runtime.versions import versions
from recbole_recfound.study.identity import StudyFolder, study_folder
from recbole_recfound.study.significance import compare_rows, mean_over_seeds, paired_lines, read_users
from recbole_recfound.system.defaults import DEFAULTS
from recbole_recfound.system.execute import execute


def run_seeds(
    seeds: Sequence[int],
    model: str = DEFAULTS["model"],
    dataset: str = DEFAULTS["dataset"],
    config_file_list: Sequence[str] | None = None,
    config_dict: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Run once per seed and compare row by row; call it again to resume an interrupted run.

    Args:
        seeds: at least two.
        model: name of the model, as for `run_recfound`.
        dataset: name of the data set.
        config_file_list: YAML files.
        config_dict: settings, which override those of the files; `seed` must not be among them.

    Returns:
        `rows` (see `summarise`), `runs` (the table of every seed) and `folder`.

    Raises:
        ConfigError: fewer than two seeds, the same seed twice, or a seed out of its bounds.
    """
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds: {list(seeds)}: name at least two different ones, as in --seeds=2020,2021,2022")
    for seed in seeds:
        check_value("seed", seed)
    settings = settings_of(config_file_list, config_dict, model)
    if "seed" in settings:
        raise ConfigError("seed: is set by --seeds; leave it out")
    with study_folder("seeds", model, dataset, settings) as folder:
        return _run_all(folder, seeds, model, dataset, settings)


def _run_all(
    folder: StudyFolder, seeds: Sequence[int], model: str, dataset: str, settings: dict[str, Any]
) -> dict[str, Any]:
    """Run the seeds that are missing; see `run_seeds`."""

    def run(seed: int) -> dict[str, Any]:
        print(f"seed {seed} ...", flush=True)
        result = execute(folder.part(model, dataset, {**settings, "seed": seed}))
        return {"rows": result["comparison"], "by_user": read_users(result["run_dir"])}

    found = {seed: folder.row(f"seed-{seed}", partial(run, seed)) for seed in seeds}
    runs = {seed: done["rows"] for seed, done in found.items()}
    rows = summarise(runs)
    shared = [row["model"] for row in rows]
    for name in dict.fromkeys(row["model"] for table in runs.values() for row in table):
        if name not in shared:
            print(f"note: {name} is left out: not every seed has it. Differences are from {shared[0]}", flush=True)
    by_user = mean_over_seeds([done["by_user"] for done in found.values()])
    compared = compare_rows(by_user, rows[0]["model"])
    for row in rows:
        if row["model"] in compared:
            row["over_users"] = compared[row["model"]].to_json()
    results = {
        "dataset": dataset,
        "model": model,
        "seeds": list(seeds),
        "rows": rows,
        "settings": settings,
        "versions": versions(),
    }
    write_text(folder.path / RESULTS, json.dumps(results, indent=1))
    metric, users = found[seeds[0]]["by_user"]["metric"], len(next(iter(by_user.values()), ()))
    table = seeds_table(rows, len(seeds)) + paired_lines(compared, rows[0]["model"], metric, users)
    write_text(
        folder.path / "table.md", f"{table}\n\n{date.today().isoformat()}, seeds {', '.join(map(str, seeds))}.\n"
    )
    print(f"{table}\n\ntable: {folder.path / 'table.md'}", flush=True)
    return {"rows": rows, "runs": runs, "folder": str(folder.path)}


def summarise(runs: dict[int, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Compute mean, standard deviation and paired difference to the first row, of every metric.

    Args:
        runs: seed -> rows of its table; only rows that every seed has are kept.

    Returns:
        For each row: `model`, `train_seconds` and `trainable_parameters` (means), and `metrics`: name -> `mean`, `sd`,
        and where the first row has the metric too `difference` to that of the same seed, `difference_sd`, and `wins`
        (seeds in which it is better). Rows without a ranking have the first metric of each task.
    """
    tables = [{row["model"]: row for row in columns_of(rows)[0]} for rows in runs.values()]
    names = [row["model"] for row in next(iter(runs.values())) if all(row["model"] in table for table in tables)]
    summary = []
    for name in names:
        metrics: dict[str, dict[str, float]] = {}
        found, first = ([_metrics(table[row]) for table in tables] for row in (name, names[0]))
        for metric in found[0]:
            if not all(metric in own for own in found):
                continue
            values = [own[metric] for own in found]
            metrics[metric] = {"mean": statistics.fmean(values), "sd": statistics.stdev(values)}
            if not all(metric in other for other in first):
                continue
            differences = [value - other[metric] for value, other in zip(values, first, strict=True)]
            metrics[metric] |= {
                "difference": statistics.fmean(differences),
                "difference_sd": statistics.stdev(differences),
                "wins": sum(
                    difference < 0 if smaller_is_better(metric) else difference > 0 for difference in differences
                ),
            }
        means = {
            key: statistics.fmean(table[name][key] for table in tables)
            for key in ("train_seconds", "trainable_parameters")
        }
        summary.append({"model": name, "metrics": metrics, **means})
    return summary


def _metrics(row: dict[str, Any]) -> dict[str, float]:
    tasks = {task: next(iter(found.items())) for task, found in (row.get("task_metrics") or {}).items() if found}
    return row["metrics"] or {f"{task} {metric}": value for task, (metric, value) in tasks.items()}


def seeds_table(rows: Sequence[dict[str, Any]], count: int) -> str:
    """Render the summary as Markdown: mean and standard deviation, and those of the paired difference to the first row.

    Args:
        rows: from `summarise`.
        count: number of seeds.
    """
    metrics = list(dict.fromkeys(metric for row in rows for metric in row["metrics"]))
    lines = [
        "| model | "
        + " | ".join(f"{metric} | - {rows[0]['model']}" for metric in metrics)
        + " | train s | parameters |",
        "|---|" + "---:|" * (2 * len(metrics) + 2),
    ]
    for row in rows:
        cells = []
        for metric in metrics:
            found = row["metrics"].get(metric)
            if found is None:
                cells += ["-", "-"]
                continue
            cells.append(f"{found['mean']:.4f} ± {found['sd']:.4f}")
            compared = row is not rows[0] and "difference" in found
            cells.append(
                f"{found['difference']:+.4f} ± {found['difference_sd']:.4f} ({found['wins']}/{count})"
                if compared
                else ""
            )
        cost = f"{row['train_seconds']:.0f} | {row['trainable_parameters']:,.0f}"
        lines.append(f"| {row['model']} | {' | '.join(cells)} | {cost} |")
    return "\n".join(lines)
