"""A reading of texts that was cut off continues to the very numbers of a run that was not."""

import json
import signal
from pathlib import Path

import pytest

from recbole_recfound import run_recfound
from recbole_recfound.cli import main
from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.signals import Interrupted
from recbole_recfound.trainer.m6rec import M6RecTrainer
from tests.damage import damage
from tests.settings import READING, Settings

SMALL = {"train_batch_size": 64, "eval_interval": 4}
KINDS = {
    "ctr": SMALL
    | {
        "threshold": {"rating": 4},
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "labeled"},
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "late_args": {"targets": 8},
    },
    "retrieval": SMALL | {"m6rec_task": ["retrieval"], "retrieval_args": {"width": 8, "start_epochs": 3}},
    "drawn": SMALL  # negatives by torch's generator
    | {"m6rec_task": ["retrieval"], "retrieval_args": {"width": 8, "start_epochs": 0, "negatives": 20}},
    "generate": {"m6rec_task": ["generate"], "generate_args": {"max_tokens": 12}, "eval_interval": 2},
}
KEYS = ("test_result", "best_valid_result", "best_valid_score")


@pytest.fixture(params=list(KINDS))
def kind(request):
    return request.param


@pytest.fixture
def settings(tiny_path, tiny_backbone, tmp_path) -> Settings:
    return READING | {
        "data_path": str(tiny_path),
        "backbone": str(tiny_backbone),
        "output_dir": str(tmp_path / "runs"),
        "resume": "auto",
    }


@pytest.fixture
def steps(monkeypatch):
    """Return the steps that were begun; `stop_at` names those before which something happens."""

    class Steps(list):
        def __init__(self):
            super().__init__()
            self.stop_at = {}

    made, real = Steps(), M6RecTrainer._step

    def step(self, batch, done):
        made.append((self.model.task, self.steps))
        if happens := made.stop_at.pop(made[-1], None):
            happens()
        return real(self, batch, done)

    monkeypatch.setattr(M6RecTrainer, "_step", step)
    return made


def _die():
    raise KeyboardInterrupt


def _run(settings):
    return run_recfound("M6Rec", "tiny", config_dict=settings)


def _rows(run):
    """Results and trained tensors of a run, without its times."""
    folder = Path(run["run_dir"])
    rows = json.loads((folder / "results.json").read_text())["rows"]
    kept = [(row["metrics"], row["valid_metrics"], row["curve"], row["best_step"], row["files"]) for row in rows]
    return kept, {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


@pytest.mark.parametrize("place", [2, 7])
def test_cut_off_and_resumed_equals_uninterrupted(settings, steps, kind, place):
    """Cut off before the first validation of a step and between two, in the second epoch where there is one."""
    settings = settings | KINDS[kind]
    task = settings.get("m6rec_task", ["ctr"])[0]
    straight = _run(settings)
    assert not list(Path(straight["run_dir"]).rglob("step-*")), "a finished training needs no checkpoints"
    every = len(steps)
    steps.clear()
    steps.stop_at = {(task, place): _die}
    with pytest.raises(KeyboardInterrupt):
        _run(settings)
    interval = settings["eval_interval"]
    resumed = _run(settings)
    assert steps[place + 1] == (task, place - place % interval) and len(steps) == every + 1 + place % interval
    assert resumed["run_dir"] != straight["run_dir"]
    assert _rows(resumed) == _rows(straight)


@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "Ctrl-C", 130)])
def test_a_signal_saves_the_step(settings, steps, tmp_path, capsys, number, name, code):
    settings = settings | KINDS["retrieval"]
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({**settings, "dataset": "tiny"}))
    steps.stop_at = {("retrieval", 5): lambda: signal.raise_signal(number)}
    assert main(["run", "--model=M6Rec", f"--config_files={file}"]) == code
    (folder,) = Path(settings["output_dir"]).iterdir()
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == (
        f"error: interrupted by {name}; step 6 is saved; run folder {folder}: continue with --resume={folder}"
    )
    assert main(["run", "--model=M6Rec", f"--config_files={file}", f"--resume={folder}"]) == 0
    assert steps[6] == ("retrieval", 6), "it continues with the next step"
    straight = _run(settings)
    assert _rows({"run_dir": folder}) == _rows(straight)


def test_a_damaged_checkpoint_costs_its_steps_only(settings, steps, capsys):
    settings = settings | KINDS["retrieval"]
    straight = _run(settings)
    for lost, step in ((["step-0000008"], 4), (["step-0000004", "step-0000008"], 0)):
        steps.stop_at = {("retrieval", 9): _die}
        with pytest.raises(KeyboardInterrupt):
            _run(settings)
        (state,) = (path.parent for path in Path(settings["output_dir"]).rglob("step-0000008"))
        for name in lost:
            damage(state / name / "resume.safetensors", "flipped")
        steps.clear()
        resumed = _run(settings)
        (line,) = (line for line in capsys.readouterr().out.splitlines() if "is damaged" in line)
        assert all(name in line for name in lost) and line.endswith(f"continuing from step {step}")
        assert steps[0] == ("retrieval", step) and resumed["run_dir"] == str(state.parents[1])
        assert _rows(resumed) == _rows(straight)


