"""The report of a run: one self-contained HTML file made from `results.json`."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from recbole_recfound.evaluation.report import figures
from recbole_recfound.evaluation.report.table import columns_of, protocol_line, task_table


def render_report(results: Mapping[str, Any], history: Sequence[Mapping[str, Any]] = ()) -> str:
    """Fill the page.

    Args:
        results: the content of `results.json`.
        history: the trainer's records, one per step (losses, probed, weights).

    Returns:
        HTML that needs no network.
    """
    rows, tasks = results["rows"], [{"test": None, **task} for task in results.get("tasks", [])]
    shown, metrics = columns_of(rows)
    trained = [task for task in tasks if "untrained_loss" in task]  # with probes, and a share of each batch
    chosen = results["protocol"]["valid_metric"].lower()
    if metrics and chosen not in metrics:  # of another task or mode
        chosen = next((name for name in metrics if name.startswith(chosen)), metrics[0])
    compared = [row for row in shown if chosen in row["metrics"]]
    router = results.get("router")
    source = (resources.files("recbole_recfound.evaluation.report") / "report.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
    return page.render(
        title=f"{results['model']} on {results['dataset']}",
        model=results["model"],
        protocol=protocol_line(results["protocol"]),
        rows=shown,
        metrics=metrics,
        of_candidates=list(rows[0]["metrics"]),
        tasks=tasks,
        trained=trained,
        task_table=task_table(rows) if sum(bool(row.get("task_metrics")) for row in rows) > 1 else [],
        left_out=results.get("left_out", {}),
        task_files=results.get("task_files", []),
        comparison_figure=figures.bars(
            [row["model"] for row in compared], [row["metrics"][chosen] for row in compared], f"test {chosen}"
        )
        if compared
        else "",
        loss_figure=figures.curves(probe_curves(trained, history), "loss / untrained loss") if trained else "",
        ratio_figures={
            group: figures.shares(points, "sampling ratio") for group, points in ratio_curves(trained, history).items()
        },
        router_figure=figures.heat_map(router["tasks"], router["similarity"]) if router else "",
        merge=results.get("merge"),
        examples=results.get("examples", []),
        time_figure=time_figure(results.get("run", {}).get("seconds", {})),
        facts=run_facts(results),
    )


def time_figure(seconds: Mapping[str, float]) -> str:
    """Draw where the seconds of a run went; empty where nothing was measured.

    Args:
        seconds: of each part of the run.
    """
    return figures.stretches(seconds, "seconds") if seconds else ""


def probe_curves(tasks: Sequence[Mapping[str, Any]], history: Sequence[Mapping[str, Any]]) -> dict[str, list]:
    """Return the probe loss of each task relative to its untrained loss, starting with the untrained point.

    Args:
        tasks: of `results.json`, with their untrained losses.
        history: records of the training, each with its `step` and the losses it `probed`.

    Returns:
        Task -> (step, relative loss) points.
    """
    untrained = {task["name"]: task["untrained_loss"] for task in tasks}
    found = {name: [(0, 1.0)] for name in untrained}
    for record in history:
        for name, loss in record["probed"].items():
            found[name].append((record["step"], loss / max(untrained[name], 1e-8)))
    return found


def ratio_curves(
    tasks: Sequence[Mapping[str, Any]], history: Sequence[Mapping[str, Any]]
) -> dict[str, dict[str, list]]:
    """Return the sampling ratio of each task over the steps, by group.

    Args:
        tasks: of `results.json`; `kind` is the group of each.
        history: records of the training, each with its `step` and the `weights` of the tasks.

    Returns:
        Group -> task -> (step, ratio) points.
    """
    groups: dict[str, dict[str, list]] = {}
    for task in tasks:
        points = [(record["step"], record["weights"][task["name"]]) for record in history]
        if points:
            groups.setdefault(task["kind"], {})[task["name"]] = points
    return groups


def run_facts(results: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts about a run at the end of its page, without the seconds, which `time_figure` draws.

    Args:
        results: the content of `results.json`.
    """
    facts = {"seed": str(results["seed"])} | {f"{name} version": text for name, text in results["versions"].items()}
    for name, value in results.get("run", {}).items():
        if name == "seconds":
            continue
        facts[name.replace("_", " ")] = f"{value:.4g}" if isinstance(value, float) else str(value)
    return facts
