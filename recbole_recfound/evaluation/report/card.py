"""The model card of a run: README.md with the metadata that the Hugging Face hub reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, StrictUndefined

from recbole_recfound.evaluation.report.table import format_table, protocol_line, task_lines


def render_card(results: Mapping[str, Any], chosen: str) -> str:
    """Write the card.

    Args:
        results: the content of `results.json`.
        chosen: name of the row whose metrics are the run's.

    Returns:
        Markdown with a YAML header (`model-index`).
    """
    row = next(row for row in results["rows"] if row["model"] == chosen)
    facts = results["run"]
    # The name of a local folder, not where it lies on this machine.
    backbone, licence = Path(facts["backbone"]).name if "backbone" in facts else "", facts.get("backbone_licence")
    if backbone and not Path(facts["backbone"]).is_absolute():
        backbone = facts["backbone"]
    data = ModelCardData(
        model_name=f"{results['model']} on {results['dataset']}",
        eval_results=list(_metrics(results, row)) or None,
        library_name="recbole_recfound",
        license=licence or "unknown",
        base_model=backbone or None,
        datasets=[results["dataset"]],
        tags=["recommender-systems", "recbole"],
    )
    source = (resources.files(__package__) / "card.md.j2").read_text(encoding="utf-8")
    page = Environment(undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True).from_string(source)
    return page.render(
        header=data.to_yaml(),
        title=data.model_name,
        system=results["system"],
        protocol=protocol_line(results["protocol"]).splitlines(),
        table=format_table(results["rows"]),
        tasks=task_lines(results.get("tasks") or []),
        backbone=backbone,
        licence=licence,
        versions=results["versions"],
        seed=results["seed"],
    )


def _metrics(results: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[EvalResult]:
    """Yield the test metrics of the ranking and of every tested task."""
    for name, value in row["metrics"].items():
        yield _result(results, "recommendation", results["dataset"], name, value)
    for task in results.get("tasks") or []:
        for name, value in ((task.get("test") or {}).get("metrics") or {}).items():
            yield _result(results, task["title"], f"{results['dataset']}, {task['name']}", name, value)


def _result(results: Mapping[str, Any], task: str, dataset: str, name: str, value: float) -> EvalResult:
    return EvalResult(
        task_type=task,
        dataset_type=results["dataset"],
        dataset_name=dataset,
        dataset_split="test",
        metric_type=name,
        metric_value=round(float(value), 6),
    )
