"""Table and report from the least and from the most a run can give; router similarity."""

import warnings
from html.parser import HTMLParser

import pytest
import torch

from recbole_recfound.adapter import build_adapter
from recbole_recfound.backbone import load_backbone
from recbole_recfound.data.task import task_table
from recbole_recfound.evaluation.report.page import probe_curves, ratio_curves, render_report
from recbole_recfound.evaluation.report.table import format_table, markdown_table, protocol_line
from recbole_recfound.evaluation.router import router_similarity

HOST = torch.get_default_device()
PROTOCOL = {
    "dataset": "films",
    "split": "{'LS': 'valid_and_test'}",
    "order": "TO",
    "mode": "full",
    "mask_history": True,
    "load_col": None,
    "valid_metric": "NDCG@10",
    "users": 9,
    "items": 20,
    "seed": 1,
}


def _row(name, score, **more):
    return {
        "model": name,
        "metrics": {"recall@10": score, "ndcg@10": score / 2},
        "valid_metrics": {"ndcg@10": score / 3},
        "train_seconds": 12.34,
        "eval_seconds": 0.5,
        "trainable_parameters": 1234567,
        "note": "",
        **more,
    }


MINIMAL = {
    "model": "Pop",
    "dataset": "films",
    "protocol": PROTOCOL,
    "rows": [_row("Pop", 0.1)],
    "versions": {"torch": "2"},
    "seed": 1,
}
TASK = {
    "title": "user to item",
    "note": "",
    "size": 9,
    "seen": 3,
    "distinct": 3,
    "untrained_loss": 4.0,
    "final_loss": 2.0,
}
FULL = MINIMAL | {
    "model": "RecFound",
    "rows": [_row("<Pop>", 0.1), _row("RecFound", 0.3, note="merged of best, last, merged")],
    "tasks": [TASK | {"name": "U2I", "kind": "embedding"}, TASK | {"name": "SR", "kind": "generative"}],
    "left_out": {"SA": "the data set has no rating"},
    "merge": {
        "kept": "merged",
        "method": "linear",
        "steps": [2, 4],
        "distances": [[0.0, 0.1], [0.1, 0.0]],
        "reason": "",
        "valid": {name: {"ndcg@10": 0.2, "recall@10": 0.3} for name in ("best", "last", "merged")},
        "test": {name: {"ndcg@10": 0.1, "recall@10": 0.2} for name in ("best", "last", "merged")},
    },
    "router": {"tasks": ["U2I", "SR"], "similarity": [[1.0, 0.5], [0.5, 1.0]]},
    "examples": [{"user": "u1", "history": ["<script>alert(1)</script>"], "recommended": ["B & C"], "held_out": "D"}],
    "run": {"steps": 4, "total_seconds": 12.3456},
}
HISTORY = [
    {
        "step": step,
        "losses": {"U2I": 3.0},
        "probed": {"U2I": 4.0 - step} if step % 2 else {},
        "weights": {"U2I": 1.0, "SR": 1.0},
    }
    for step in range(1, 5)
]


