"""States of segments in a file: read as they were written, by any number of trainings, and never needed."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.errors import DataError
from recbole_recfound.trainer.m6rec import M6RecTrainer
from tests.damage import damage
from tests.settings import Settings, clicks_of


@pytest.fixture(scope="module")
def settings(tiny_path, tiny_backbone) -> Settings:
    return clicks_of(tiny_path, tiny_backbone) | {"generate_args": {"max_tokens": 8}, "epochs": 1}


@pytest.fixture
def own(settings, tmp_path) -> Settings:
    """Settings with a folder of runs, and a cache beside it."""
    return settings | {"output_dir": str(tmp_path / "runs"), "late_args": {"cache_file": str(tmp_path / "states")}}


def _run(settings):
    return run_recfound("M6Rec", "tiny", config_dict=settings)


def _metrics(run):
    return {row["model"]: row["metrics"] for row in run["comparison"]}


def _permute(file):
    tensors = load_file(file)
    save_file({**tensors, "states": tensors["states"].flip(0).contiguous()}, file)


def _zero(file):
    tensors = load_file(file)
    tensors["states"][: len(tensors["states"]) // 2] = 0
    save_file(tensors, file)


@pytest.mark.parametrize("harm", [_permute, _zero, lambda file: damage(file, "truncated")])
def test_a_damaged_file_is_refused_and_no_finished_run_needs_it(own, tmp_path, harm):
    found, file = _run(own), tmp_path / "states"
    harm(file)
    damaged = file.read_bytes()
    served = load_recfound(found["run_dir"])
    assert dict(served.evaluate().metrics) == pytest.approx(found["test_result"])
    with pytest.raises(DataError, match=r"states is no file of segment states, or a damaged one .*: delete it or name"):
        _run(own)
    assert file.read_bytes() == damaged
    assert len(list((tmp_path / "runs").glob("*/rows/*"))) == 1, "nothing was trained"


@pytest.mark.parametrize("tuning", [["fine-tuning"], ["option", "lora"]], ids=" ".join)
def test_trainings_that_keep_other_states_share_a_file(own, tmp_path, tuning):
    """Each of the readers of this run has language model, or form of states, of its own."""
    several = own | {"m6rec_task": ["ctr", "generate"], "option_args": {"tuning": tuning}}
    first, form = _run(several), load_file(tmp_path / "states")["digest"]
    again = _run(several)
    assert _metrics(again) == {name: pytest.approx(values, abs=1e-6) for name, values in _metrics(first).items()}
    assert load_file(tmp_path / "states")["digest"].equal(form)
    results = json.loads((Path(again["run_dir"]) / "results.json").read_text())
    assert all(row["segments"]["misses"] == 0 for row in results["rows"] if row["task"] == "ctr")


def test_every_training_adds_its_states_to_the_file(own, tmp_path):
    several = own | {"m6rec_task": ["ctr", "generate"], "option_args": {"tuning": ["lora"]}}
    several |= {"late_args": {"states": "last"}}
    _run(several)
    again = _run(several)
    results = json.loads((Path(again["run_dir"]) / "results.json").read_text())
    assert [row["segments"]["misses"] for row in results["rows"]] == [0, 0]


@pytest.mark.parametrize("file", ["the same", "another", None])
def test_a_run_that_was_cut_off_continues_with_any_file(own, tmp_path, monkeypatch, file):
    several = own | {"m6rec_task": ["ctr", "generate"], "option_args": {"tuning": ["fine-tuning"]}}
    real = M6RecTrainer._step

    def step(self, batch, done):
        if self.model.task == "generate":
            raise KeyboardInterrupt
        return real(self, batch, done)

    with monkeypatch.context() as patch:
        patch.setattr(M6RecTrainer, "_step", step)
        with pytest.raises(KeyboardInterrupt):
            _run(several)
    (folder,) = (tmp_path / "runs").iterdir()
    if file == "another":
        several |= {"late_args": {"cache_file": str(tmp_path / "others")}}
    elif file is None:
        several["late_args"] = {name: value for name, value in own["late_args"].items() if name != "cache_file"}
    resumed = _run(several | {"resume": "auto"})
    assert resumed["run_dir"] == str(folder)
    straight = _run(several)
    assert _metrics(resumed) == {name: pytest.approx(values, abs=1e-6) for name, values in _metrics(straight).items()}


def test_a_file_that_cannot_be_written_ends_no_run(own, tmp_path, monkeypatch, capsys):
    real, folder = M6RecTrainer.evaluate, tmp_path / "gone"
    folder.mkdir()

    def evaluate(self, *given, **options):
        shutil.rmtree(folder, ignore_errors=True)
        return real(self, *given, **options)

    monkeypatch.setattr(M6RecTrainer, "evaluate", evaluate)
    found = _run(own | {"late_args": {"cache_file": str(folder / "states")}})
    assert dict(load_recfound(found["run_dir"]).evaluate().metrics) == pytest.approx(found["test_result"])
    (note,) = [line for line in capsys.readouterr().out.splitlines() if "cannot be written" in line]
    assert note.startswith(f"note: late_args: cache_file: {folder}/states cannot be written; the run continues")
