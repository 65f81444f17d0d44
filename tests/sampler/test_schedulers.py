import json
from pathlib import Path
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_recfound.sampler import SCHEDULERS, S2Sched, build_scheduler
from tests.reference import s2sched_equations as equations

RECORDED = json.loads((Path(__file__).parent / "loss_curves.json").read_text())
SIZES, GROUPS, LOSSES = RECORDED["sizes"], RECORDED["groups"], RECORDED["losses"]
BATCH = {"embedding": 20, "generative": 12}
every_scheduler = pytest.mark.parametrize("name", SCHEDULERS)

NAMES = ["a", "b", "c", "d"]
finite = st.floats(allow_nan=False, allow_infinity=False)
calm = st.floats(1e-3, 10)


def records(losses):
    return st.lists(st.dictionaries(st.sampled_from(NAMES), losses), min_size=1, max_size=25)


def sized(**sizes):
    return sizes, {task: "x" if task in "ab" else "y" for task in sizes}


def check_shares(weights, groups):
    assert all(0 < weight <= 1 for weight in weights.values())
    for group in set(groups.values()):
        assert sum(weights[task] for task in groups if groups[task] == group) == pytest.approx(1)


@pytest.mark.parametrize(
    "options", [{}, {"history": 8, "warmup": 20}, {"history": 5, "warmup": 0, "tau": 3.0}], ids=str
)
def test_equals_the_equations_on_recorded_curves(options):
    scheduler = S2Sched(SIZES, GROUPS, **options)
    for step, losses in enumerate(LOSSES):
        scheduler.update(losses)
        expected = equations.weights(LOSSES[: step + 1], SIZES, GROUPS, **options)
        assert scheduler.weights() == pytest.approx(expected, rel=1e-9)


@given(records(calm), st.integers(2, 6), st.integers(0, 9), st.floats(0.1, 5))
@settings(max_examples=100, deadline=None)
def test_equals_the_equations_on_any_curves(record, history, warmup, tau):
    sizes, groups = sized(a=5, b=90, c=7, d=8)
    scheduler = S2Sched(sizes, groups, history, warmup, tau)
    for losses in record:
        scheduler.update(losses)
    expected = equations.weights(record, sizes, groups, history, warmup, tau)
    # The slope of a curve that is flat up to rounding is noise, and gets divided by noise.
    assert scheduler.weights() == pytest.approx(expected, rel=1e-4) or nearly_flat(record, groups, warmup)


def nearly_flat(record, groups, warmup):
    curves = {task: equations.curve(record, task) for task in groups}
    slopes = [
        equations.slope(equations.upto(points, t)[-size:])
        for points in curves.values()
        for t in range(warmup + 1, len(record))
        for size in range(2, 7)
    ]
    return any(0 < abs(value) < 1e-9 for value in slopes)


