"""Where the seconds of a run go, by a clock of the test."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_recfound.runtime.time_plan import PREPARATION, TimePlan


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self):
        self.now = 50.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_every_second_counts_for_one_part(clock):
    plan = TimePlan(100, clock)
    clock.now += 3
    with plan.phase("baselines"):
        clock.now += 5
    clock.now += 1
    with plan.phase("validation"):
        clock.now += 2
        with plan.phase("texts of items"):
            clock.now += 7
        clock.now += 4
    with plan.phase("baselines"):
        clock.now += 1
    assert plan.spent() == {PREPARATION: 3, "baselines": 6, "other": 1, "validation": 6, "texts of items": 7}
    assert sum(plan.spent().values()) == plan.elapsed() == 23


@given(st.lists(st.tuples(st.sampled_from(["in a", "in b", "out", "wait"]), st.integers(0, 9))))
def test_the_parts_add_up_to_the_whole(events):
    clock = Clock()
    plan, entered = TimePlan(0, clock), []
    for event, seconds in events:
        clock.now += seconds
        if event.startswith("in"):
            entered.append(plan.phase(event))
            entered[-1].__enter__()
        elif event == "out" and entered:
            entered.pop().__exit__(None, None, None)
    assert sum(plan.spent().values()) == plan.elapsed()


def test_an_error_ends_the_phase(clock):
    plan = TimePlan(0, clock)
    with pytest.raises(KeyError), plan.phase("report"):
        clock.now += 2
        raise KeyError
    with plan.phase("validation"):
        clock.now += 1
    assert plan.spent() == {"report": 2, "validation": 1}


def test_a_resumed_run_goes_on_counting(clock):
    before = TimePlan(100, clock)
    with before.phase("baselines"):
        clock.now += 30
    spent = before.spent()
    clock.now += 1000  # it did not run
    after = TimePlan(100, clock)
    clock.now += 2
    after.resume(spent)
    with after.phase("baselines"):
        clock.now += 5
    assert after.elapsed() == 37 and after.remaining() == 63
    assert after.spent() == {PREPARATION: 2, "baselines": 35}


def test_of_two_accounts_of_the_time_before_the_longest_counts(clock):
    plan = TimePlan(100, clock)
    plan.resume({"baselines": 10.0})
    plan.resume({"baselines": 10.0, "training": 20.0})
    plan.resume({"baselines": 10.0, "training": 5.0})
    assert plan.elapsed() == 30 and plan.spent() == {"baselines": 10.0, "training": 20.0}


def test_parts_that_can_be_shortened_leave_time_to_train(clock):
    plan = TimePlan(300, clock)
    plan.reserved |= {"tests of the tasks": 40, "report": 20}
    plan.elastic.add("tests of the tasks")
    assert plan.kept() == plan.kept(200) == 60
    assert [plan.kept(both) for both in (80, 50, 20, 0)] == pytest.approx([40, 30, 20, 20])


def test_the_plan_in_words(clock):
    plan = TimePlan(300, clock)
    plan.most["baselines"] = 75
    plan.reserved |= {"tests of the tasks": 40, "report": 20}
    clock.now += 10
    assert plan.kept() == 60
    assert plan.described() == (
        "time plan: 300 s for the whole run: baselines at most 75 s, tests of the tasks 40 s, report 20 s, 10 s are "
        "spent, 155 s or more for texts, training, its validations and the choice of weights"
    )
    plan.within = "at least 65% of it for U2I, I2I"
    assert "155 s or more for texts, training (at least 65% of it for U2I, I2I), its validations" in plan.described()
    assert TimePlan(0).described() == "time plan: no limit (time_budget: 0)"
