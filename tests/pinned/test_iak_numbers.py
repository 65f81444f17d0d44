"""IAK: the first and last steps of the kernels, and the metrics of every row of a run."""

import pytest

from recbole_recfound.quick_start import run_recfound
from tests.small_iak import small_base

QUICK = {"show_progress": False, "use_gpu": False, "time_budget": 0, "epochs": 2, "train_batch_size": 32}
ARGS = {"least_steps": 4}
STEPS = 5
RUNS = {
    "DeepFM, joint": {"base_model": "DeepFM", "domain": ["gender"]},
    "DeepFM, two_phase": {"base_model": "DeepFM", "domain": ["gender"], "iak_args": {"schedule": "two_phase"}},
    "DeepFM, distilled": {
        "base_model": "DeepFM",
        "domain": ["gender", "age:25/40"],
        "iak_args": {"lambda_kd": 0.5, "beta": 0.01},
    },
    "DeepFM, gated, learned prior, fixed": {
        "base_model": "DeepFM",
        "domain": ["gender"],
        "kernel_args": {"combine": "gated", "prior": "learned"},
        "iak_args": {"sampling": "fixed"},
    },
    "SASRec, joint": {"base_model": "SASRec", "domain": ["gender"]},
}


def settings_of(run):
    """Settings of a run; the base has one epoch."""
    own = RUNS[run] | {"iak_args": ARGS | RUNS[run].get("iak_args", {}), "tuning_baselines": BASELINES.get(run, [])}
    return QUICK | small_base(RUNS[run]["base_model"], epochs=1) | own


BASELINES = {"DeepFM, joint": ["frozen", "adapter"]}


@pytest.mark.parametrize("run", RUNS)
def test_kernels(run, tiny_path, tmp_path, pins):
    settings = settings_of(run) | {"data_path": str(tiny_path), "output_dir": str(tmp_path / "runs")}
    rows = run_recfound("IAK", "tiny", config_dict=settings)["comparison"]
    curves = rows[-1]["curves"]
    assert len(curves) >= 2 * STEPS and [record["step"] for record in curves] == list(range(1, len(curves) + 1)), (
        "one record for each step"
    )
    found = {"first": curves[:STEPS], "last": curves[-STEPS:]}
    found |= {
        key: rows[-1][key]
        for key in ("kl", "batch_sizes", "domain_steps", "parameters_per_domain", "trainable_parameters")
    }
    pins.check(f"IAK, {run}", found)


@pytest.mark.parametrize("run", ["DeepFM, joint", "SASRec, joint"])
def test_rows_of_the_table(run, tiny_path, tmp_path, pins):
    settings = settings_of(run) | {"data_path": str(tiny_path), "output_dir": str(tmp_path / "runs")}
    result = run_recfound("IAK", "tiny", config_dict=settings)
    kept = ("metrics", "valid_metrics", "domains")
    found = {row["model"]: {key: row[key] for key in kept} for row in result["comparison"]}
    assert list(found) == [*BASELINES.get(run, ["frozen"]), "IAK"]
    pins.check(
        f"IAK rows, {run}",
        found | {"best_valid_score": result["best_valid_score"], "test_result": result["test_result"]},
        rel=0,
        abs=1e-4,
    )