def test_a_prepared_start_is_made_once(settings, steps, monkeypatch):
    from recbole_recfound.model.reading.retrieval import RetrievalModel

    settings, calls, real = settings | KINDS["retrieval"], [], RetrievalModel.prepare
    monkeypatch.setattr(RetrievalModel, "prepare", lambda self, *given: calls.append(1) or real(self, *given))
    steps.stop_at = {("retrieval", 1): _die}
    with pytest.raises(KeyboardInterrupt):
        _run(settings)
    resumed = _run(settings)
    assert len(calls) == 1
    assert _rows(resumed) == _rows(_run(settings))


@pytest.mark.parametrize("tasks", [["retrieval", "ctr"], ["ctr", "generate", "retrieval"]])
def test_a_finished_task_is_not_trained_again(settings, steps, tmp_path, tasks):
    settings = settings | KINDS["ctr"] | {"m6rec_task": tasks, "retrieval_args": {"width": 8, "start_epochs": 3}}
    settings |= {"generate_args": {"max_tokens": 12}, "late_args": {"cache_file": str(tmp_path / "states")}}
    if tasks[0] != "ctr":
        settings["eval_args"] = {**settings["eval_args"], "mode": "full"}
    straight = _run(settings)
    for place, task in enumerate(tasks[1:], 1):
        steps.stop_at = {(task, 5): _die}
        with pytest.raises(KeyboardInterrupt):
            _run(settings)
        steps.clear()
        resumed = _run(settings)
        assert list(dict.fromkeys(name for name, _ in steps)) == tasks[place:]
        assert _rows(resumed) == _rows(straight)
        both = [json.loads((Path(run["run_dir"]) / "results.json").read_text()) for run in (resumed, straight)]
        assert both[0].get("tasks") == both[1].get("tasks") and both[0]["run"]["steps"] == both[1]["run"]["steps"]


def test_a_finished_task_whose_tensors_are_damaged_is_trained_again(settings, steps, capsys):
    settings = settings | KINDS["ctr"] | {"m6rec_task": ["ctr", "retrieval"], "retrieval_args": {"width": 8}}
    steps.stop_at = {("retrieval", 5): _die}
    with pytest.raises(KeyboardInterrupt):
        _run(settings)
    (file,) = Path(settings["output_dir"]).rglob("ctr.options.safetensors")
    damage(file, "flipped")
    steps.clear()
    resumed = _run(settings)
    assert "ctr.options.safetensors: missing or changed: it is computed again" in capsys.readouterr().out
    assert steps[0] == ("ctr", 0)
    assert _rows(resumed) == _rows(_run(settings))


def test_used_time_counts(settings, steps, monkeypatch):
    """A resumed run has what is left of its limit, and training what is left of its share."""
    left, fit = [], M6RecTrainer.fit

    def watched(self, *args, **given):
        result = fit(self, *args, **given)
        left.append((self.plan.kept(), self.plan.deadline() - self.deadline))
        return result

    monkeypatch.setattr(M6RecTrainer, "fit", watched)
    settings = settings | KINDS["ctr"] | {"time_budget": 1000, "epochs": 1, "m6rec_task": ["ctr", "zeroshot"]}
    settings |= {"zeroshot_args": {"scores": ["mean"]}, "test_users": 4}
    steps.stop_at = {("ctr", 6): _die}
    with pytest.raises(KeyboardInterrupt):
        _run(settings)
    (path,) = Path(settings["output_dir"]).rglob("step-0000004/state.json")
    state = json.loads(path.read_text())
    resumed = _run(settings)
    results = json.loads((Path(resumed["run_dir"]) / "results.json").read_text())
    for name, seconds in state["spent"].items():
        assert results["run"]["seconds"][name] >= seconds
    assert results["rows"][0]["train_seconds"] > sum(state["spent"].values()) - state["began"]
    ((kept, behind),) = left
    assert behind == pytest.approx(kept) and kept > 0, "what is kept for the task that is not trained"


def test_texts_that_are_encoded_again_are_no_time_of_the_training(settings, steps, monkeypatch):
    settings = settings | KINDS["ctr"]
    steps.stop_at = {("ctr", 6): _die}
    with pytest.raises(KeyboardInterrupt):
        _run(settings)
    real = M6RecTrainer._encode

    def encode(self, *arguments):
        real(self, *arguments)
        self.cache_seconds += 1000.0

    monkeypatch.setattr(M6RecTrainer, "_encode", encode)
    results = json.loads((Path(_run(settings)["run_dir"]) / "results.json").read_text())
    assert 0 < results["rows"][0]["train_seconds"] < 500


def test_another_backbone_is_another_run(settings, steps, tmp_path):
    """A finished row of one backbone never stands beside rows of another one of its name."""
    from tests.tiny_backbone import write_tiny_backbone

    backbone = write_tiny_backbone(tmp_path / "own", seed=0)
    settings = settings | KINDS["ctr"] | {"backbone": str(backbone)}
    steps.stop_at = {("ctr", 6): lambda: signal.raise_signal(signal.SIGTERM)}
    with pytest.raises(Interrupted, match="step 7 is saved"):
        _run(settings)
    (stopped,) = Path(settings["output_dir"]).iterdir()
    write_tiny_backbone(tmp_path / "own", seed=1)
    with pytest.raises(ConfigError, match=r"resume: .*own/.*\.safetensors.* changed since the run"):
        _run(settings | {"resume": str(stopped)})
    steps.stop_at = {}
    assert _run(settings)["run_dir"] != str(stopped)
