"""Negatives are never known positives, whatever the pool."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_recfound.data.task import build_tasks
from recbole_recfound.data.task.negatives import draw_negatives
from tests.data.task.hand_made import task_settings, training_data


@settings(deadline=None)
@given(
    seed=st.integers(0, 99),
    count=st.integers(0, 30),
    size=st.integers(0, 3000),
    known=st.lists(st.integers(0, 3000), max_size=25),
)
def test_drawn_from_the_pool_and_never_known(seed, count, size, known):
    pool = np.arange(0, 2 * size, 2)
    drawn = draw_negatives(np.random.default_rng(seed), count, pool, np.array(known, dtype=np.int64))
    allowed = set(pool.tolist()) - set(known)
    assert len(drawn) == len(set(drawn)) == min(count, len(allowed))
    assert set(drawn) <= allowed


@settings(deadline=None, max_examples=30)
@given(
    histories=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=5), min_size=1, max_size=6),
    source=st.sampled_from(["random", "title"]),
    sequences=st.booleans(),
)
def test_no_task_draws_a_known_positive(histories, source, sequences):
    data = training_data([*histories, [0, 1, 2]])
    options = task_settings(sequences=sequences, negative_source=source, hard_negatives=2, candidates=4)
    tasks, _ = build_tasks(["U2I", "I2I", "Q2I", "SR"], data, options)
    for name in set(tasks) & {"U2I", "I2I", "Q2I"}:
        for example in map(tasks[name].example, range(len(tasks[name]))):
            for negative in getattr(example, "negatives", ()):
                assert negative not in (*example.known, example.positive) and negative < data.catalogue.pool_size
    if "SR" in tasks:
        task = tasks["SR"]
        for index in range(len(task)):
            example = task.example(index)
            candidates = list(example.slots["candidates"][1])
            target = data.items[task.positions[index]]
            candidates.remove(target)
            assert not set(candidates) & set(data.history(task.user[task.positions[index]]).tolist())
