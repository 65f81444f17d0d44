"""Fine-tune a RecBole checkpoint for domains with IAK; the checkpoint is not changed.

    python examples/iak_on_a_checkpoint.py [settings.yaml ...]

RecBole trains DeepFM on ml-100k first and writes `saved/DeepFM-....pth`. Files of settings come last and win.
"""

import sys
from pathlib import Path

from recbole_recfound import run_recfound

CLICKS = {
    "threshold": {"rating": 4},
    "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"], "user": ["user_id", "age", "gender"]},
    "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "RO", "group_by": None, "mode": "labeled"},
    "metrics": ["AUC", "LogLoss"],
    "valid_metric": "AUC",
}


def main(*files: str) -> None:
    """Train a base with RecBole, then one kernel for each gender.

    Args:
        files: YAML files with further settings.
    """
    run_recfound("DeepFM", "ml-100k", files, CLICKS | {"epochs": 3, "checkpoint_dir": "saved"})
    checkpoint = max(Path("saved").glob("DeepFM-*.pth"), key=lambda path: path.stat().st_mtime)
    result = run_recfound(
        "IAK",
        config_file_list=files,
        config_dict={
            "base_checkpoint": str(checkpoint),
            "trust_checkpoint": True,  # we have written it ourselves; a .pth can run any code when it is opened
            "domain": ["gender"],
            "epochs": 5,
            "train_batch_size": 2048,
        },
    )
    print("frozen base and IAK:", [(row["model"], row["metrics"]) for row in result["comparison"]])


if __name__ == "__main__":
    main(*sys.argv[1:])
