"""What zeroshot ranks by default: a sample where there is no GPU, all items of all users on one."""

import pytest
import torch

from recbole_recfound.config.configurator import Config
from recbole_recfound.model.reading.zeroshot import ZeroShotModel
from recbole_recfound.system.m6rec.tasks import of_part

SAMPLE = {"mode": {"valid": "uni100", "test": "uni100"}, "test_users": 100, "time_budget": 1500}
EVERYTHING = {"mode": {"valid": "full", "test": "full"}, "test_users": 0, "time_budget": 0}


@pytest.fixture
def gpus(monkeypatch):
    """Return a function that sets how many GPUs there seem to be."""

    def there_are(count):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: False)

    return there_are


@pytest.fixture
def ranked(tiny_path, tiny_backbone):
    """Return a function: what the last task of a run ranks, and how long."""

    def settings_of(tasks=("zeroshot",), **given):
        own = {"data_path": str(tiny_path), "backbone": str(tiny_backbone), "m6rec_task": [*tasks]}
        config = of_part(Config("M6Rec", "tiny", None, own | given), tasks[-1], "option-adapter")
        return {"mode": config["eval_args"]["mode"], **{key: config[key] for key in ("test_users", "time_budget")}}

    return settings_of


@pytest.mark.parametrize(
    ("count", "given", "expected"),
    [
        (0, {}, SAMPLE),
        (1, {}, EVERYTHING),
        (1, {"use_gpu": True}, EVERYTHING),
        (1, {"use_gpu": False}, SAMPLE),
        (1, {"gpu_id": ""}, SAMPLE),
        (2, {"gpu_id": "1"}, EVERYTHING),
        (0, {"test_users": 7}, SAMPLE | {"test_users": 7}),
        (1, {"test_users": 7, "time_budget": 60}, EVERYTHING | {"test_users": 7, "time_budget": 60}),
    ],
)
def test_the_device_decides_what_is_ranked(gpus, ranked, count, given, expected):
    gpus(count)
    assert ranked(**given) == expected


@pytest.mark.parametrize("first", ["retrieval", "ctr"])
@pytest.mark.parametrize(("count", "expected"), [(0, SAMPLE), (1, EVERYTHING)])
def test_so_it_does_behind_another_task(gpus, ranked, first, count, expected):
    """On the test users of the first one."""
    gpus(count)
    assert ranked([first, "zeroshot"]) == expected | {"test_users": 0}


def test_a_gpu_that_is_not_there_is_refused_with_all_other_problems(gpus):
    """The choice itself ends nothing."""
    gpus(0)
    assert ZeroShotModel.own_settings({"use_gpu": True}) == ZeroShotModel.own_settings({})
