"""A whole run under a time limit, by a clock that says what each part takes on a fast and on a slow machine."""

import json
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from recbole_recfound.model.generation import Generator
from recbole_recfound.model.recfound import RecFound
from recbole_recfound.quick_start import run_recfound
from recbole_recfound.runtime.time_plan import TimePlan
from recbole_recfound.trainer.pace import GENERATING, PAIRS, RANKING, STEPS, account_of
from recbole_recfound.trainer.recfound import RecFoundTrainer

FAST = {RANKING: 0.4, PAIRS: 0.2, GENERATING: 0.5, "texts": 1.0, "validation": 0.7, "answer": 0.1, "rest": 0.05}
MANY_USERS = FAST | {"validation": 16.0, "texts": 10.0}
SLOW = {RANKING: 2.0, PAIRS: 0.3, GENERATING: 3.1, "texts": 8.0, "validation": 2.0, "answer": 0.7, "rest": 0.2}
"""Seconds of a part of a step (of an example, for generative tasks), of encoding all texts, of a batch of users, of
writing an answer, and of the rest of a step. SLOW is a machine without bfloat16."""


@pytest.fixture
def clock(monkeypatch):
    """Return a setter of what parts cost; time passes by them alone."""
    now, costs = [1000.0], {}

    def after(owner, name, cost):
        real = getattr(owner, name)

        def slower(self, *given, **named):
            found = real(self, *given, **named)
            now[0] += cost(*given)
            return found

        monkeypatch.setattr(owner, name, slower)

    timed = RecFoundTrainer._timed

    @contextmanager
    def timed_by_cost(self, part):
        with timed(self, part):
            yield
            account = account_of(part, "U2I")
            now[0] += costs[account] * (len(part) if account == GENERATING else 1)

    monkeypatch.setattr(RecFoundTrainer, "_timed", timed_by_cost)
    after(RecFoundTrainer, "_clip", lambda *given: costs["rest"])
    after(RecFound, "refresh_items", lambda *given: costs.pop("texts", 0.0))  # what is frozen is encoded once
    after(RecFound, "full_sort_predict", lambda *given: costs["validation"])
    after(Generator, "answers", lambda prompts, *rest: costs["answer"] * len(prompts))
    for name in ("monotonic", "perf_counter"):
        monkeypatch.setattr(time, name, lambda: now[0])
    monkeypatch.setattr("recbole_recfound.system.execute.TimePlan", partial(TimePlan, clock=lambda: now[0]))
    return costs.update


@pytest.mark.parametrize(("machine", "budget"), [(FAST, 60), (MANY_USERS, 300), (SLOW, 150), (SLOW, 300)])
def test_a_plan_is_kept(small_run, clock, machine, budget):
    clock(machine)
    settings = small_run | {"time_budget": budget, "max_steps": None, "eval_interval": None, "task_test_examples": 16}
    settings |= {"batch_args": {"generative_chunk": 12}, "item_args": {"refresh_interval": 0}, "stopping_step": 99}
    result = run_recfound("RecFound", "tiny", config_dict=settings)
    found = json.loads((Path(result["run_dir"]) / "results.json").read_text())
    (row,) = found["rows"]
    seconds, steps = found["run"]["seconds"], found["run"]["steps"]
    assert sum(seconds.values()) <= budget
    assert steps >= 4 and len(found["merge"]["steps"]) == 4
    training = sum(seconds.get(name, 0.0) for name in (RANKING, PAIRS, GENERATING, STEPS))
    assert training >= budget / 7
    # The first pass comes before anything is measured; what it takes is paid back.
    embedding, one_pass = seconds[RANKING] + seconds.get(PAIRS, 0.0), 12 * machine[GENERATING]
    assert seconds.get(GENERATING, 0.0) <= max(one_pass, embedding * (1 / 0.65 - 1) - seconds[STEPS] + one_pass / 4)
    asked = {task["name"]: task["test"]["examples"] / min(16, task["test"]["available"]) for task in found["tasks"]}
    assert all(share > 0 for share in asked.values()) and (budget == 150 or min(asked.values()) > 0.6)
    assert row["note"].endswith(f"not converged: stopped after {steps} steps")
