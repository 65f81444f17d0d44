"""Checkpoints: complete or absent, few, and clear when damaged."""

import errno
import os
import shutil

import pytest
import torch

from recbole_recfound.errors import DataError
from recbole_recfound.model.trained import load_trained
from recbole_recfound.trainer import checkpoint as module
from recbole_recfound.trainer.checkpoint import Checkpoint, CheckpointStore
from tests.damage import DAMAGES, damage

HOST = torch.get_default_device()


def _checkpoint(step):
    resume = {"optimizer.0.step": torch.tensor(float(step))} if step else {}
    return Checkpoint(step, {"weight": torch.full((2, 3), float(step)).T}, resume, {"step": step, "loss": 0.1})


def _saved(folder, steps, best_step=0, keep=2):
    store = CheckpointStore(folder, keep)
    for step in steps:
        store.save(_checkpoint(step), min(best_step, step))
    return store


def test_round_trip(tmp_path):
    store = _saved(tmp_path / "state", [5])
    loaded, saved = store.load(5, HOST), _checkpoint(5)
    assert torch.equal(loaded.trained["weight"], saved.trained["weight"])
    assert loaded.resume == saved.resume and loaded.state == saved.state


def test_keeps_the_first_the_best_and_the_last(tmp_path):
    store = _saved(tmp_path, [0, 10, 20, 30, 40, 50], best_step=20)
    assert store.steps() == [0, 20, 40, 50]
    assert {step: bool(store.load(step, HOST).resume) for step in store.steps()} == {
        0: False,
        20: True,
        40: True,
        50: True,
    }


def test_nothing_saved(tmp_path):
    assert CheckpointStore(tmp_path / "none", 2).steps() == []


def test_killed_while_writing(tmp_path, monkeypatch):
    store = _saved(tmp_path, [10])

    def killed(tensors, path):
        path.write_bytes(b"half a file")
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_tensors", killed)
        with pytest.raises(KeyboardInterrupt):
            store.save(_checkpoint(20), 10)
    assert store.steps() == [10]
    store.save(_checkpoint(20), 10)
    assert store.steps() == [10, 20] and store.load(20, HOST).state["step"] == 20
    assert not list(tmp_path.glob("*.partial"))


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    _saved(tmp_path, [10])
    (tmp_path / "step-0000020.partial").mkdir()
    assert CheckpointStore(tmp_path, 2).newest(HOST).step == 10
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["trained.safetensors", "resume.safetensors", "state.json", "digests.json"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_it_used(tmp_path, capsys, name, how):
    store = _saved(tmp_path, [10, 20])
    damage(tmp_path / "step-0000020" / name, how)
    with pytest.raises(DataError, match=rf"step-0000020: the checkpoint is damaged \(.*{name}") as caught:
        store.load(20, HOST)
    assert "\n" not in str(caught.value)
    assert store.newest(HOST).step == 10 and store.steps() == [10]
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("note:") and f"({name}: " in line and line.endswith("continuing from step 10")


@pytest.mark.parametrize("name", ["trained.safetensors", "resume.safetensors", "digests.json"])
def test_a_checkpoint_with_a_missing_file_is_none(tmp_path, capsys, name):
    store = _saved(tmp_path, [10])
    (tmp_path / "step-0000010" / name).unlink()
    assert store.newest(HOST) is None
    assert capsys.readouterr().out.endswith("continuing from the beginning\n")


def test_an_interrupted_step_is_resumed_and_is_no_candidate_for_merging(tmp_path):
    store = _saved(tmp_path, [10])
    store.save_interrupted(_checkpoint(13))
    assert store.newest(HOST).step == 13 and store.steps() == [10]
    store.save(_checkpoint(20), 20)
    assert store.newest(HOST).step == 20 and not list(tmp_path.glob("interrupted-*"))


def test_a_full_disk_leaves_the_last_checkpoint_and_the_training(tmp_path, capsys, monkeypatch):
    store = _saved(tmp_path, [0, 10])

    def full(tensors, path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_tensors", full)
        for step in (20, 30, 40):
            store.save(_checkpoint(step), 30)
    (line,) = capsys.readouterr().out.splitlines()
    assert "No space left" in line and "step 10 is the last that can be resumed" in line
    assert store.steps() == [0, 10, 30, 40], "the best and the last are there to be merged"
    assert torch.equal(store.load(30, HOST).trained["weight"], _checkpoint(30).trained["weight"])
    assert CheckpointStore(tmp_path, 2).newest(HOST).step == 10
    store.save(_checkpoint(50), 30)
    assert CheckpointStore(tmp_path, 2).newest(HOST).step == 50


def test_a_folder_that_was_deleted_ends_the_training(tmp_path):
    store = _saved(tmp_path / "state", [0, 10])
    shutil.rmtree(tmp_path / "state")
    with pytest.raises(DataError, match="checkpoint of step 20 cannot be written .*No such file"):
        store.save(_checkpoint(20), 10)
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    ("tensors", "said"), [({"b": torch.ones(2)}, "'a'"), ({"a": torch.ones(3)}, r"'a' as \(3,\), the model \(2,\)")]
)
def test_tensors_of_another_model_are_refused(tensors, said):
    parameters = {"a": torch.nn.Parameter(torch.zeros(2))}
    with pytest.raises(DataError, match=said):
        load_trained(parameters, tensors)
    load_trained(parameters, {"a": torch.tensor([1.0, 2.0])})
    assert parameters["a"].tolist() == [1, 2]
