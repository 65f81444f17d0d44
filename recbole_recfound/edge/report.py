"""A distilled student in words: one table of the teacher and all exits."""

from __future__ import annotations

from typing import Any


def table_of(report: dict[str, Any]) -> str:
    """Return the table of a report in Markdown.

    Args:
        report: of `edge.make`.
    """
    columns = (
        "model", "parameters", "not zero", "KiB of the graph", f"ms for {report['request']['candidates']} candidates",
        "test AUC", "test LogLoss", "largest difference from torch", "same top 10",
        "largest difference from unrounded", "same top 10 as unrounded", "integer products",
    )  # fmt: skip
    teacher = report["teacher"]
    rows = [
        [
            "teacher",
            f"{teacher['parameters']:,}",
            "",
            "",
            f"{teacher['milliseconds']:,.0f}",
            f"{teacher['auc']:.4f}",
            f"{teacher['logloss']:.4f}",
            *5 * [""],
        ]
    ]
    for exit_ in report["exits"]:
        for form, facts in exit_["forms"].items():
            rows.append(
                [
                    f"exit {exit_['layer']}, {form}",
                    f"{exit_['parameters']:,}",
                    f"{exit_['nonzero']:,}",
                    f"{facts['bytes'] / 1024:,.0f}",
                    f"{facts['milliseconds']:,.0f}",
                    f"{facts['auc']:.4f}",
                    f"{facts['logloss']:.4f}",
                    *_agreement(facts["torch"]),
                    *_agreement(facts["unrounded"]),
                    str(facts["integer_products"]),
                ]
            )
    lines = [columns, ["---", *["---:"] * (len(columns) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _agreement(facts: dict[str, float]) -> tuple[str, str]:
    return f"{facts['largest_difference']:.5f}", f"{100 * facts['same_top']:.1f}%"


def page_of(report: dict[str, Any]) -> str:
    """Return `README.md` of the folder.

    Args:
        report: of `edge.make`.
    """
    tested, compared, request = report["tested"], report["compared"], report["request"]
    relations, scores = report["training"]["relations"], report["training"]["scores"]
    sizes = ", ".join(f"{name} {size / 1024:,.0f} KiB" for name, size in report["files"].items())
    lines = [
        f"Answers come from the {report['form']} graphs, without torch: "
        f'`recfound edge {report["name"]} --history "TOKEN,TOKEN" --k 10`.',
        f"AUC and LogLoss are those of the {tested:,} test rows. Every graph holds all parameters of its exit, so that "
        "the sizes of several exits add up. Zeros take as much room and time as other weights.",
        f"A request is ranked in chunks by {request['threads']} thread(s): the median of {request['rounds']} calls, "
        "measured in turn.",
        "A graph is compared with torch in its own arithmetic (int8: states and weights rounded as in the graph), and "
        "with torch in float32 and the same weights, unrounded."
        + " With int8, the training ends in its arithmetic."
        * (scores["steps"] > 0),
        f"Compared are {compared['histories']} histories with {compared['candidates']} candidates each. Of the "
        f"teacher's ten best, the last exit has {100 * compared['teacher_top']:.0f}%.",
        f"Files: {sizes}.",
        f"Learned from {relations['texts']} texts ({relations['steps']} steps, {relations['seconds']:.0f} s) and "
        f"{scores['rows']:,} scores ({scores['steps']} steps, {scores['seconds']:.0f} s).",
    ]
    points = "\n".join(f"- {line}" for line in lines)
    return f"# A student of {report['run']}\n\n{table_of(report)}\n\n{points}\n"
