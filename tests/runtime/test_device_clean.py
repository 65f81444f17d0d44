"""Every tensor that our package makes in training and evaluation says where it lives.

A CPU build of torch cannot fake a GPU, so a factory without a device is caught where it is called.
"""

import math
import sys

import pytest
import torch
from torch.overrides import TorchFunctionMode

from recbole_recfound.evaluation.tasks import run_tests
from recbole_recfound.model import losses
from recbole_recfound.model.generation import Generator
from tests.small_model import build_small, perturb

FACTORIES = {
    getattr(torch, name)
    for name in (
        "zeros",
        "ones",
        "full",
        "empty",
        "arange",
        "tensor",
        "as_tensor",
        "rand",
        "randn",
        "randint",
        "randperm",
        "eye",
        "linspace",
        "logspace",
        "range",
        "empty_strided",
        "scalar_tensor",
        "normal",
        "tril_indices",
        "triu_indices",
        "sparse_coo_tensor",
    )
}


class NoHomelessTensors(TorchFunctionMode):
    """Refuses a factory without a device when the nearest frame is our package's."""

    def __init__(self) -> None:
        super().__init__()
        self.ours = 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        caller = sys._getframe(1)
        if function in FACTORIES and caller.f_globals.get("__name__", "").startswith("recbole_recfound"):
            self.ours += 1
            moved = function is torch.as_tensor and isinstance(args[0], torch.Tensor)
            if kwargs.get("device") is None and not moved:
                raise AssertionError(
                    f"{caller.f_code.co_filename}:{caller.f_lineno}: torch.{function.__name__} without a device"
                )
        return function(*args, **kwargs)


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_args": {"cache_chunk": 2}, "loss_args": {"full_softmax_items": 10, "sampled_items": 20}},
        {"adapter": "lora", "scheduler": "coba"},
        {"history": "positions"},
        {"history": "prompt", "gradient_checkpointing": True},
        {"history": "late"},
    ],
    ids=str,
)
def test_training_and_evaluation(small_run, tmp_path, changes):
    small = build_small(
        small_run, **changes, max_steps=3, item_args={"refresh_interval": 2}, adapter_args={"lora_dropout": 0.1}
    )
    perturb(small.model)
    trainer = small.trainer(tmp_path)
    with NoHomelessTensors() as mode:
        trainer.fit(small.loader, small.splits.valid_data, verbose=False)
        trainer.evaluate(small.splits.test_data, load_best_model=False)
        trainer.restore(trainer.store.load(3, small.device))
    assert mode.ours > 5


def test_generation(small_run):
    small = build_small(small_run, tasks=["U2I", "SR", "IP"])
    perturb(small.model)
    small.model.refresh_items()
    collator = small.model.parts.data.collator
    settings = {
        "test_args": {"max_answer_tokens": 4, "bert_score_model": ""},
        "metric_decimal_place": 4,
        "show_progress": False,
    }
    with NoHomelessTensors() as mode:
        for beams in (1, 2):
            generator = Generator(small.model.backbone, collator.tokenizer, small.device, beams)
            found = run_tests(
                small.model, small.built.collator, generator, small.built.tests, settings, lambda: math.inf
            )
            assert {"SR", "IP"} <= found.keys()
    assert mode.ours > 5


def test_a_homeless_tensor_is_caught(small_run, tmp_path, monkeypatch):
    source = "def homeless(losses, wanted):\n    return torch.zeros(len(wanted)) + losses.sum()\n"
    exec(compile(source, "planted.py", "exec"), losses.__dict__)
    monkeypatch.setattr(losses, "_mean_by_row", losses.__dict__.pop("homeless"))
    small = build_small(small_run)
    trainer = small.trainer(tmp_path)
    with NoHomelessTensors(), pytest.raises(AssertionError, match="planted.py:2: torch.zeros without a device"):
        trainer.fit(small.loader, small.splits.valid_data, verbose=False)
