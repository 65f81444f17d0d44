"""Trainings of RecBole's models that were stopped and continue."""

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from recbole.utils import init_seed

from recbole_recfound.baseline.recbole import baseline_config, fit
from recbole_recfound.baseline.resume import ResumableTraining
from recbole_recfound.config.configurator import Config
from recbole_recfound.data.split.protocol import build_splits
from recbole_recfound.quick_start import run_recfound
from recbole_recfound.runtime.signals import Interrupted
from tests.damage import damage
from tests.small_iak import small_base

EPOCHS = 4
MODELS = ["BPR", "SASRec", "GRU4Rec", "BERT4Rec", "LightGCN", "MultiVAE", "RecVAE", "DiffRec", "LINE", "CFKG", "MKR"]


class _Stopped(Exception):
    """The process ends here."""


def _stop_after(epochs):
    def watch(epoch, score):
        if epoch + 1 == epochs:
            raise _Stopped

    return watch


@pytest.fixture
def training(knowledge_path, tmp_path, monkeypatch):
    """Train a model with the state in a folder of the test, as one process does."""
    monkeypatch.setattr("recbole_recfound.baseline.resume.WRITING_SHARE", 1e9)  # after each epoch

    def train(name, watch=None, seconds=None, deadline=None, state="state", **own):
        settings = {"data_path": str(knowledge_path), "show_progress": False, "use_gpu": False}
        settings["baseline_args"] = {name: {"epochs": EPOCHS, "train_batch_size": 64, **own}}
        config = baseline_config(name, Config("BPR", "tiny", config_dict=settings), tmp_path / "saved")
        init_seed(config["seed"], config["reproducibility"])
        splits = build_splits(config)
        return fit(config, splits, deadline, watch, seconds=seconds, state=tmp_path / state)[0]

    return train


def _numbers(row):
    return replace(row, train_seconds=0.0, eval_seconds=0.0)


@pytest.mark.parametrize("name", MODELS)
def test_a_training_that_was_stopped_twice_gives_the_row_of_one_that_was_not(name, training):
    whole = training(name, state="another")
    for epochs in (1, 3):
        with pytest.raises(_Stopped):
            training(name, _stop_after(epochs))
    seen = []
    row = training(name, lambda epoch, score: seen.append(epoch))
    assert seen == [3], "the epochs that are left"
    assert _numbers(row) == _numbers(whole)


def test_early_stopping_counts_the_epochs_before(training):
    """The best epoch lies before the stop: its weights are tested."""
    own = {"epochs": 20, "stopping_step": 2, "learning_rate": 1.0}
    seen = []
    whole = training("BPR", lambda epoch, score: seen.append(score), state="another", **own)
    best = seen.index(max(seen))
    assert whole.converged and len(seen) == best + 4
    with pytest.raises(_Stopped):
        training("BPR", _stop_after(best + 2), **own)
    assert _numbers(training("BPR", **own)) == _numbers(whole)


def test_a_training_that_had_ended_is_only_tested(training):
    whole = training("BPR")

    def refuse(epoch, score):
        raise AssertionError("an epoch was trained")

    assert _numbers(training("BPR", refuse)) == _numbers(whole)


def test_a_state_that_cannot_be_written_is_a_note(training, tmp_path, capsys):
    whole = training("BPR", state="another")
    (tmp_path / "state").write_text("a file")
    assert _numbers(training("BPR")) == _numbers(whole)
    assert "a training that is stopped begins again" in capsys.readouterr().out


def test_the_seconds_before_the_stop_count(training, monkeypatch):
    with pytest.raises(_Stopped):
        training("BPR", _stop_after(2))
    real = ResumableTraining.restore

    def after_an_hour(self):
        found = real(self)
        self.began -= 3600
        return found

    monkeypatch.setattr(ResumableTraining, "restore", after_an_hour)
    row = training("BPR", seconds=3000)
    assert row.note == "not converged: stopped after 2 epochs" and 3600 < row.train_seconds < 3700


