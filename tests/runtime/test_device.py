"""`use_gpu`, `gpu_id`, and that nothing else in the package names a device."""

import ast
import re

import pytest
import torch

from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime.device import choose_device, forget_peak_memory, peak_memory


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def _device(use_gpu, gpu_id="0"):
    return str(choose_device(use_gpu, gpu_id))


@pytest.mark.parametrize(
    ("use_gpu", "gpu_id", "expected"),
    [
        (None, "0", "cuda:0"),
        (True, "1", "cuda:1"),
        (None, 1, "cuda:1"),
        (None, "1,0", "cuda:1"),
        (None, [1, 0], "cuda:1"),
        (False, "0", "cpu"),
        (None, "", "cpu"),
        (False, "7", "cpu"),
    ],
)
def test_with_two_gpus(two_gpus, use_gpu, gpu_id, expected):
    assert _device(use_gpu, gpu_id) == expected


@pytest.mark.parametrize("gpu_id", ["2", 5, "x", "-1", "²"])
def test_a_gpu_that_is_not_there(two_gpus, gpu_id):
    with pytest.raises(ConfigError, match="gpu_id"):
        _device(None, gpu_id)


def test_demanded_but_switched_off_by_its_id(two_gpus):
    with pytest.raises(ConfigError, match="gpu_id: ''"):
        _device(True, "")


def test_a_gpu_that_has_not_been_used_has_no_memory_to_forget(monkeypatch):
    """Without this torch raises `Invalid device argument 0: did you call init?`."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda of: pytest.fail("not initialised"))
    forget_peak_memory(torch.device("cuda", 0))


def test_peak_memory_is_that_of_the_run_on_a_gpu_and_of_the_process(monkeypatch):
    device, most = torch.device("cuda", 1), {torch.device("cuda", 1): 3 * 2**30}
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", most.__getitem__)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda of: most.update({of: 2**29}))
    assert peak_memory(device)["peak_gpu_memory_gib"] == 3
    forget_peak_memory(device)
    assert peak_memory(device)["peak_gpu_memory_gib"] == 0.5
    assert 0.05 < peak_memory(device)["peak_memory_gib"] < 100

    cpu = torch.device("cpu")
    forget_peak_memory(cpu)
    assert list(peak_memory(cpu)) == ["peak_memory_gib"]


def test_without_a_gpu(no_gpu):
    assert _device(None) == _device(False) == _device(None, "5") == "cpu"
    with pytest.raises(ConfigError, match="use_gpu: got True, but torch finds no CUDA device"):
        _device(True)


def test_no_other_file_names_a_device(checkout):
    for path in (checkout / "recbole_recfound").rglob("*.py"):
        if path == checkout / "recbole_recfound" / "runtime" / "device.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "cuda":
                pytest.fail(
                    f"{path.relative_to(checkout)}:{node.lineno} calls .cuda(): take the device from the config"
                )
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and re.fullmatch(r"(cpu|cuda)(:\d*)?", node.value)
            ):
                place = f"{path.relative_to(checkout)}:{node.lineno}"
                pytest.fail(f"{place} names the device {node.value!r}: take it from the config")
