"""Weights of the schedulers along recorded losses."""

import json
from pathlib import Path

import pytest

from recbole_recfound.sampler import build_scheduler

RECORDED = json.loads((Path(__file__).parents[1] / "sampler" / "loss_curves.json").read_text())
UPDATES = 50
SCHEDULERS = {
    "s2sched": {},
    "s2sched, short": {"history": 8, "warmup": 20, "tau": 3.0},
    "coba": {},
    "coba, short": {"history": 8, "warmup": 20, "tau": 3.0},
    "proportional": {},
    "uniform": {},
}


@pytest.mark.parametrize("case", SCHEDULERS)
def test_weights_after_fifty_updates(case, pins):
    scheduler = build_scheduler(case.partition(",")[0], RECORDED["sizes"], RECORDED["groups"], **SCHEDULERS[case])
    counts = []
    for losses in RECORDED["losses"][:UPDATES]:
        scheduler.update(losses)
        counts.append(scheduler.allocate({"embedding": 20, "generative": 12}))
    found = {"weights": scheduler.weights(), "loss_weights": scheduler.loss_weights(), "last counts": counts[-5:]}
    pins.check(f"scheduler, {case}", found)