@every_scheduler
@given(record=records(finite), warmup=st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_weights_are_finite_for_any_finite_history(name, record, warmup):
    sizes, groups = sized(a=1, b=10**6, c=7, d=8)
    options = {"history": 4, "warmup": warmup} if name in ("s2sched", "coba") else {}
    scheduler = build_scheduler(name, sizes, groups, **options)
    for losses in record:
        scheduler.update(losses)
        check_shares(scheduler.weights(), groups)
        factors = scheduler.loss_weights().values()
        assert all(0 <= factor < float("inf") for factor in factors)
        assert sum(factors) == pytest.approx(4)


@pytest.mark.parametrize("value", [0.0, 1.0, -2.0, 1e-300, 1e300])
def test_constant_losses(value):
    sizes, groups = sized(a=1, b=3, c=1)
    scheduler = S2Sched(sizes, groups, history=4, warmup=1)
    for _ in range(10):
        scheduler.update(dict.fromkeys(sizes, value))
    assert scheduler.weights() == pytest.approx({"a": 0.25, "b": 0.75, "c": 1.0})


@pytest.mark.parametrize("name", ["s2sched", "coba"])
@pytest.mark.parametrize("history", [5, 64])
@pytest.mark.parametrize("values", [(2.1, 0.7, 1.3), (0.1, 1e9, 1e-5)])
def test_constant_losses_at_irregular_steps_favour_no_task(name, history, values):
    """The least-squares line through equal values has a slope of rounding alone."""
    sizes = dict.fromkeys("abc", 1)
    scheduler = build_scheduler(name, sizes, dict.fromkeys("abc", "x"), history=history, warmup=3)
    for step in range(90):
        first = {"a": 1.7, "b": 0.3, "c": 0.9}
        due = [task for task, period in zip("abc", (1, 3, 7), strict=True) if step * step % (period + 1) < 2]
        scheduler.update(first if step == 0 else {task: dict(zip("abc", values, strict=True))[task] for task in due})
        assert scheduler.weights() == pytest.approx(dict.fromkeys("abc", 1 / 3))
        assert scheduler.loss_weights() == pytest.approx(dict.fromkeys("abc", 1.0))


def test_one_task():
    scheduler = S2Sched({"a": 5}, {"a": "x"}, warmup=0)
    for value in (3.0, 2.0, 2.5):
        scheduler.update({"a": value})
        assert scheduler.weights() == {"a": 1.0}
    assert scheduler.allocate({"x": 7}) == {"a": 7}


def test_warmup_longer_than_history_is_proportional_to_size():
    sizes, groups = sized(a=1, b=3, c=5)
    scheduler = S2Sched(sizes, groups, history=4, warmup=30)
    for step in range(31):
        scheduler.update({"a": 1 + step, "b": 1 / (1 + step), "c": 1.0})
        assert scheduler.weights() == pytest.approx({"a": 0.25, "b": 0.75, "c": 1.0})
    scheduler.update({"a": 40, "b": 0.01, "c": 1.0})
    assert scheduler.weights()["a"] != pytest.approx(0.25)


def test_slow_tasks_get_more_and_nobody_starves():
    sizes, groups = sized(a=100, b=100)
    scheduler = S2Sched(sizes, groups, history=8, warmup=2)
    for step in range(20):
        scheduler.update({"a": 2 - 0.09 * step, "b": 2 - 0.01 * step})
    weights = scheduler.weights()
    assert weights["b"] > weights["a"] >= 0.1


def test_first_call_normalises():
    small, large = (S2Sched(*sized(a=1, b=1), warmup=0) for _ in range(2))
    for step in range(6):
        small.update({"a": 0.9**step, "b": 0.5**step})
        large.update({"a": 1000 * 0.9**step, "b": 0.5**step})
    assert large.weights() == pytest.approx(small.weights())


@every_scheduler
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_losses_must_be_finite(name, value):
    scheduler = build_scheduler(name, SIZES, GROUPS)
    with pytest.raises(ValueError, match="probe loss of task SR"):
        scheduler.update({"U2I": 1.0, "SR": value})
    assert scheduler.state_dict() == build_scheduler(name, SIZES, GROUPS).state_dict()


@every_scheduler
def test_refusals(name):
    with pytest.raises(ValueError, match="size and a group"):
        build_scheduler(name, {"a": 1, "b": 1}, {"a": "x"})
    with pytest.raises(ValueError, match="size and a group"):
        build_scheduler(name, {}, {})
    with pytest.raises(ValueError, match="task a has 0"):
        build_scheduler(name, {"a": 0}, {"a": "x"})
    scheduler = build_scheduler(name, SIZES, GROUPS)
    with pytest.raises(ValueError, match="unknown task 'XX'"):
        scheduler.update({"XX": 1.0})
    with pytest.raises(ValueError, match="unknown group"):
        scheduler.allocate({"other": 3})
    with pytest.raises(ValueError, match="batch size"):
        scheduler.allocate({"embedding": -1})


def test_settings_out_of_range():
    with pytest.raises(ValueError, match="unknown scheduler"):
        build_scheduler("random", SIZES, GROUPS)
    for options in ({"history": 1}, {"warmup": -1}, {"tau": 0.0}):
        with pytest.raises(ValueError, match="needed"):
            S2Sched(SIZES, GROUPS, **options)


def test_baselines():
    sizes, groups = sized(a=1, b=3, c=5)
    assert build_scheduler("proportional", sizes, groups).weights() == {"a": 0.25, "b": 0.75, "c": 1.0}
    assert build_scheduler("uniform", sizes, groups).weights() == {"a": 0.5, "b": 0.5, "c": 1.0}
    coba = build_scheduler("coba", sizes, groups, warmup=3)
    for step in range(10):
        assert (coba.loss_weights() == {"a": 1.0, "b": 1.0, "c": 1.0}) == (step <= 4)
        coba.update({"a": 1 - 0.09 * step, "b": 1 - 0.01 * step, "c": 1 - 0.05 * step})
    assert coba.weights() == {"a": 0.25, "b": 0.75, "c": 1.0}
    assert coba.loss_weights()["b"] > coba.loss_weights()["c"] > coba.loss_weights()["a"]


@every_scheduler
@pytest.mark.parametrize("stop", [0, 1, 20, 40, 100])
def test_resumed_run_equals_an_uninterrupted_one(name, stop):
    straight = build_scheduler(name, SIZES, GROUPS)
    resumed = build_scheduler(name, SIZES, GROUPS)
    for step, losses in enumerate(LOSSES):
        if step == stop:
            state = json.loads(json.dumps(resumed.state_dict()))
            resumed = build_scheduler(name, SIZES, GROUPS)
            resumed.load_state_dict(state)
        for scheduler in (straight, resumed):
            scheduler.update(losses)
        assert resumed.weights() == straight.weights()
        assert resumed.loss_weights() == straight.loss_weights()
        assert resumed.allocate(BATCH) == straight.allocate(BATCH)
    assert resumed.state_dict() == straight.state_dict()


def test_state_of_another_scheduler_is_refused():
    state = S2Sched(SIZES, GROUPS).state_dict()
    with pytest.raises(ValueError, match="other tasks"):
        S2Sched({"a": 1, "b": 1}, {"a": "embedding", "b": "generative"}).load_state_dict(state)
    with pytest.raises(ValueError, match="other settings"):
        S2Sched(SIZES, GROUPS, tau=2.0).load_state_dict(state)


def test_a_long_run_stays_cheap():
    scheduler = S2Sched(SIZES, GROUPS)
    for step in range(5000):
        scheduler.update(LOSSES[step % len(LOSSES)])
    start = process_time()
    for _ in range(100):
        scheduler.update(LOSSES[1])
        scheduler.allocate(BATCH)
    assert (process_time() - start) / 100 < 0.005
