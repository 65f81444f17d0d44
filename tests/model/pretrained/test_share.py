"""A base that learns from a part of the training rows, and kernels that learn from the rest."""

import json
from pathlib import Path

import numpy as np
import pytest

from recbole_recfound.data.split.protocol import training_part
from recbole_recfound.errors import ConfigError
from recbole_recfound.model.pretrained import rows_of_base
from recbole_recfound.quick_start import run_recfound
from tests.small_iak import build_small_iak, small_base

BY_TIME = {"eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": None, "mode": "labeled"}}
AT_RANDOM = {"eval_args": BY_TIME["eval_args"] | {"order": "RO"}}


def test_the_base_learns_from_the_earliest_rows(tiny_path):
    small = build_small_iak("DeepFM", tiny_path, **BY_TIME)
    rows = rows_of_base(small.splits.train_set, 0.4, 7)
    times = small.splits.train_set.inter_feat["timestamp"].numpy()
    assert rows.sum() == round(0.4 * len(rows)) and times[rows].max() <= times[~rows].min()
    part = training_part(small.splits.train_data, rows)
    seen = np.concatenate([batch["timestamp"].numpy() for batch in part])
    assert np.array_equal(np.sort(seen), np.sort(times[rows]))


def test_without_an_order_of_time_rows_are_drawn_by_the_split_s_seed(tiny_path):
    splits = build_small_iak("DeepFM", tiny_path, **AT_RANDOM).splits.train_set
    first, again, other = (rows_of_base(splits, 0.5, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again) and not np.array_equal(first, other) and rows_of_base(splits, None, 1).all()
    with pytest.raises(ConfigError, match="leaves none for the base or for the kernels"):
        rows_of_base(splits, 1e-9, 1)
    with pytest.raises(ConfigError, match="iak_args: base_share: BPR reads all training rows at once"):
        rows_of_base(build_small_iak("BPR", tiny_path).splits.train_set, 0.5, 1)


@pytest.mark.parametrize("model", ["DeepFM", "SASRec"])
def test_kernels_learn_from_what_the_base_has_not_seen(tiny_path, tmp_path, monkeypatch, model):
    """The rows that base and kernels are given, of a whole run; another run on the same base keeps the division."""
    from recbole_recfound.system.iak import system as room
    from recbole_recfound.trainer import iak as trainer_room

    given: dict[str, list] = {"base": [], "kernels": []}
    fit, sampler = room.fit, trainer_room.DomainBatchSampler

    def watched_fit(config, splits, late, **options):
        given["base"].append(len(splits.train_data._dataset))
        return fit(config, splits, late, **options)

    def watched_sampler(domains, *more):
        given["kernels"].append(domains >= 0)
        return sampler(domains, *more)

    monkeypatch.setattr(room, "fit", watched_fit)
    monkeypatch.setattr(trainer_room, "DomainBatchSampler", watched_sampler)
    settings = {
        "data_path": str(tiny_path),
        "output_dir": str(tmp_path),
        "show_progress": False,
        "use_gpu": False,
        "time_budget": 0,
        "epochs": 1,
        "domain": ["gender"],
        "tuning_baselines": ["full"],
        "iak_args": {"base_share": 0.5, "least_steps": 1},
    }
    result = run_recfound("IAK", "tiny", config_dict=settings | small_base(model, epochs=1))
    rows = len(given["kernels"][0])
    assert given["base"] == [round(rows / 2)] and all(mask.sum() == rows - round(rows / 2) for mask in given["kernels"])
    told = json.loads((Path(result["run_dir"]) / "base" / "base.json").read_text())
    assert told["share"] == 0.5
    more = settings | {"iak_args": {"least_steps": 1}, "tuning_baselines": []}
    run_recfound("IAK", "tiny", config_dict=more | {"base_checkpoint": result["run_dir"]})
    assert np.array_equal(given["kernels"][-1], given["kernels"][0]) and len(given["base"]) == 1
    with pytest.raises(ConfigError, match="base_share: got 0.7, but .* has seen 0.5 of the training rows"):
        run_recfound(
            "IAK", "tiny", config_dict=more | {"base_checkpoint": result["run_dir"], "iak_args": {"base_share": 0.7}}
        )
