"""Probes: in turn, often enough, without a trace."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from recbole_recfound.data import StepBatch
from recbole_recfound.trainer.probes import Probes

HOST = torch.get_default_device()


@given(st.integers(1, 9), st.integers(1, 40), st.integers(0, 100))
def test_every_task_in_every_interval(tasks, interval, start):
    names = [f"t{index}" for index in range(tasks)]
    probes = Probes(dict.fromkeys(names), None, interval, HOST)
    window = [probes.due(step) for step in range(start + 1, start + 1 + interval)]
    assert {name for due in window for name in due} == set(names)
    assert sum(map(len, window)) <= 2 * tasks + interval // tasks


def test_measures_means_and_leaves_no_trace():
    model = torch.nn.Dropout(0.5).train()
    seen = []

    def losses(part):
        seen.append(model.training)
        return torch.rand(2) * 0 + part

    batches = {"a": StepBatch([1.0, 4.0], {}), "b": StepBatch([2.0], {})}
    probes = Probes(batches, losses, 1, HOST)
    before = torch.get_rng_state()
    assert probes.measure(model, ["a", "b"]) == {"a": 2.5, "b": 2.0}
    assert torch.equal(before, torch.get_rng_state()) and model.training
    assert seen == [False] * 3 and probes.seconds > 0
    probes.measure(model.eval(), ["a"])
    assert not model.training
    assert probes.measure(model, []) == {}


def test_late_probes_keep_their_turn():
    probes = Probes(dict.fromkeys("abc"), None, 3, HOST)
    found = [probes.due(step, late=2 <= step <= 5) for step in range(1, 9)]
    assert found == [["a"], [], [], [], [], ["b"], ["c"], ["a"]]


@given(st.lists(st.floats(0.01, 5), min_size=1, max_size=8), st.booleans())
def test_probes_keep_within_two_hundredths_of_the_steps_time(costs, together):
    now = 0.0

    def losses(cost):
        nonlocal now
        now += cost
        return torch.ones(1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recbole_recfound.trainer.probes.time.perf_counter", lambda: now)
        probes = Probes({f"t{index}": StepBatch([cost], {}) for index, cost in enumerate(costs)}, losses, 1, HOST)
        probes.at_once = len(costs) if together else 1
        model = torch.nn.Linear(1, 1)
        probes.measure(model, list(probes.batches))  # before training, no part of a step
        probes.seconds, steps, probed = 0.0, 0.0, set()
        for step in range(1, 1 + 60 * (1 + int(sum(costs)))):
            due = probes.due(step, probes.too_long(steps))
            before = probes.seconds
            probes.measure(model, due)
            steps += 1.0 + probes.seconds - before
            probed.update(due)
            assert probes.seconds <= 0.02 * steps + 1e-9
    assert probed == set(probes.batches)


@pytest.mark.parametrize("interval", [1, 3])
def test_an_interval_shorter_than_the_tasks(interval):
    probes = Probes(dict.fromkeys("abcdefg"), None, interval, HOST)
    assert probes.due(1) == list("abcdefg")[: -(-7 // interval)]
