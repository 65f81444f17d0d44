"""What a whole small run of RecFound says in its table."""

import json
from pathlib import Path

from recbole_recfound.quick_start import run_recfound


def test_metrics(small_run, pins):
    """Metrics of the row, of the candidates of merging, and of the tasks."""
    result = run_recfound(
        "RecFound",
        "tiny",
        config_dict=small_run | {"max_steps": 5, "warmup_steps": 2, "test_args": {"max_answer_tokens": 12}},
    )
    results = json.loads((Path(result["run_dir"]) / "results.json").read_text())
    (row,) = result["comparison"]
    kept = ("metrics", "valid_metrics", "task_metrics", "trainable_parameters", "note")
    found = {"row": {key: row[key] for key in kept}}
    found |= {
        key: result[key] for key in ("best_valid_score", "valid_score_bigger", "best_valid_result", "test_result")
    }
    found |= {
        "merge": {key: results["merge"][key] for key in ("kept", "method", "steps", "distances", "valid", "test")}
    }
    found |= {
        "tasks": {
            task["name"]: {
                key: task[key] for key in ("size", "seen", "distinct", "step_alone", "untrained_loss", "final_loss")
            }
            for task in results["tasks"]
        }
    }
    found |= {"router": results["router"], "protocol": {key: results["protocol"][key] for key in ("users", "items")}}
    pins.check("whole run of RecFound", found, rel=1e-5, abs=1e-4)


def test_ranking_by_titles(small_run, pins):
    settings = small_run | {
        "tasks": ["U2I", "SR"],
        "task_args": {"SR": {"form": "title"}},
        "test_args": {"rank_titles": 3},
        "max_steps": 2,
        "task_test_examples": 0,
    }
    result = run_recfound("RecFound", "tiny", config_dict=settings)
    found = {row["model"]: row["metrics"] for row in result["comparison"]}
    pins.check("rows with titles ranked", found, rel=0, abs=1e-4)
