"""A base that learns from a part of the training rows, and kernels that learn from the rest."""

import json
from pathlib import Path

import numpy as np
import pytest

from recbole_recfound.data.split.protocol import with_training_rows
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.pretrained import rows_of_base
from recbole_recfound.quick_start import run_recfound
from tests.small_iak import OPTIONS, build_small_iak

BY_TIME = {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": None, "mode": "labeled"}}
AT_RANDOM = {"eval_args": BY_TIME["eval_args"] | {"order": "RO"}}


def test_the_base_learns_from_the_earliest_rows(tiny_path):
    small = build_small_iak("DeepFM", tiny_path, **BY_TIME)
    rows = rows_of_base(small.splits, 0.4, 7)
    times = small.splits.train_set.inter_feat["timestamp"].numpy()
    assert rows.sum() == round(0.4 * len(rows)) and times[rows].max() <= times[~rows].min()
    part = with_training_rows(small.splits, rows)
    seen = np.concatenate([batch["timestamp"].numpy() for batch in part.train_data])
    assert np.array_equal(np.sort(seen), np.sort(times[rows])) and len(part.valid_set) == len(small.splits.valid_set)


def test_without_an_order_of_time_rows_are_drawn_by_the_split_s_seed(tiny_path):
    splits = build_small_iak("DeepFM", tiny_path, **AT_RANDOM).splits
    first, again, other = (rows_of_base(splits, 0.5, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other) and rows_of_base(splits, None, 1).all()
    with pytest.raises(ConfigError, match="leaves none for the base or for the kernels"):
        rows_of_base(splits, 1e-9, 1)
    with pytest.raises(ConfigError, match="iak_base_share: BPR reads all training rows at once"):
        rows_of_base(build_small_iak("BPR", tiny_path).splits, 0.5, 1)


@pytest.mark.parametrize("model", ["DeepFM", "SASRec"])
def test_kernels_learn_from_what_the_base_has_not_seen(tiny_path, tmp_path, monkeypatch, model):
    """The rows that base and kernels are given, of a whole run; another run on the same base keeps the division."""
    from recbole_recfound.system.iak import finetune as room

    given: dict[str, list] = {"base": [], "kernels": []}
    fit, sampler = room.fit, room.DomainBatchSampler
    monkeypatch.setattr(
        room,
        "fit",
        lambda config, splits, late: (given["base"].append(len(splits.train_data._dataset)), fit(config, splits, late))[
            1
        ],
    )
    monkeypatch.setattr(
        room,
        "DomainBatchSampler",
        lambda domains, *more: (given["kernels"].append(domains >= 0), sampler(domains, *more))[1],
    )
    settings = {
        "data_path": str(tiny_path),
        "output_dir": str(tmp_path),
        "show_progress": False,
        "use_gpu": False,
        "time_budget": 0,
        "epochs": 1,
        "iak_epochs": 1,
        "iak_least_steps": 1,
        "domain": ["gender"],
        "iak_base_share": 0.5,
        "base_model": model,
    }
    result = run_recfound("IAK", "tiny", config_dict=settings | OPTIONS[model], baselines=["full"])
    rows = len(given["kernels"][0])
    assert given["base"] == [round(rows / 2)] and all(mask.sum() == rows - round(rows / 2) for mask in given["kernels"])
    told = json.loads((Path(result["run_dir"]) / "base" / "base.json").read_text())
    assert told["share"] == 0.5
    more = {key: value for key, value in settings.items() if key not in ("base_model", "iak_base_share")}
    run_recfound("IAK", "tiny", config_dict=more | {"base_checkpoint": result["run_dir"]}, baselines=[])
    assert np.array_equal(given["kernels"][-1], given["kernels"][0]) and len(given["base"]) == 1
    with pytest.raises(ConfigError, match="iak_base_share: is 0.7, but .* has seen 0.5 of the training rows"):
        run_recfound("IAK", "tiny", config_dict=more | {"base_checkpoint": result["run_dir"], "iak_base_share": 0.7})
