"""A finished M6-Rec run of a tiny backbone, and a student of it."""

from pathlib import Path

import pytest
import torch

from recbole_recfound import load_recfound, run_recfound
from recbole_recfound.edge.options import DistilOptions
from recbole_recfound.edge.student import Student
from recbole_recfound.edge.teacher import Teacher

NEWLINE = 2
"""Token that begins a segment; targets of these tests have two."""


@pytest.fixture(scope="package")
def finished(tiny_path, tiny_backbone, tmp_path_factory) -> Path:
    """The run folder."""
    settings = {
        "data_path": str(tiny_path),
        "backbone": str(tiny_backbone),
        "output_dir": str(tmp_path_factory.mktemp("runs")),
        "use_gpu": False,
        "show_progress": False,
        "time_budget": 0,
        "threshold": {"rating": 4},
        "eval_args": {"split": {"RS": [0.8, 0.1, 0.1]}, "order": "TO", "group_by": "none", "mode": "labeled"},
        "late_args": {"joint_layers": 2, "targets": 8},
        "text_args": {"behaviours": 3, "max_tokens": 12},
        "option_args": {"prompts": 4, "bottleneck": 4},
        "load_col": {"inter": ["user_id", "item_id", "rating", "timestamp"]},
        "epochs": 1,
        "train_batch_size": 64,
    }
    return Path(run_recfound("M6Rec", "tiny", config_dict=settings)["run_dir"])


@pytest.fixture(scope="package")
def loaded(finished):
    """The run, loaded."""
    return load_recfound(finished)


@pytest.fixture(scope="package")
def teacher(loaded) -> Teacher:
    return Teacher(loaded.model, loaded.splits)


@pytest.fixture
def make_student():
    """Return a maker of students with random weights."""

    def make(vocabulary: int = 40, seed: int = 0, **options) -> Student:
        torch.manual_seed(seed)
        given = {"layers": 3, "width": 32, "embedding_size": 8, "exits": [1, 2, 3], **options}
        student = Student(vocabulary, 2, NEWLINE, DistilOptions.of(given, "distill")).eval()
        with torch.no_grad():
            for weight in student.parameters():
                weight.add_(0.1 * torch.randn(weight.shape))
            student.embedding.weight.mul_(3)
            student.center.normal_()
            student.spread.uniform_(0.5, 2)
        return student

    return make


@pytest.fixture
def batch():
    """Sources [2, 6] of lengths 6 and 4, targets [3, 7] of lengths 7, 5 and 6."""
    generator = torch.Generator().manual_seed(5)
    sources = torch.randint(3, 40, (2, 6), generator=generator)
    sources[1, 4:] = 0
    targets = torch.randint(3, 40, (3, 7), generator=generator)
    targets[:, 0] = targets[0, 4] = targets[1, 2] = targets[2, 3] = NEWLINE
    targets[1, 5:] = 0
    targets[2, 6:] = 0
    return sources, targets, torch.tensor([0, 1, 1])
