"""The comparison table as text and as rows for the report."""

from collections.abc import Mapping, Sequence
from typing import Any

from recbole.evaluator.register import metrics_dict

from recbole_recfound.data.task import RANKED


def protocol_line(protocol: dict[str, Any]) -> str:
    """Describe in one line the rules under which every row was scored."""
    if "split" not in protocol:
        return f"tasks from JSON-lines files alone, seed {protocol['seed']}"
    form = f"{protocol['mode']} rows"
    if protocol["mode"] == "full":  # nothing is masked for sampled candidates and labelled rows
        form = f"full ranking, history {'masked' if protocol['mask_history'] else 'NOT masked'}"
    users = f"{protocol['users']} test users{' drawn by seed' if protocol.get('test_users') else ''}"
    line = (
        f"{protocol['dataset']}: {protocol['split']}, order {protocol['order']}, {form},"
        f" {users}, {protocol['items']} items, seed {protocol['seed']}"
    )
    if protocol.get("cold_items"):
        share = f"{protocol['cold_items']:.0%} of the items"
        line += f", {share} held out of training: these are the test items; as many others choose on validation"
    left_out = [f"{count:,} interactions left out by {name}" for name, count in protocol.get("left_out", {}).items()]
    return "\n".join([line, *_times(protocol), *_repeats(protocol), *left_out, *protocol.get("files", ())])


def _repeats(protocol: dict[str, Any]) -> list[str]:
    if not (share := protocol.get("repeats")):
        return []
    line = f"{share:.1%} of the test items are repeats: the user has had them before"
    if protocol["mode"] == "full" and protocol["mask_history"]:
        line += (
            ". With the history masked they are the only old items in the ranking, so these scores are too high: "
            "--repeatable=True ranks old and new items alike"
        )
    return [line]


ORDERS = {
    "file": "as in the file",
    "shuffle": "at random",
    "recbole": "as in the file, and so are times that single precision does not tell apart",
}
"""What is said of each value of `order_ties`."""


def _times(protocol: dict[str, Any]) -> list[str]:
    if "time_unit" not in protocol:
        return []
    if not protocol["tied_rows"]:
        return [f"times in {protocol['time_unit']}; no user has two interactions at the same time"]
    order = ORDERS[protocol["order_ties"] or "file"]
    return [
        f"times in {protocol['time_unit']}; {protocol['tied_rows']:.1%} of the interactions have the same time as the "
        f"user's one before, and {protocol['tied_test_rows']:.1%} of the test items share theirs: these are ordered "
        f"{order} (order_ties)"
    ]


