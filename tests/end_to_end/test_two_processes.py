"""Two gloo processes on the CPU compute what one process computes with the same global batch."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from recbole_recfound.quick_start import load_recfound, run_recfound
from tests.settings import READING
from tests.small_iak import small_base
from tests.two_processes import gathered, gradients, launch

RUNS = ("item", "prompt", "late", "IAK", "M6Rec")


@pytest.fixture(scope="module")
def odd_path(tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny data set with an odd number of users."""
    root = tmp_path_factory.mktemp("odd")
    shutil.copytree(tiny_path / "tiny", root / "tiny")
    header, *rows = (root / "tiny" / "tiny.inter").read_text().splitlines()
    users = sorted({row.split("\t")[0] for row in rows})
    dropped = users[: 1 + len(users) % 2]
    kept = [row for row in rows if row.split("\t")[0] not in dropped]
    (root / "tiny" / "tiny.inter").write_text("\n".join([header, *kept]) + "\n")
    return root


@pytest.fixture(scope="module")
def jobs(small_settings, odd_path):
    """Settings of all jobs; dropout would draw other masks for other rows."""
    settings = small_settings | {
        "data_path": str(odd_path),
        "dropout": 0.0,
        "item_args": {"text_alone": 0.0},
        "scheduler_args": {"warmup": 1},
    }
    # An odd number of pairs, of sequences and of prompts; hard negatives.
    settings |= {"batch_args": {"embedding": 5, "contrastive": 3, "generative": 3, "generative_chunk": 3}}
    settings |= {"task_args": {"I2I": {"hard_negatives": 2}}, "baselines": ["Pop"]}
    sampled = settings | {
        "loss_args": {"full_softmax_items": 10, "sampled_items": 30},
        "batch_args": {"cache_chunk": 2},
    }
    iak = {"show_progress": False, "use_gpu": False, "time_budget": 0, "epochs": 2, "iak_args": {"least_steps": 4}}
    iak |= {"train_batch_size": 33, "domain": ["gender"], "tuning_baselines": ["adapter"], "data_path": str(odd_path)}
    reading = READING | {name: settings[name] for name in ("data_path", "backbone", "precision", "load_col")}
    reading |= {"m6rec_task": ["retrieval"], "baselines": ["Pop"], "retrieval_args": {"width": 8, "start_epochs": 2}}
    short = settings | {"max_steps": 3, "baselines": [], "task_test_examples": 0}
    return {
        "gathered": (None, None, {}),
        "gradients": (None, None, sampled),
        "item": ("RecFound", "tiny", settings | {"batch_args": {"accumulation": 2}}),
        "prompt": ("RecFound", "tiny", short | {"history": "prompt"}),
        "positions": ("RecFound", "tiny", short | {"history": "positions"}),
        "late": ("RecFound", "tiny", short | {"history": "late"}),
        "IAK": ("IAK", "tiny", iak | small_base("BPR", epochs=2)),
        "M6Rec": ("M6Rec", "tiny", reading),
    }


@pytest.fixture(scope="module")
def two(jobs, checkout, tmp_path_factory):
    """Folder with what two processes have computed."""
    folder = tmp_path_factory.mktemp("two")
    return _launched({name: job for name, job in jobs.items() if name != "positions"}, folder, checkout)


@pytest.fixture(scope="module")
def sharded(jobs, checkout, tmp_path_factory):
    """Folder with what two processes have computed that divide the frozen weights."""
    model, dataset, settings = jobs["gradients"]
    whole = settings | {"batch_args": {"cache_chunk": 0}, "gradient_checkpointing": True}
    own = {"gradients": (model, dataset, whole), "positions": jobs["positions"], "item": jobs["item"]}
    return _launched(own, tmp_path_factory.mktemp("sharded"), checkout, ACCELERATE_USE_FSDP="true")


def _launched(jobs, folder, checkout, **variables):
    written = {name: (*job[:2], dict(job[2]) | {"output_dir": str(folder / "runs")}) for name, job in jobs.items()}
    (folder / "jobs.json").write_text(json.dumps(written))
    done = launch(checkout, "-m", "tests.two_processes", str(folder / "jobs.json"), str(folder), **variables)
    assert done.returncode == 0, done.stderr[-4000:]
    (folder / "stdout").write_text(done.stdout)
    return folder


@pytest.fixture(scope="module")
def one(jobs, tmp_path_factory):
    """What one process computes."""
    folder = tmp_path_factory.mktemp("one")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return {
            name: run_recfound(model, dataset, config_dict=dict(settings) | {"output_dir": str(folder / "runs")})
            for name, (model, dataset, settings) in jobs.items()
            if model
        }


def _read(folder, name):
    return torch.load(folder / f"{name}.pt", weights_only=False)


def _history(run):
    return json.loads((Path(run["run_dir"]) / "trainer_state" / "history.json").read_text())


