"""The page of an IAK run: comparison, domains, curves, information retained."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

from recbole_recfound.evaluation.report import figures
from recbole_recfound.evaluation.report.page import run_facts, time_figure
from recbole_recfound.evaluation.report.table import protocol_line


def render_iak_report(results: Mapping[str, Any]) -> str:
    """Fill the page.

    Args:
        results: the content of `results.json`.

    Returns:
        HTML that needs no network.
    """
    rows, metric = results["rows"], results["protocol"]["valid_metric"].lower()
    by_name = {row["model"]: row for row in rows}
    chosen = by_name[results["chosen"]]
    source = (resources.files(__package__) / "report.html.j2").read_text(encoding="utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(source)
    compared = {name: row for name, row in by_name.items() if row["metrics"].get(metric) is not None}
    return page.render(
        title=f"IAK on {results['base']}, {results['dataset']}",
        protocol=protocol_line(results["protocol"]),
        layer=results["layer"],
        chosen=results["chosen"],
        metric=metric,
        metrics=list(dict.fromkeys(name for row in rows for name in row["metrics"])),
        rows=rows,
        base_parameters=results["base_parameters"],
        comparison_figure=figures.bars(
            list(compared), [row["metrics"][metric] for row in compared.values()], f"test {metric}"
        ),
        domains=_domain_tables(results, by_name["frozen"], chosen, metric),
        users=chosen.get("users", {}),
        frozen_users=by_name["frozen"].get("users", {}),
        loss_figure=figures.curves({key: _points(chosen, key) for key in ("matching", "compression")}, "loss"),
        kl_figure=figures.curves({row["model"]: _points(row, "kl") for row in rows if "curves" in row}, "KL, nats"),
        sweep=results["sweep"],
        selected_by=results["selected_by"],
        sweep_figure=figures.retained(results["sweep"], results["selected_by"]) if len(results["sweep"]) > 1 else "",
        time_figure=time_figure(results["run"]["seconds"]),
        facts={"seed of the split": results["split_seed"], **run_facts(results)},
    )


def _points(row: Mapping[str, Any], key: str) -> list[tuple[float, float]]:
    return [(point["step"], point[key]) for point in row["curves"]]


def _domain_tables(
    results: Mapping[str, Any], frozen: Mapping[str, Any], chosen: Mapping[str, Any], metric: str
) -> list[dict]:
    """Return the rows of each type of domain (name, test rows, base, IAK) and a figure of the differences."""
    tables = []
    for text in results["domains"]:
        lines = []
        for name, tuned in chosen["domains"][text].items():
            base = frozen["domains"][text].get(name, {})
            if metric in tuned and metric in base:
                lines.append({"name": name, "rows": tuned["rows"], "base": base[metric], "tuned": tuned[metric]})
        figure = figures.bars(
            [line["name"] for line in lines],
            [line["tuned"] - line["base"] for line in lines],
            f"test {metric}, IAK - base",
        )
        tables.append({"text": text, "lines": lines, "figure": figure if lines else ""})
    return tables
