"""The first training losses of RecFound: in every form of history, and of every task alone."""

import json
from pathlib import Path

import pytest

from recbole_recfound.data.task import TASKS
from recbole_recfound.quick_start import run_recfound

STEPS = 5
QUICK = {
    "max_steps": STEPS,
    "eval_interval": STEPS,
    "item_args": {"refresh_interval": 3, "text_alone": 0.0},
    "probe_args": {"interval": STEPS},
    "task_test_examples": 0,
    "warmup_steps": 2,
    "merge_method": "none",
    "dropout": 0.0,
    "task_args": {"*": {"max_examples": 30}},
}
MODES = {
    "item": {"history": "item"},
    "positions": {"history": "positions"},
    "prompt": {"history": "prompt"},
    "late": {"history": "late"},
}
VARIANTS = {
    "lora": {"adapter": "lora"},
    "coba": {"scheduler": "coba", "scheduler_args": {"warmup": 1}},
    "s2sched": {"scheduler_args": {"warmup": 1}, "probe_args": {"interval": 1}},
    "dropout": {"dropout": 0.1, "adapter_args": {"lora_dropout": 0.1}},
    "no refresh": {"item_args": {"refresh_interval": 0}},
    "text alone": {"item_args": {"text_alone": 0.5}},
    "gradient cache": {"batch_args": {"cache_chunk": 1, "accumulation": 2}},
    "sampled softmax": {"loss_args": {"full_softmax_items": 10, "sampled_items": 20}},
    "small tower": {"history": "item", "control": "small_reader"},
    "title negatives": {"task_args": {"*": {"negative_source": "title", "hard_negatives": 2}}},
}
ATOMIC = {name: {"tasks": [name]} for name in ("U2I", "I2I", "Q2I", "SA", "IP", "AVE", "UP")} | {
    "SR letters": {"tasks": ["SR"]},
    "SR title": {"tasks": ["SR"], "task_args": {"SR": {"form": "title"}}},
}
ANSWERS = {"PRP": "substitute", "SA": "4", "PM": "yes", "AP": "no"}
"""Answers of the tasks that have few; the others are asked for free text."""


def first_steps(run: dict) -> list[dict]:
    """Losses, probes, counts of examples and shares of every step of a run."""
    history = json.loads((Path(run["run_dir"]) / "trainer_state" / "history.json").read_text())
    assert [record["step"] for record in history] == list(range(1, STEPS + 1))
    return [{key: record[key] for key in ("losses", "counts", "probed", "weights")} for record in history]


def losses_of(steps: list[dict]) -> list[dict]:
    """The same without shares."""
    return [{key: step[key] for key in ("losses", "counts", "probed")} for step in steps]


def check(pins, name: str, steps: list[dict]) -> None:
    """Shares are quotients of differences of losses, hence the wider tolerance: rounding differs between processors."""
    pins.check(f"losses, {name}", losses_of(steps))
    pins.check(f"shares, {name}", [step["weights"] for step in steps], rel=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_forms_of_the_history(mode, small_run, pins):
    check(pins, mode, first_steps(run_recfound("RecFound", "tiny", config_dict=small_run | QUICK | MODES[mode])))


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants(variant, small_run, pins):
    settings = small_run | QUICK | {"tasks": ["U2I", "I2I", "SR", "IP"]} | VARIANTS[variant]
    check(pins, variant, first_steps(run_recfound("RecFound", "tiny", config_dict=settings)))


@pytest.mark.parametrize("task", ATOMIC)
def test_tasks_of_atomic_files(task, small_run, pins):
    settings = small_run | QUICK | {"batch_args": {"generative_chunk": 1}} | ATOMIC[task]
    steps = first_steps(run_recfound("RecFound", "tiny", config_dict=settings))
    (name,) = ATOMIC[task]["tasks"]
    assert all(list(step["losses"]) == [name] for step in steps)
    pins.check(f"losses, {task}", losses_of(steps))


def records(task: str, count: int = 12) -> list[dict]:
    """Records of a task, of different lengths."""
    spec = TASKS[task]
    if spec.kind == "embedding":
        return [
            {
                "query": ["Find:", f"query {n * 7}"],
                "pos": [["", f"item {n % 5}"]],
                "neg": [["", f"other {n}"], ["", "third"]],
                "task": spec.record,
            }
            for n in range(count)
        ]
    return [
        {"text": [f"{spec.title} {n * 37}?", ANSWERS.get(task, f"answer {n % 5}")], "task": spec.record}
        for n in range(count)
    ]


@pytest.mark.parametrize("task", TASKS)
def test_tasks_of_records(task, small_run, tmp_path, pins):
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records(task)))
    settings = (
        small_run | QUICK | {"task_files": [str(tmp_path / "train.jsonl")], "batch_args": {"generative_chunk": 1}}
    )
    settings.pop("load_col")
    steps = first_steps(run_recfound("RecFound", "none", config_dict=settings))
    assert all(list(step["losses"]) == [task] for step in steps)
    pins.check(f"losses, records of {task}", losses_of(steps))
