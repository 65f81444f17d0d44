"""Signals, damage and full disks in whole runs: no work is lost, and one line says how to continue."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from recbole_recfound.cli import main
from recbole_recfound.data import MultiTaskLoader
from recbole_recfound.errors import DataError
from recbole_recfound.quick_start import load_recfound, run_recfound
from recbole_recfound.runtime.signals import Interrupted
from recbole_recfound.system.run import Run
from recbole_recfound.trainer import checkpoint as checkpoints
from recbole_recfound.trainer.kernels import KernelTrainer
from tests.damage import damage
from tests.settings import READING
from tests.small_iak import small_base

STEPS = {"max_steps": 6, "eval_interval": 2, "resume": "auto", "task_test_examples": 0, "only_tasks": ["U2I"]}
KEYS = ("test_result", "best_valid_result", "best_valid_score")


@pytest.fixture
def settings(small_run):
    return small_run | STEPS


@pytest.fixture
def signal_in_step(monkeypatch):
    """Send a signal to this process while a step makes its batch."""

    def at(step: int, *numbers: int) -> None:
        real, calls = MultiTaskLoader.next_batch, []

        def next_batch(self):
            calls.append(1)
            if len(calls) == step:
                for number in numbers:
                    signal.raise_signal(number)
            return real(self)

        monkeypatch.setattr(MultiTaskLoader, "next_batch", next_batch)

    return at


def _words(settings, tmp_path):
    file = tmp_path / "settings.json"  # JSON is YAML
    file.write_text(json.dumps({**settings, "dataset": "tiny"}))
    return ["run", f"--config_files={file}"]


@pytest.mark.parametrize(("number", "name", "code"), [(signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "Ctrl-C", 130)])
def test_a_signal_saves_the_step(settings, signal_in_step, tmp_path, capsys, number, name, code):
    signal_in_step(3, number)
    assert main(_words(settings, tmp_path)) == code
    (folder,) = Path(settings["output_dir"]).iterdir()
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == (
        f"error: interrupted by {name}; step 3 is saved; run folder {folder}: continue with --resume={folder}"
    )
    assert (folder / "trainer_state" / "interrupted-0000003").is_dir()
    continued = run_recfound("RecFound", "tiny", config_dict=settings | {"resume": str(folder)})
    straight = run_recfound("RecFound", "tiny", config_dict=settings)
    assert continued["run_dir"] == str(folder) != straight["run_dir"]
    assert [continued[key] for key in KEYS] == [straight[key] for key in KEYS]
    assert not list(folder.rglob("interrupted-*"))
    of_both = [
        json.loads((Path(run["run_dir"]) / "results.json").read_text())["merge"] for run in (continued, straight)
    ]
    assert of_both[0] == of_both[1], "the step at which it was interrupted is not merged"


def test_a_second_signal_does_not_wait(settings, signal_in_step):
    signal_in_step(3, signal.SIGTERM, signal.SIGTERM)
    with pytest.raises(Interrupted, match="interrupted by SIGTERM; run folder"):
        run_recfound("RecFound", "tiny", config_dict=settings)
    (folder,) = Path(settings["output_dir"]).iterdir()
    assert not list(folder.rglob("interrupted-*"))


def test_a_run_in_another_thread(settings):
    found = []
    thread = threading.Thread(target=lambda: found.append(run_recfound("RecFound", "tiny", config_dict=settings)))
    thread.start()
    thread.join()
    assert found[0]["test_result"]


def test_damaged_checkpoints_cost_their_steps_only(settings, signal_in_step, capsys):
    straight = run_recfound("RecFound", "tiny", config_dict=settings)
    for lost in (["step-0000000"], ["interrupted-0000005"], ["interrupted-0000005", "step-0000004", "step-0000000"]):
        signal_in_step(5, signal.SIGTERM)
        with pytest.raises(Interrupted):
            run_recfound("RecFound", "tiny", config_dict=settings)
        (state,) = (path.parent for path in Path(settings["output_dir"]).rglob("interrupted-0000005"))
        for name in lost:
            damage(state / name / "trained.safetensors", "flipped")
        capsys.readouterr()
        run = run_recfound("RecFound", "tiny", config_dict=settings)
        step = {1: 5 if lost[0] == "step-0000000" else 4, 3: 2}[len(lost)]
        (line,) = (line for line in capsys.readouterr().out.splitlines() if "is damaged" in line)
        assert all(name in line for name in lost) and line.endswith(f"continuing from step {step}")
        assert run["run_dir"] == str(state.parent) and [run[key] for key in KEYS] == [straight[key] for key in KEYS]


def test_a_full_disk_while_saving(settings, monkeypatch, capsys):
    straight = run_recfound("RecFound", "tiny", config_dict=settings)
    real = checkpoints.save_tensors

    def full(tensors, path):
        if "step-0000004" in str(path) or "step-0000006" in str(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(tensors, path)

    monkeypatch.setattr(checkpoints, "save_tensors", full)
    run = run_recfound("RecFound", "tiny", config_dict=settings)
    assert [run[key] for key in KEYS] == [straight[key] for key in KEYS]
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "No space left" in line)
    assert line.startswith("note:") and "step 2 is the last that can be resumed" in line


def test_a_disk_that_is_full_at_the_end_is_one_line(settings, tmp_path, checkout):
    """A real limit of the system: no file may become larger than this."""
    limited = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000)); "
    limited += "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limited += "from recbole_recfound.cli import main; sys.exit(main(sys.argv[1:]))"
    words = _words(settings, tmp_path)
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", limited, *words], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "cannot be written" in done.stderr.splitlines()[-1] and "File too large" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("share", [0.35, 0.6, 0.8, 0.95])
def test_a_disk_that_is_full_somewhere_is_one_line(settings, tmp_path, checkout, share):
    """A real file system of its own, in which not even the log and the owner of the folder find room."""
    space = ["unshare", "--map-root-user", "--mount"]
    if not shutil.which("unshare") or subprocess.run([*space, "mount", "-t", "tmpfs", "none", "/mnt"]).returncode:
        pytest.skip("this machine lets nobody mount a file system")
    straight = Path(run_recfound("RecFound", "tiny", config_dict=settings)["run_dir"])
    pages = sum(-(-file.stat().st_size // 4096) for file in straight.rglob("*") if file.is_file())
    words = [*_words(settings, tmp_path), "--output_dir=full"]
    script = f"mkdir full; mount -t tmpfs -o size={int(4096 * share * pages)} none full; "
    script += '"$@"; code=$?; find full -name "*.partial*"; exit $code'
    ask = [sys.executable, "-c", "import sys; from recbole_recfound.cli import main; sys.exit(main(sys.argv[1:]))"]
    environment = os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*space, "sh", "-c", script, "sh", *ask, *words], env=environment, capture_output=True, text=True
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert lines[-1].startswith("error: ") and "No space left" in lines[-1]
    assert not [line for line in done.stdout.splitlines() if line.startswith("full/")], "what was left behind"


def test_an_output_folder_that_is_deleted_is_one_line(settings, tmp_path, monkeypatch, capsys):
    real, calls = MultiTaskLoader.next_batch, []

    def next_batch(self):
        calls.append(1)
        if len(calls) == 3:
            shutil.rmtree(settings["output_dir"])
        return real(self)

    monkeypatch.setattr(MultiTaskLoader, "next_batch", next_batch)
    assert main(_words(settings, tmp_path)) == 2
    assert "checkpoint of step 4 cannot be written" in capsys.readouterr().err.splitlines()[-1]
    assert not Path(settings["output_dir"]).exists()


def test_tensorboard_that_cannot_be_written_is_a_note(settings, monkeypatch, capsys):
    def refused(*arguments, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "tensorboard")

    monkeypatch.setattr("recbole.utils.utils.SummaryWriter", refused)
    assert run_recfound("RecFound", "tiny", config_dict=settings)["test_result"]
    assert capsys.readouterr().out.count("note: no TensorBoard files") == 1


KERNELS = {"domain": ["gender"], "epochs": 4, "train_batch_size": 32, "time_budget": 0, "resume": "auto"}


@pytest.mark.parametrize(("step", "every"), [(2, 30.0), (9, 30.0), (12, 0.0), (21, 0.0)])
@pytest.mark.parametrize(
    ("base", "changes"),
    [
        ("DeepFM", {"iak_args": {"schedule": "two_phase", "least_steps": 4}}),
        ("BPR", {"iak_args": {"beta": [1e-4, 1e-2], "least_steps": 4}, "domain": ["gender", "age"]}),
        ("SASRec", {"iak_args": {"least_steps": 4}, "epochs": 8}),
    ],
)
def test_kernels_continue_with_the_step_at_which_they_were_interrupted(
    tiny_path, tmp_path, monkeypatch, capsys, base, changes, step, every
):
    """Within an epoch, behind one, and in the second row; with checkpoints of the schedule and without."""
    settings = small_base(base, epochs=1) | KERNELS | changes
    settings |= {"data_path": str(tiny_path), "output_dir": str(tmp_path / "runs"), "use_gpu": False}
    monkeypatch.setattr("recbole_recfound.trainer.kernels.SAVE_SECONDS", every)
    real, calls, at = KernelTrainer._step, [], 0

    def step_of(self, *arguments):
        calls.append(1)
        if len(calls) == at:
            signal.raise_signal(signal.SIGTERM)
        return real(self, *arguments)

    monkeypatch.setattr(KernelTrainer, "_step", step_of)
    straight = run_recfound("IAK", "tiny", config_dict=settings | {"resume": ""})
    steps, calls[:], at = len(calls), [], step
    assert main(["run", "--model=IAK", *_words(settings, tmp_path)[1:]]) == 143
    line = capsys.readouterr().err.splitlines()[-1]
    assert " is saved; run folder " in line and "continue with --resume=" in line
    folder = Path(line.rpartition("=")[2])
    assert len(calls) == step
    continued = run_recfound("IAK", "tiny", config_dict=settings)
    assert continued["run_dir"] == str(folder)
    assert [continued[key] for key in KEYS] == [straight[key] for key in KEYS]
    ours, theirs = (
        [{**row, "train_seconds": 0, "eval_seconds": 0, "files": {}} for row in run["comparison"]]
        for run in (continued, straight)
    )
    assert ours == theirs
    files = [sorted(Path(run["run_dir"]).glob("IAK*.safetensors")) for run in (continued, straight)]
    for our, their in zip(*files, strict=True):
        assert our.read_bytes() == their.read_bytes()
    assert not list(folder.rglob("interrupted-*")) and not list(folder.rglob("step-*"))
    assert len(calls) == steps, "no step was made twice"


def test_a_signal_in_the_last_validation_of_kernels_loses_nothing(tiny_path, tmp_path, monkeypatch, capsys):
    settings = small_base("DeepFM", epochs=1) | KERNELS | {"output_dir": str(tmp_path / "runs"), "use_gpu": False}
    settings |= {"data_path": str(tiny_path)}
    real, calls, steps = KernelTrainer._validate, [], []

    def validate(self):
        calls.append(1)
        if len(calls) == settings["epochs"]:
            signal.raise_signal(signal.SIGTERM)
        real(self)
        steps.append(len(self.fitted.history))

    monkeypatch.setattr(KernelTrainer, "_validate", validate)
    assert main(["run", "--model=IAK", *_words(settings, tmp_path)[1:]]) == 143
    assert f"step {steps[-1]} is saved" in capsys.readouterr().err
    monkeypatch.setattr(KernelTrainer, "_step", None)  # no step is made again
    continued = run_recfound("IAK", "tiny", config_dict=settings)
    monkeypatch.undo()
    straight = run_recfound("IAK", "tiny", config_dict=settings | {"resume": ""})
    assert [continued[key] for key in KEYS] == [straight[key] for key in KEYS]


@pytest.mark.parametrize("how", ["truncated", "emptied", "flipped", "zeroed"])
def test_a_finished_baseline_whose_files_are_damaged_is_trained_again(settings, signal_in_step, capsys, how):
    settings = settings | {"baselines": ["Pop", "EASE"]}
    signal_in_step(3, signal.SIGTERM)
    with pytest.raises(Interrupted):
        run_recfound("RecFound", "tiny", config_dict=settings)
    (folder,) = Path(settings["output_dir"]).iterdir()
    (file,) = (folder / "baselines" / "EASE").glob("attributes.safetensors")
    whole = file.read_bytes()
    damage(file, how)
    capsys.readouterr()
    assert run_recfound("RecFound", "tiny", config_dict=settings | {"resume": str(folder)})
    told = capsys.readouterr().out
    assert f"note: row EASE: baselines/EASE/{file.name}: missing or changed: it is computed again" in told
    assert "row Pop" not in told and file.read_bytes() == whole and load_recfound(folder)


KINDS = {
    "RecFound": {"config.yaml", "model.json", "items.jsonl", "head.safetensors", "rows/Pop.json"},
    "IAK": {"config.yaml", "base/base.safetensors", "rows/frozen.json"},
    "M6Rec": {"config.yaml", "m6rec.json", "retrieval.options.safetensors", "rows/Pop.json"},
}
"""Some files that a finished run of each system has."""


@pytest.fixture(scope="module", params=KINDS)
def finished(request, small_settings, tmp_path_factory):
    """Folder of a finished run, of each system."""
    kind, folder = request.param, tmp_path_factory.mktemp("finished")
    settings = small_settings | STEPS | {"output_dir": str(folder), "baselines": ["Pop"]}
    if kind == "IAK":
        names = ("data_path", "output_dir", "show_progress", "use_gpu")
        settings = {name: settings[name] for name in names} | small_base("BPR", epochs=2)
        settings |= {"time_budget": 0, "epochs": 1, "domain": ["gender"], "tuning_baselines": ["frozen"]}
    if kind == "M6Rec":
        names = ("data_path", "backbone", "output_dir", "baselines")
        settings = READING | {name: settings[name] for name in names} | {"m6rec_task": ["retrieval"], "epochs": 1}
        settings |= {"retrieval_args": {"width": 8, "start_epochs": 2}}
    return kind, Path(run_recfound(kind, "tiny", config_dict=settings)["run_dir"])


@pytest.mark.parametrize("how", ["truncated", "emptied", "flipped", "zeroed"])
def test_every_file_of_a_finished_run_is_checked(finished, how, tmp_path, capsys):
    kind, run = finished
    files = [*json.loads((run / "results.json").read_text())["files"], "results.json"]
    assert set(files) >= KINDS[kind]
    assert load_recfound(run)
    for name in files:
        copy = tmp_path / "copy"
        shutil.copytree(run, copy)
        damage(copy / name, how)
        if name.endswith((".html", ".md")):
            capsys.readouterr()
            assert load_recfound(copy) and f"note: {copy}: {name}: " in capsys.readouterr().out
        else:
            with pytest.raises(DataError, match=rf"{name}: .*: restore it, or run again") as caught:
                load_recfound(copy)
            assert "\n" not in str(caught.value)
        shutil.rmtree(copy)


def test_the_time_of_finished_rows_counts(tiny_path, tmp_path, monkeypatch, plans):
    """Also where no checkpoint says how long the run took before it was stopped."""
    settings = {"data_path": str(tiny_path), "output_dir": str(tmp_path / "runs"), "use_gpu": False}
    settings |= {"epochs": 1, "resume": "auto", "show_progress": False, "time_budget": 1000, "baselines": ["Pop"]}
    row = Run.row

    def stopped(self, job):
        if job.name == "BPR":
            raise Interrupted(15)
        found = row(self, job)
        plans[0].clock = lambda: time.monotonic() + 400  # as if so many seconds had gone by
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Run, "row", stopped)
        with pytest.raises(Interrupted):
            run_recfound("BPR", "tiny", config_dict=settings)
    result = run_recfound("BPR", "tiny", config_dict=settings)
    assert 400 < json.loads((Path(result["run_dir"]) / "results.json").read_text())["run"]["total_seconds"] < 800
    assert not (Path(result["run_dir"]) / "spent.json").exists()


def test_the_time_of_kernels_before_a_signal_counts(tiny_path, tmp_path, monkeypatch, capsys, plans):
    """The limit is on the whole run: a run that is stopped and continued has not got it twice."""
    settings = small_base("BPR", epochs=1) | KERNELS | {"output_dir": str(tmp_path / "runs"), "use_gpu": False}
    settings |= {"data_path": str(tiny_path), "time_budget": 1000}
    step, calls = KernelTrainer._step, []

    def step_of(self, *arguments):
        calls.append(1)
        if len(calls) == 3:
            plans[0].clock = lambda: time.monotonic() + 400  # as if so many seconds had gone by
            signal.raise_signal(signal.SIGTERM)
        return step(self, *arguments)

    monkeypatch.setattr(KernelTrainer, "_step", step_of)
    assert main(["run", "--model=IAK", *_words(settings, tmp_path)[1:]]) == 143
    capsys.readouterr()
    result = run_recfound("IAK", "tiny", config_dict=settings)
    assert 400 < json.loads((Path(result["run_dir"]) / "results.json").read_text())["run"]["total_seconds"] < 800


@pytest.mark.parametrize(("at", "interval"), [(1, 2), (3, 2), (1, None), (3, None), (6, None)])
def test_a_run_that_was_stopped_when_its_time_was_spent_is_finished_with_what_it_has(
    small_run, monkeypatch, plans, at, interval
):
    """The step of the signal is no checkpoint of the schedule, or an early one: it is validated and merged."""
    settings = small_run | {"resume": "auto", "only_tasks": ["U2I"], "time_budget": 1000, "max_steps": 40}
    settings["eval_interval"] = interval
    real, calls = MultiTaskLoader.next_batch, []

    def next_batch(self):
        calls.append(1)
        if len(calls) == at:
            plans[0].clock = lambda: time.monotonic() + 2000  # as if so many seconds had gone by
            signal.raise_signal(signal.SIGTERM)
        return real(self)

    monkeypatch.setattr(MultiTaskLoader, "next_batch", next_batch)
    with pytest.raises(Interrupted):
        run_recfound("RecFound", "tiny", config_dict=settings)
    result = run_recfound("RecFound", "tiny", config_dict=settings)
    found = json.loads((Path(result["run_dir"]) / "results.json").read_text())
    assert len(calls) == found["run"]["steps"] == at and result["test_result"]
    assert found["run"]["best_step"] > 0, "of a trained model"
    (row,) = found["rows"]
    assert row["valid_metrics"] and row["task_metrics"]["U2I"], "scored, and tested in spite of the limit"
