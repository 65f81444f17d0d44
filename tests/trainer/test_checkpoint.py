"""Checkpoints: complete or absent, few, and clear when damaged."""

import pytest
import torch

from recbole_recfound.errors import DataError
from recbole_recfound.trainer import checkpoint as module
from recbole_recfound.trainer.checkpoint import Checkpoint, CheckpointStore, load_trained

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
        40: False,
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
        patch.setattr(module, "save_file", killed)
        with pytest.raises(KeyboardInterrupt):
            store.save(_checkpoint(20), 10)
    assert store.steps() == [10]
    store.save(_checkpoint(20), 10)
    assert store.steps() == [10, 20] and store.load(20, HOST).state["step"] == 20
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("name", ["trained.safetensors", "resume.safetensors", "state.json"])
def test_damaged_files_are_one_clear_line(tmp_path, name):
    store = _saved(tmp_path, [10])
    path = tmp_path / "step-0000010" / name
    path.write_bytes(path.read_bytes()[:7])
    with pytest.raises(DataError, match=r"step-0000010: checkpoint cannot be read \(.*Delete the folder") as caught:
        store.load(10, HOST)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("tensors", "said"), [({"b": torch.ones(2)}, "'a'"), ({"a": torch.ones(3)}, r"'a' as \(3,\), the model \(2,\)")]
)
def test_tensors_of_another_model_are_refused(tensors, said):
    parameters = {"a": torch.nn.Parameter(torch.zeros(2))}
    with pytest.raises(DataError, match=said):
        load_trained(parameters, tensors)
    load_trained(parameters, {"a": torch.tensor([1.0, 2.0])})
    assert parameters["a"].tolist() == [1, 2]
