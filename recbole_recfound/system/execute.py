"""A run from request to table."""

from __future__ import annotations

import gc
import json
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from recbole_recfound.atomic.find import NO_DATASET
from recbole_recfound.baseline.recbole import check_baseline_settings
from recbole_recfound.data.split.protocol import Splits, held_out
from recbole_recfound.errors import cause_of
from recbole_recfound.evaluation.report.table import format_table, protocol_line, smaller_is_better
from recbole_recfound.evaluation.results import Results, Row
from recbole_recfound.runtime import exchange
from recbole_recfound.runtime.device import PEAK, PEAK_GPU, forget_peak_memory, peak_memory
from recbole_recfound.runtime.file_digests import sealed
from recbole_recfound.runtime.ranks import is_main, main_speaks, world
from recbole_recfound.runtime.run_folder import CARD, RESULTS, SPENT, USERS, write_text
from recbole_recfound.runtime.signals import Interrupted, interruptible
from recbole_recfound.runtime.time_plan import TimePlan
from recbole_recfound.runtime.versions import versions
from recbole_recfound.system.base import System
from recbole_recfound.system.registry import get_system
from recbole_recfound.system.request import Request
from recbole_recfound.system.run import Run, Watch


def execute(request: Request, saved: bool = True, watch: Watch | None = None) -> dict[str, Any]:
    """Run a system from request to table.

    Args:
        request: model, data set and settings.
        saved: whether weights and checkpoints stay in the run folder.
        watch: called with step (or epoch) and score after every validation of the system's own training; what it
            raises ends the run.

    Returns:
        See `finish`.
    """
    # The models of runs that have ended, or failed, lie in cycles of references until Python collects them: a study
    # would load this run's beside them.
    gc.collect()
    with main_speaks():
        return _execute(request, saved, watch)


def _execute(request: Request, saved: bool, watch: Watch | None) -> dict[str, Any]:
    for note in request.settings.notes:
        print(f"note: {note}", flush=True)
    system = get_system(request.model)
    config = system.configure(request)
    system.check(config)
    exchange.start(config["device"])
    forget_peak_memory(config["device"])
    config["show_progress"] = config["show_progress"] and is_main()
    if config["dataset"] != NO_DATASET:
        check_baseline_settings(config["baselines"] or [], config)
    plan = TimePlan(config["time_budget"])
    with interruptible(), Run(config, system.open_data(config), plan, saved, watch) as run:
        try:
            run.check_baselines()
            if request.of_study and (done := run.finished()):
                print(f"taken from the finished run {done['run_dir']}", flush=True)
                return four_results(done, system.validated_by(config))
            job = system(run)
            rows = [run.row(each) for each in chain(job.baselines(), job.rows())]
            return finish(run, job, rows)
        except Interrupted as error:
            error.advice = run.how_to_resume()
            raise


def finish(run: Run, job: System, rows: Sequence[Row]) -> dict[str, Any]:
    """Write `results.json`, `report.html` and the model card, print the table, and return RecBole's four results.

    Args:
        run: the run.
        job: its system, after its rows were computed.
        rows: the table.

    Returns:
        `best_valid_score`, `valid_score_bigger`, `best_valid_result`, `test_result`, `comparison` and `run_dir`.
    """
    config, chosen, folder = run.config, job.choose(rows), run.folder.path
    details = job.details()
    facts = {
        **details.pop("run", {}),
        "seconds": run.plan.spent(),
        "total_seconds": run.plan.elapsed(),
        **peak_memory(config["device"]),
    }
    if world() > 1:
        facts["processes"] = world()
    if run.not_run:
        facts["baselines_not_run"] = ", ".join(run.not_run)
    results = Results(
        job.name,
        config["model"],
        config["dataset"],
        run.protocol.to_json(),
        list(rows),
        config["seed"],
        versions(),
        facts,
        details,
    ).to_json()
    if measured := {row.model: list(row.by_user) for row in rows if row.by_user}:
        write_text(
            folder / USERS,
            json.dumps({"metric": config["valid_metric"], "users": _users(run.splits), "rows": measured}),
        )
    with _not_fatal(folder / "report.html"):
        write_text(folder / "report.html", job.report(results))
    with _not_fatal(folder / CARD):
        write_text(folder / CARD, job.card(results, chosen))
    if not run.saved and is_main():
        job.discard()
        shutil.rmtree(folder / "baselines", ignore_errors=True)
    document = {**results, "chosen": chosen.model}
    # Last, since its presence says that the run is finished.
    if is_main():
        (folder / SPENT).unlink(missing_ok=True)
        job.finished()
        whole = sealed({**document, "files": run.folder.digests()})
        write_text(folder / RESULTS, json.dumps(whole, indent=1, ensure_ascii=False))
    lines = [protocol_line(results["protocol"]), format_table(results["rows"]), *job.lines(results)]
    if run.not_run:
        most = f"the {run.plan.most['baselines']:.0f} s of the time budget that baselines may take were spent"
        lines.append(f"not run: {', '.join(run.not_run)}: {most} (time_budget, baseline_time_budget)")
    gpu = f", tensors on the GPU {facts[PEAK_GPU]:.1f} GiB" if PEAK_GPU in facts else ""
    lines.append(f"{facts['total_seconds']:.0f} s in all, peak memory {facts[PEAK]:.1f} GiB{gpu}")
    lines.append(f"report: {folder / 'report.html'}")
    print("\n" + "\n".join(lines), flush=True)
    return four_results({**document, "run_dir": str(folder)}, job.validated_by(config))


def four_results(results: Mapping[str, Any], metric: str | None) -> dict[str, Any]:
    """Return RecBole's four results, with the table and the run folder.

    Args:
        results: the content of `results.json`, and `run_dir`.
        metric: that validation chooses by; None: nothing is validated.
    """
    chosen = next(row for row in results["rows"] if row["model"] == results["chosen"])
    return {
        "best_valid_score": chosen["valid_metrics"].get(metric.lower()) if metric else None,
        "valid_score_bigger": not (metric and smaller_is_better(metric)),
        "best_valid_result": chosen["valid_metrics"],
        "test_result": chosen["metrics"],
        "comparison": results["rows"],
        "run_dir": results["run_dir"],
    }


def _users(splits: Splits | None) -> list[str]:
    """Return the ids of the test users, in the order of RecBole's numbers."""
    if splits is None:
        return []
    test = splits.test_set
    return [str(token) for token in test.id2token(test.uid_field, np.unique(held_out(test)[:, 0]))]


@contextmanager
def _not_fatal(path: Path) -> Iterator[None]:
    """Let a run write its results although its page cannot be drawn."""
    try:
        yield
    except Exception as error:
        logging.getLogger(__name__).exception("%s", path)
        print(f"note: {path} could not be written: {cause_of(error)}", flush=True)
