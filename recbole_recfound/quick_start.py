"""One call from a config to a table: baselines, training, merging, evaluation, report."""

import json
import resource
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

from recbole.utils import init_seed

from recbole_recfound.atomic.find import NO_DATASET
from recbole_recfound.baseline.recbole import check_baselines, fit_and_score, run_baseline
from recbole_recfound.config.configurator import Config
from recbole_recfound.config.models import OUR_MODELS
from recbole_recfound.data.records.files import TaskFiles
from recbole_recfound.data.split.protocol import Splits, build_splits, check_topk, protocol_of
from recbole_recfound.errors import ConfigError
from recbole_recfound.evaluation.report.page import render_report
from recbole_recfound.evaluation.report.table import format_table, protocol_line, task_lines
from recbole_recfound.runtime.budget import Budget
from recbole_recfound.runtime.run_folder import RESULTS, RunFolder, resolved_settings, write_text
from recbole_recfound.runtime.versions import versions
from recbole_recfound.system.iak.finetune import run_iak
from recbole_recfound.system.recfound.multi_task import MultiTaskRun, check_tasks

BASELINE_SHARE = 0.4
"""Part of the time budget that the baselines may take together."""


def run_recfound(
    model: str = "RecFound",
    dataset: str = "ml-100k",
    config_file_list: Sequence[str] | None = None,
    config_dict: dict[str, Any] | None = None,
    saved: bool = True,
    baselines: Sequence[str] | None = None,
) -> dict[str, Any]:
    """Train a model, compare it with RecBole's baselines under one protocol, write the run's folder.

    Args:
        model: one of ours, or any RecBole model.
        dataset: RecBole data set name; `data_path` in the config says where it is.
        config_file_list: YAML files.
        config_dict: settings by key; they win.
        saved: keep weights and checkpoints in the run's folder (the table and the report are always written).
        baselines: RecBole models for the table; None takes the config's.

    Returns:
        RecBole's four (`best_valid_score`, `valid_score_bigger`, `best_valid_result`, `test_result`), `comparison` (rows
        of the table) and `run_dir`.

    Raises:
        ConfigError, DataError, BackboneError: found before anything expensive starts.
        TrainingError: training cannot go on; the last good checkpoint is kept.
    """
    if model == "IAK":
        return run_iak(dataset, config_file_list, config_dict, baselines)
    settings = dict(config_dict or {})
    if baselines is not None:
        settings["baselines"] = list(baselines)
    config = Config(model, dataset, config_file_list, settings)
    budget = Budget(config["time_budget"])
    init_seed(config["seed"], config["reproducibility"])
    ours = config["model"] in OUR_MODELS
    splits = build_splits(config) if config["dataset"] != NO_DATASET else None
    if splits:
        check_topk(splits)
        check_baselines(config["baselines"], config, splits)
    elif config["baselines"] or not ours:
        raise ConfigError("dataset: none has no interactions, which RecBole's models need")
    files = check_tasks(config) if ours else TaskFiles()
    folder = RunFolder.open(
        config["model"], config["dataset"], resolved_settings(config), config["output_dir"], config["resume"]
    )
    folder.log_to(verbose=config["show_progress"])
    protocol = protocol_of(config, splits)
    print(f"{protocol_line(protocol)}\nrun folder: {folder.path}\n{_plan(config)}", flush=True)

    # Built before the baselines cost minutes: a missing backbone must be found first, and whatever does not fit data or tasks.
    multi_task = MultiTaskRun(config, splits, files, folder, budget) if ours else None
    rows = _baseline_rows(config, splits, folder, budget)
    results = multi_task.results(saved) if multi_task else {"rows": [fit_and_score(config, splits, budget.deadline())]}
    results = {
        "model": config["model"],
        "dataset": config["dataset"],
        "protocol": protocol,
        **results,
        "rows": rows + results["rows"],
        "versions": versions(),
        "seed": config["seed"],
    }
    return _finish(config, folder, results, budget)


def _plan(config: Config) -> str:
    seconds = config["time_budget"]
    if not seconds:
        steps = "any number of" if config["max_steps"] is None else config["max_steps"]
        return f"time budget: none (time_budget: 0); at most {steps} steps"
    return (
        f"time budget: {seconds} s for the whole run; baselines may take {BASELINE_SHARE * seconds:.0f} s, "
        f"the rest is training, merging and testing"
    )


def _baseline_rows(config: Config, splits: Splits, folder: RunFolder, budget: Budget) -> list[dict[str, Any]]:
    def compute(name: str) -> dict[str, Any]:
        print(f"baseline {name} ...", flush=True)
        return run_baseline(name, config, splits, folder.path / "baselines", budget.deadline(BASELINE_SHARE))

    return [folder.row(name, partial(compute, name)) for name in config["baselines"]]


def _finish(config: Config, folder: RunFolder, results: dict[str, Any], budget: Budget) -> dict[str, Any]:
    """Write results and report, print the table, hand RecBole's four back."""
    history_file = folder.trainer_state / "history.json"
    history = json.loads(history_file.read_text()) if history_file.is_file() else []
    run = results.setdefault("run", {})
    run["total_seconds"] = budget.elapsed()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run["peak_memory_gib"] = peak / (2**30 if sys.platform == "darwin" else 2**20)  # there bytes, elsewhere KiB
    write_text(folder.path / "report.html", render_report(results, history))
    # Last, since its presence says that the run is finished.
    write_text(folder.path / RESULTS, json.dumps(results, indent=1, ensure_ascii=False))
    lines = [protocol_line(results["protocol"]), format_table(results["rows"])]
    lines += task_lines(results.get("tasks", []))
    if "probe_share_of_step_time" in run:
        lines.append(f"probes took {100 * run['probe_share_of_step_time']:.1f}% of the training time")
    lines.append(f"{run['total_seconds']:.0f} s in all, peak memory {run['peak_memory_gib']:.1f} GiB")
    lines.append(f"report: {folder.path / 'report.html'}")
    print("\n" + "\n".join(lines), flush=True)
    row = results["rows"][-1]
    return {
        "best_valid_score": row["valid_metrics"].get(config["valid_metric"].lower()),
        "valid_score_bigger": config["valid_metric_bigger"],
        "best_valid_result": row["valid_metrics"],
        "test_result": row["metrics"],
        "comparison": results["rows"],
        "run_dir": str(folder.path),
    }
