"""Baselines kept without pickles: loaded, they score as they did in the table."""

import pytest
import torch

from recbole_recfound.baseline import recbole as module
from recbole_recfound.baseline.recbole import run_baseline
from recbole_recfound.baseline.saved import load_baseline
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.errors import ConfigError, DataError
from recbole_recfound.model.pretrained import read_base
from tests.damage import damage


def _config(path, **settings):
    quick = {"show_progress": False, "use_gpu": False, "baseline_time_budget": 0}
    return Config("RecFound", "tiny", config_dict={"data_path": str(path), **quick, **settings})


def _scores(model, splits):
    model.eval()
    with torch.no_grad():
        return torch.cat([model.full_sort_predict(batch[0]).flatten() for batch in splits.test_data])


@pytest.mark.parametrize("name", ["Pop", "ItemKNN", "EASE", "BPR", "LightGCN", "SASRec", "BERT4Rec", "GRU4Rec"])
def test_a_loaded_baseline_scores_as_it_did(name, tiny_path, tmp_path, monkeypatch):
    epochs = {} if name in ("Pop", "ItemKNN", "EASE") else {name: {"epochs": 1}}
    config = _config(tiny_path, baselines=[name], baseline_args=epochs)
    seen, fit = {}, module.fit

    def watched(theirs, splits, deadline, **options):
        row, model = fit(theirs, splits, deadline, **options)
        seen["scores"] = _scores(model, splits)
        return row, model

    monkeypatch.setattr(module, "fit", watched)
    row = run_baseline(name, config, build_splits(config), tmp_path / "baselines")
    kept = read_base(tmp_path / "baselines" / name, False)
    assert kept.training == {"converged": not epochs, "note": row.note}, "where it is a base, its row says so"
    loaded = load_baseline(tmp_path, name, tiny_path)
    assert torch.equal(_scores(loaded.model, loaded.splits), seen["scores"])
    assert not list((tmp_path / "baselines").rglob("*.pth")) and not (tmp_path / "saved").exists()


def test_damaged_and_missing_models_are_refused(tiny_path, tmp_path):
    config = _config(tiny_path, baselines=["Pop"])
    run_baseline("Pop", config, build_splits(config), tmp_path / "baselines")
    assert read_base(tmp_path / "baselines" / "Pop", False).model == "Pop", "a base of IAK as well"
    with pytest.raises(ConfigError, match="has no trained BPR"):
        load_baseline(tmp_path, "BPR", tiny_path)
    damage(tmp_path / "baselines" / "Pop" / "attributes.safetensors", "flipped")
    with pytest.raises(DataError, match=r"the base is damaged \(attributes.safetensors: its content has changed"):
        load_baseline(tmp_path, "Pop", tiny_path)