def test_a_damaged_state_is_left_out(training, tmp_path, capsys):
    whole = training("BPR", state="another")
    with pytest.raises(_Stopped):
        training("BPR", _stop_after(2))
    damage(tmp_path / "state" / "step-0000002" / "resume.safetensors", "flipped")
    assert _numbers(training("BPR")) == _numbers(whole)
    assert "is damaged and was removed" in capsys.readouterr().out


def test_writing_takes_its_part_of_the_time_at_most(training, tmp_path, monkeypatch):
    monkeypatch.setattr("recbole_recfound.baseline.resume.WRITING_SHARE", 1e-9)
    with pytest.raises(_Stopped):
        training("BPR", _stop_after(3))
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["step-0000001"], "the first is always written"


@pytest.mark.parametrize(
    ("model", "own"),
    [
        ("Pop", {"baselines": ["BPR"], "baseline_args": {"BPR": {"epochs": 3}}}),
        ("BPR", {"epochs": 3}),
        ("IAK", small_base("BPR", epochs=3) | {"epochs": 1, "domain": ["gender"], "tuning_baselines": []}),
    ],
    ids=["a baseline", "the model of the run", "the base of IAK"],
)
def test_a_run_continues_within_a_training(model, own, tiny_path, tmp_path, monkeypatch):
    settings = {
        "data_path": str(tiny_path),
        "output_dir": str(tmp_path / "runs"),
        "show_progress": False,
        "use_gpu": False,
        "time_budget": 0,
        "resume": "auto",
        **own,
    }
    real, saved = ResumableTraining.save, []

    def save(self, epoch):
        real(self, epoch)
        saved.extend([epoch] if self.store else [])
        if saved == [0]:
            raise Interrupted(15)

    monkeypatch.setattr(ResumableTraining, "save", save)
    with pytest.raises(Interrupted, match="continue with --resume="):
        run_recfound(model, "tiny", config_dict=settings)
    stopped = run_recfound(model, "tiny", config_dict=settings)
    assert saved == [0, 1, 2], "the first epoch is not trained again"
    whole = run_recfound(model, "tiny", config_dict=settings | {"output_dir": str(tmp_path / "others")})
    assert [row["metrics"] for row in stopped["comparison"]] == [row["metrics"] for row in whole["comparison"]]
    assert not list((tmp_path / "runs").glob("*/baselines/*.training"))


def test_a_baseline_whose_time_is_spent_is_tested_as_it_was_saved(tiny_path, tmp_path, monkeypatch, plans):
    """The part of the time that baselines may take is that of the whole run."""
    settings = {"data_path": str(tiny_path), "output_dir": str(tmp_path), "use_gpu": False, "resume": "auto"}
    settings |= {"show_progress": False, "time_budget": 1000, "baselines": ["BPR", "ItemKNN"]}
    real = ResumableTraining.save

    def save(self, epoch):
        real(self, epoch)
        plans[0].clock = lambda: time.monotonic() + 400  # as if so many seconds had gone by
        raise Interrupted(15)

    with monkeypatch.context() as patch:
        patch.setattr(ResumableTraining, "save", save)
        with pytest.raises(Interrupted):
            run_recfound("Pop", "tiny", config_dict=settings)
    result = run_recfound("Pop", "tiny", config_dict=settings)
    notes = {row["model"]: row["note"] for row in result["comparison"]}
    assert notes == {"BPR": "not converged: stopped after 1 epochs", "Pop": ""}
    assert json.loads((Path(result["run_dir"]) / "results.json").read_text())["run"]["baselines_not_run"] == "ItemKNN"


def test_a_run_that_keeps_no_weights_keeps_no_state(tiny_path, tmp_path):
    settings = {"data_path": str(tiny_path), "output_dir": str(tmp_path), "use_gpu": False, "epochs": 1}
    run_recfound("BPR", "tiny", config_dict=settings | {"show_progress": False, "baselines": ["Pop"]}, saved=False)
    assert not [path for kind in ("*.pth", "*.safetensors") for path in tmp_path.rglob(kind)]