class _Tags(HTMLParser):
    """Checks that tags close in the order they open."""

    def __init__(self, page):
        super().__init__()
        self.open, self.seen = [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        if tag not in ("meta", "br", "link", "hr", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize(("results", "history"), [(MINIMAL, []), (FULL, HISTORY), (FULL, [])])
def test_report_renders(results, history):
    page = render_report(results, history)
    tags = _Tags(page)
    assert not tags.open and "script" not in tags.seen and "table" in tags.seen
    assert protocol_line(PROTOCOL).split(":")[0] in page
    if results is FULL:
        assert "&lt;script&gt;alert(1)" in page and "B &amp; C" in page and "&lt;Pop&gt;" in page
        assert "the data set has no rating" in page and "1,234,567" in page


@pytest.mark.parametrize(
    ("row", "drawn"),
    [
        (_row("M6Rec", 0.3, mode="uni100"), "test ndcg@10 (uni100)"),
        (_row("M6Rec", 0.3, metrics={"perplexity": 2.0, "bleu": 0.1}), "test perplexity"),
    ],
)
def test_a_run_whose_rows_have_none_of_the_tables_metrics_has_a_picture_too(row, drawn):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib's, of a picture without bars
        page = render_report(MINIMAL | {"rows": [row]})
    assert f"<!-- {drawn} -->" in page and "<!-- M6Rec -->" in page
    assert "<svg" not in render_report(MINIMAL | {"rows": [_row("RecFound", 0.3, metrics={})]}), "of records alone"


def test_same_run_same_page():
    first, second = (render_report(FULL, HISTORY) for _ in range(2))
    assert first == second and first.count("<svg") >= 4


def test_curves():
    assert probe_curves(FULL["tasks"], HISTORY) == {"U2I": [(0, 1.0), (1, 0.75), (3, 0.25)], "SR": [(0, 1.0)]}
    assert ratio_curves(FULL["tasks"], HISTORY)["generative"] == {"SR": [(step, 1.0) for step in range(1, 5)]}
    assert ratio_curves(FULL["tasks"], []) == {}


def test_table():
    lines = format_table(FULL["rows"]).splitlines()
    assert len(lines) == 4 and lines[0].split()[:3] == ["model", "recall@10", "ndcg@10"]
    assert "0.3000*" in lines[3] and "0.1000*" not in lines[2] and "1,234,567" in lines[3]
    assert len({line.index("0.") for line in lines[2:]}) == 1
    assert format_table(MINIMAL["rows"]).count("*") == 2
    other = _row("EASE", 0.2) | {"metrics": {"recall@10": 0.2}}
    assert " - " in format_table([*MINIMAL["rows"], other])


def test_less_is_better_where_recbole_says_so():
    rows = [
        {**_row(name, 0.2), "metrics": {"auc": auc, "logloss": loss}}
        for name, auc, loss in (("A", 0.7, 0.5), ("B", 0.8, 0.6))
    ]
    first, second = format_table(rows).splitlines()[2:]
    assert "0.5000*" in first and "0.7000*" not in first and "0.8000*" in second and "0.6000*" not in second
    assert "**0.5000**" in markdown_table(rows) and "**0.6000**" not in markdown_table(rows)


def test_protocol_line_says_whether_history_is_masked():
    for mode in ("labeled", "uni50"):  # nothing is masked there, whatever the switch
        assert (
            f"{mode} rows" in protocol_line(PROTOCOL | {"mode": mode})
            and "masked" not in protocol_line(PROTOCOL | {"mode": mode}).lower()
        )
    assert "history masked" in protocol_line(PROTOCOL) and "history NOT masked" in protocol_line(
        PROTOCOL | {"mask_history": False}
    )


def test_router_similarity(tiny_backbone):
    names = ["U2I", "I2I", "SR", "AG"]
    adapted = build_adapter(load_backbone(str(tiny_backbone), HOST).model, "tmole", task_table(), r=2)
    similarity = torch.tensor(router_similarity(adapted, names))
    assert similarity.shape == (4, 4)
    torch.testing.assert_close(similarity, similarity.T)
    torch.testing.assert_close(similarity.diagonal(), torch.ones(4))
    assert (similarity[0, 1:] < 1).all() and (similarity > 0).all()
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            weight.mul_(0.0 if "tmole_router" in name else 1.0)
    # Equal gates over the experts that are open: a task of the other kind shares one of its two groups.
    expected = torch.tensor([[1, 1, 0.5, 0.5], [1, 1, 0.5, 0.5], [0.5, 0.5, 1, 1], [0.5, 0.5, 1, 1]])
    torch.testing.assert_close(torch.tensor(router_similarity(adapted, names)), expected)
    lora = build_adapter(load_backbone(str(tiny_backbone), HOST).model, "lora", r=2)
    assert router_similarity(lora, names) == []