def format_table(rows: Sequence[dict[str, Any]]) -> str:
    """Align rows of the comparison for a terminal.

    Args:
        rows: as in `results.json`: model, metrics, train_seconds, eval_seconds, trainable_parameters, note; perhaps
            checkpoint_bytes.

    Returns:
        Lines of text; the best value of every metric is marked with *.
    """
    rows, metrics = columns_of(rows)
    best = {name: _best(name, rows) for name in metrics}
    sized = any("checkpoint_bytes" in row for row in rows)
    header = ["model", *metrics, "train s", "eval s", "parameters", *(["KiB"] if sized else []), ""]
    body = [
        [
            row["model"],
            *(_score(row["metrics"].get(name), best[name]) for name in metrics),
            f"{row['train_seconds']:.1f}",
            f"{row['eval_seconds']:.1f}",
            f"{row['trainable_parameters']:,}",
            *([f"{row.get('checkpoint_bytes', 0) / 1024:,.0f}"] if sized else []),
            row.get("note", ""),
        ]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [header, *body]) for column in range(len(header))]
    lines = [
        "  ".join(
            cell.ljust(width) if column in (0, len(header) - 1) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [header, ["-" * width for width in widths], *body]
    ]
    return "\n".join(lines)


def columns_of(rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rows with all metrics that a table shows of them, and the names of these metrics.

    Of each other ranking (`score_unmasked`, `cold_items`) it is the best-known metric, or else the first. Rows of
    different tasks have different metrics, and so have rows of other candidates than the table's (`named_by_mode`).

    Args:
        rows: as in `results.json`.
    """
    rows = [{**row, "metrics": named_by_mode(row)} for row in rows]
    for ranking, known in OTHER_RANKINGS.items():
        scored = [row for row in rows if row.get(ranking)]
        if not scored:
            continue
        names = list(scored[0][ranking])
        metric = next((name for name in names if name.startswith(known)), names[0])
        for row in scored:
            row["metrics"][f"{metric} {ranking}"] = row[ranking][metric]
    return rows, list(dict.fromkeys(name for row in rows for name in row["metrics"]))


def named_by_mode(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of a row by names that tell among which candidates they were measured.

    Args:
        row: as in `results.json`; `mode` is given where it is another one than the table's.
    """
    mode = f" ({row['mode']})" if row.get("mode") else ""
    return {f"{name}{mode}": value for name, value in row["metrics"].items()}


OTHER_RANKINGS = {"unmasked": "ndcg", "unseen": "recall"}
"""Rankings besides the table's own, and the metric that is shown of each."""


def markdown_table(rows: Sequence[dict[str, Any]]) -> str:
    """Render the rows as a Markdown table, best value of every metric in bold."""
    rows, metrics = columns_of(rows)
    best = {name: _best(name, rows) for name in metrics}
    lines = [
        "| model | " + " | ".join(metrics) + " | train s | eval s | parameters | |",
        "|---|" + "---:|" * (len(metrics) + 3) + "---|",
    ]
    for row in rows:
        values = [row["metrics"].get(name) for name in metrics]
        scores = ["-" if value is None else f"{value:.4f}" for value in values]
        scores = [
            f"**{text}**" if value == best[name] else text
            for name, value, text in zip(metrics, values, scores, strict=True)
        ]
        cost = f"{row['train_seconds']:.0f} | {row['eval_seconds']:.1f} | {row['trainable_parameters']:,}"
        lines.append(f"| {row['model']} | {' | '.join(scores)} | {cost} | {row.get('note', '')} |")
    return "\n".join(lines)


def task_table(rows: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return the task metrics of all rows that have any: a header and lines of cells; [] if none has."""
    tested = [row for row in rows if row.get("task_metrics")]
    columns = list(
        dict.fromkeys((task, name) for row in tested for task, found in row["task_metrics"].items() for name in found)
    )
    if not columns:
        return []
    lines = [["model", *(f"{task} {name}" for task, name in columns)]]
    for row in tested:
        values = [row["task_metrics"].get(task, {}).get(name) for task, name in columns]
        lines.append([row["model"], *("-" if value is None else f"{value:.4f}" for value in values)])
    return lines


def markdown_tasks(rows: Sequence[dict[str, Any]]) -> str:
    """Render `task_table` as a Markdown table."""
    return _markdown(task_table(rows))


def markdown_seen(rows: Sequence[dict[str, Any]]) -> str:
    """Return each row's training examples per task (distinct ones in brackets) as a Markdown table, or ""."""
    counted = [row for row in rows if row.get("tasks")]
    names = list(dict.fromkeys(name for row in counted for name in row["tasks"]))
    cells = lambda row: [  # noqa: E731
        f"{row['tasks'][name]['seen']} ({row['tasks'][name]['distinct']})" if name in row["tasks"] else "-"
        for name in names
    ]
    return _markdown(
        [["examples seen (distinct)", *names], *([row["model"], *cells(row)] for row in counted)] if counted else []
    )


def _markdown(lines: Sequence[Sequence[str]]) -> str:
    """Render a header and lines of cells as a Markdown table."""
    if not lines:
        return ""
    header, *body = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([header, "|---|" + "---:|" * (len(lines[0]) - 1), *body])


def task_lines(tasks: Sequence[dict[str, Any]]) -> list[str]:
    """Return one line per tested task: metrics, number of examples, number of unparseable answers."""
    lines = []
    for task in tasks:
        test = task.get("test")
        if not test:
            continue
        if "metrics" not in test:
            lines.append(f"{task['name']}: {test['note']}")
            continue
        scores = ", ".join(f"{name} {value:.4f}" for name, value in test["metrics"].items())
        remarks = f", {test['invalid']} unreadable" if "invalid" in test else ""
        if test.get("candidates", RANKED) < RANKED:
            remarks += f", among {test['candidates']} candidates or more instead of {RANKED}: the data have no more"
        if constant := test.get("constant"):
            remarks += f"; one answer to all: {next(iter(constant.values())):.4f}"
        if popularity := test.get("popularity"):
            remarks += f"; the most popular candidate: {next(iter(popularity.values())):.4f}"
        tested = f"{test['examples']} of {test['available']} examples from {test['source']}"
        lines.append(f"{task['name']}: {scores} on {tested}{remarks}")
    return lines


def _best(metric: str, rows: Sequence[dict[str, Any]]) -> float:
    """Return the best value of a metric over rows."""
    found = [row["metrics"][metric] for row in rows if metric in row["metrics"]]
    return min(found) if smaller_is_better(metric) else max(found)


PERPLEXITY, PROBE_LOSS = "perplexity", "probe_loss"
SMALLER = (PERPLEXITY, "div", PROBE_LOSS)
"""Metrics that RecBole's evaluator does not know, of which smaller values are better."""
WEIGHTED = "weighted "
"""Before the name of a metric: its mean over domains."""


def smaller_is_better(metric: str) -> bool:
    """Return whether smaller values of a metric are better (LogLoss, RMSE, ...), as in RecBole's evaluator."""
    name = metric.lower().removeprefix(WEIGHTED).split("@")[0].split(" (")[0]
    return name in SMALLER or getattr(metrics_dict.get(name), "smaller", False)


def _score(value: float | None, best: float) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" + ("*" if value == best else " ")