def test_gathered_rows_have_the_gradient_of_the_whole(two):
    for rows, gradient in _read(two, "gathered").items():
        assert torch.allclose(gradient, gathered(rows), atol=1e-6), rows


@pytest.mark.parametrize("processes", ["two", "sharded"])
def test_the_gradients_of_a_batch(processes, jobs, request):
    """Adam hides a wrong factor: gradients are compared themselves, with a sampled softmax and GradCache.

    Frozen weights are divided with gradient checkpoints and without GradCache, which make no other gradients.
    """
    ours, theirs = _read(request.getfixturevalue(processes), "gradients"), gradients(jobs["gradients"][2])
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.keys() == other.keys(), "a parameter without gradient has none on two processes either"
        for name, gradient in other.items():
            assert (mine[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-7, name


@pytest.mark.parametrize(
    ("processes", "mode"),
    [("two", "item"), ("two", "prompt"), ("two", "late"), ("sharded", "positions"), ("sharded", "item")],
)
def test_losses_decisions_and_metrics(processes, one, mode, request):
    run = _read(request.getfixturevalue(processes), mode)
    for mine, other in zip(_history(run), _history(one[mode]), strict=True):
        assert mine["counts"] == other["counts"]
        assert mine["losses"] == pytest.approx(other["losses"], rel=1e-6)
        assert mine["weights"] == pytest.approx(other["weights"], abs=1e-6)
        assert mine["probed"].keys() == other["probed"].keys()
    if mode == "item":
        assert len({json.dumps(record["weights"]) for record in _history(run)}) > 1, "the scheduler has decided"
    assert run["test_result"] == pytest.approx(one[mode]["test_result"], abs=1e-4)
    assert run["best_valid_result"] == pytest.approx(one[mode]["best_valid_result"], abs=1e-4)
    for mine, other in zip(run["comparison"], one[mode]["comparison"], strict=True):
        assert (mine["model"], mine["metrics"]) == (other["model"], pytest.approx(other["metrics"], abs=1e-4))
    by_user = [json.loads((Path(found["run_dir"]) / "by_user.json").read_text())["rows"] for found in (run, one[mode])]
    assert by_user[0].keys() == by_user[1].keys()
    assert all(values == pytest.approx(by_user[1][name], abs=1e-4) for name, values in by_user[0].items())
    results = json.loads((Path(run["run_dir"]) / "results.json").read_text())
    assert results["run"]["processes"] == 2 and results["protocol"]["users"] % 2


def test_m6rec_is_trained_by_the_main_process(two, one):
    run = _read(two, "M6Rec")
    for mine, other in zip(run["comparison"], one["M6Rec"]["comparison"], strict=True):
        assert (mine["model"], mine["metrics"]) == (other["model"], pytest.approx(other["metrics"], abs=1e-6))


def test_kernels(two, one):
    ours, theirs = _read(two, "IAK")["comparison"], one["IAK"]["comparison"]
    assert [row["model"] for row in ours] == [row["model"] for row in theirs] == ["frozen", "adapter", "IAK"]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["metrics"] == pytest.approx(other["metrics"], abs=1e-4)
    mine, other = ours[-1], theirs[-1]
    for point, wanted in zip(mine["curves"], other["curves"], strict=True):
        assert point == pytest.approx(wanted, rel=1e-5)
    assert (mine["best_epoch"], mine["domain_steps"]) == (other["best_epoch"], other["domain_steps"])


def test_divided_weights_are_saved_whole(sharded, one):
    assert _files(Path(_read(sharded, "positions")["run_dir"])) == _files(Path(one["positions"]["run_dir"]))
    assert not [path for path in (sharded / "process1").rglob("*") if path.is_file()]
    recommender = load_recfound(_read(sharded, "positions")["run_dir"])
    items = (Path(_read(sharded, "positions")["run_dir"]) / "items.jsonl").read_text().splitlines()
    tokens = [item["token"] for item in map(json.loads, items) if item["item_id"]][:3]
    assert len(recommender.recommend(history=tokens, k=3)) == 3


def test_only_the_main_process_writes(two, one):
    assert not [path for path in (two / "process1").rglob("*") if path.is_file()]
    folders = sorted((two / "runs").iterdir())
    assert len(folders) == len(RUNS)
    for name in RUNS:
        mine, other = Path(_read(two, name)["run_dir"]), Path(one[name]["run_dir"])
        assert mine in folders
        assert _files(mine) == _files(other)
    said = (two / "stdout").read_text()
    assert said.count("run folder:") == len(RUNS)


def _files(folder):
    """Names of the files but logs and what is named after the time, of which the number counts."""
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    events = [name for name in names if "tensorboard" in name.parts]
    return {str(name) for name in names if name.suffix not in (".log", ".pth") and name not in events} | {len(events)}
