"""Small data sets in RecBole's atomic files, and a working directory of its own for every test."""

from __future__ import annotations

import random
import shutil
import signal
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from recbole_recfound.runtime.locations import recbole_dir
from recbole_recfound.runtime.time_plan import TimePlan
from tests.settings import Settings

CHECKOUT = Path(__file__).resolve().parents[1]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Tests that take minutes run with `make test-slow`, that is when their folder is named."""
    named = any("slow" in Path(argument.partition("::")[0]).parts for argument in config.args)
    return True if collection_path == CHECKOUT / "tests" / "slow" and not named else None


@pytest.fixture(autouse=True)
def _own_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """RecBole writes logs, tensorboard files and checkpoints where it stands."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _own_random_numbers() -> None:
    """A test that draws numbers draws the same ones whichever tests ran before."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def checkout() -> Path:
    """The repository."""
    return CHECKOUT


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data_path` with the data set `tiny`: some 50 users and 150 films of ml-100k, real timestamps with their ties."""
    root = tmp_path_factory.mktemp("data")
    source = recbole_dir() / "dataset_example" / "ml-100k"
    header, *rows = (source / "ml-100k.inter").read_text().splitlines()
    of_user: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        user, item, *_ = row.split("\t")
        if int(user) <= 60 and int(item) <= 150 and len(of_user[user]) < 12:
            of_user[user].append(row)
    chosen = [row for rows in of_user.values() for row in rows if len(rows) >= 4]
    (root / "tiny").mkdir()
    (root / "tiny" / "tiny.inter").write_text("\n".join([header, *chosen]) + "\n")
    for suffix in ("item", "user"):
        (root / "tiny" / f"tiny.{suffix}").write_text((source / f"ml-100k.{suffix}").read_text())
    return root


@pytest.fixture
def data_that_change(tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], Path]:
    """Return a function: `data_path` of a copy of `tiny`, which changes when a module trains EASE as a baseline."""

    def prepare(module: ModuleType) -> Path:
        shutil.copytree(tiny_path, tmp_path / "data")
        file, theirs = tmp_path / "data" / "tiny" / "tiny.item", module.run_baseline

        def run_baseline(name: str, *given: Any) -> Any:
            if name == "EASE":
                file.write_text(file.read_text() + "9999\tA Film\t1995\tDrama\n")
            return theirs(name, *given)

        monkeypatch.setattr(module, "run_baseline", run_baseline)
        return tmp_path / "data"

    return prepare


@pytest.fixture
def write_dataset(tmp_path: Path):
    """Return a writer of data sets: `write_dataset("name", inter=[[...], ...], item=[...])`, header first."""

    def write(name: str, **tables: list[list]) -> Path:
        folder = tmp_path / "written" / name
        folder.mkdir(parents=True, exist_ok=True)
        for suffix, rows in tables.items():
            text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
            (folder / f"{name}.{suffix}").write_text(text, encoding="utf-8")
        return folder.parent

    return write


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random three-layer causal LM with a byte tokenizer."""
    from tests.tiny_backbone import write_tiny_backbone

    return write_tiny_backbone(tmp_path_factory.mktemp("backbone"))


@pytest.fixture
def small_run(small_settings: Settings, tmp_path: Path) -> Settings:
    """Settings of a RecFound run that takes seconds: override what a test is about."""
    return small_settings | {"output_dir": str(tmp_path / "runs")}


@pytest.fixture(scope="session")
def small_settings(tiny_path: Path, tiny_backbone: Path) -> Settings:
    """`small_run` without a folder, for runs that several tests share."""
    return Settings(
        {
            "data_path": str(tiny_path),
            "backbone": str(tiny_backbone),
            "show_progress": False,
            "use_gpu": False,
            "precision": "float32",
            "time_budget": 0,
            "max_steps": 4,
            "eval_interval": 2,
            "item_args": {"refresh_interval": 3, "max_tokens": 24},
            "probe_args": {"interval": 4, "size": 2},
            "tower_args": {"feature_layers": [3]},
            "adapter_args": {"r": 2},
            "batch_args": {
                "embedding": 4,
                "sequence_targets": 1,
                "generative": 2,
                "contrastive": 2,
                "generative_chunk": 2,
            },
            "task_args": {"*": {"max_examples": 30, "history_titles": 3}, "SR": {"candidates": 4}},
            "max_prompt_tokens": 400,
            "test_args": {"max_answer_tokens": 24},
            "task_test_examples": 2,
            "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        }
    )


@pytest.fixture(autouse=True)
def _fresh_accelerate():
    """Reset accelerate's process-wide state between tests: consecutive runs differ in precision."""
    yield
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture(autouse=True)
def interruptible_by_the_keyboard():
    """A shell that starts the tests in the background lets them ignore Ctrl-C; tests of it need Python's handler."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def plans(monkeypatch):
    """The time plans of all runs of a test, in their order."""
    found, start = [], TimePlan.__init__

    def watched(self, *arguments, **further):
        start(self, *arguments, **further)
        found.append(self)

    monkeypatch.setattr(TimePlan, "__init__", watched)
    return found
