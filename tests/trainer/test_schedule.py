"""Progress, learning rate, and the run's clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recbole_recfound.runtime.time_plan import TimePlan, turn
from recbole_recfound.trainer.schedule import progress, rate_factor


@pytest.mark.parametrize(
    ("step", "max_steps", "elapsed", "seconds", "expected"),
    [
        (5, 20, 0, float("inf"), 0.25),
        (5, None, 30, 60, 0.5),
        (5, 20, 30, 60, 0.5),
        (15, 20, 30, 60, 0.75),
        (25, 20, 0, 60, 1.0),
        (0, None, 9, float("inf"), 0.0),
        (0, 0, 9, float("inf"), 1.0),
        (0, 20, 0, 0, 1.0),
    ],
)
def test_progress_follows_the_nearer_limit(step, max_steps, elapsed, seconds, expected):
    assert progress(step, max_steps, elapsed, seconds) == expected


def test_rate_warms_up_and_decays_to_zero():
    factors = [rate_factor(step, step / 10, 4) for step in range(10)]
    assert factors == pytest.approx([0.25, 0.45, 0.6, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert rate_factor(10, 1.0, 4) == 0


@given(st.integers(0, 1000), st.floats(0, 1, exclude_max=True), st.integers(0, 100))
def test_rate_is_positive_until_the_end(step, done, warmup):
    assert 0 < rate_factor(step, done, warmup) <= 1


def test_the_clock_of_a_run():
    now = [100.0]
    plan = TimePlan(60, clock=lambda: now[0])
    now[0] = 125.0
    assert (plan.limited, plan.elapsed(), plan.remaining()) == (True, 25.0, 35.0)
    plan.resume({"ranking": 30.0})
    assert (plan.elapsed(), plan.remaining()) == (55.0, 5.0)
    now[0] = 500.0
    assert plan.remaining() == 0
    unlimited = TimePlan(0, clock=lambda: now[0])
    assert not unlimited.limited and unlimited.remaining() == float("inf")


def test_trainings_take_turns_until_the_deadline():
    assert turn(100.0, 4, now=60.0) == 70.0 and turn(100.0, 1, now=60.0) == 100.0
    # One that needed less leaves the rest more; after the deadline nothing is left.
    assert turn(100.0, 3, now=61.0) == 74.0 and turn(100.0, 2, now=130.0) == 130.0 and turn(None, 2) is None
