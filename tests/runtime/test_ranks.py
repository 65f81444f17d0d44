"""What a process knows of the others, without starting any."""

import logging

import pytest
import torch

from recbole_recfound.cli import main
from recbole_recfound.errors import ConfigError
from recbole_recfound.runtime import exchange
from recbole_recfound.runtime.device import choose_device
from recbole_recfound.runtime.exchange import Share, in_order
from recbole_recfound.runtime.ranks import local_rank, main_speaks, rank, uses_deepspeed, world


@pytest.fixture
def second(monkeypatch):
    """This process is the second of three."""
    for name, value in {"WORLD_SIZE": "3", "RANK": "1", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)


def test_one_process_exchanges_nothing(monkeypatch):
    monkeypatch.setenv("RANK", "5")  # left over from another program
    value = object()
    assert (rank(), world()) == (0, 1)
    assert exchange.broadcast(value) is value and exchange.gather(value) == [value]
    assert exchange.on_main(lambda: exchange.broadcast(value)) is value
    rows = torch.rand(3, 2)
    assert exchange.gather_rows(rows, 3) is rows and exchange.total(rows) is rows


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 9])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_shares_have_every_row_once_and_none_is_empty(rows, processes):
    shares = [Share(rows, number, processes) for number in range(processes)]
    assert all(share.index for share in shares)
    counted = [share.index[: share.count] for share in shares]
    assert sorted(row for share in counted for row in share) == list(range(rows))
    parts = [torch.tensor(index, dtype=torch.int64).unsqueeze(1) for index in counted]
    assert in_order(parts).flatten().tolist() == list(range(rows))


def test_only_the_main_process_speaks(second, capsys, caplog):
    with main_speaks():
        print("nobody reads this")
        logging.getLogger("recbole_recfound").warning("nor this")
    print("but this")
    assert capsys.readouterr().out == "but this\n"
    assert not caplog.records


def test_the_main_process_cannot_exchange_what_it_computes_alone(monkeypatch):
    monkeypatch.setattr(exchange, "_alone", [True])
    with pytest.raises(RuntimeError, match="inside of on_main"):
        exchange.broadcast(1)


def test_each_process_has_its_own_gpu(second, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert local_rank() == 1
    assert choose_device(None, "0") == torch.device("cuda", 1)
    assert choose_device(False, "0") == choose_device(None, "") == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match=r"only 2 GPU\(s\) are visible"):
        choose_device(None, "0")
    monkeypatch.setenv("ACCELERATE_USE_CPU", "True")
    assert choose_device(True, "0") == torch.device("cpu")


@pytest.mark.parametrize(
    ("installed", "variables", "message"),
    [
        (False, {"ZERO_STAGE": "1"}, "accelerate: DeepSpeed is not installed: pip install"),
        (True, {"ZERO_STAGE": "3"}, "accelerate: got DeepSpeed with zero_stage 3, expected stage 1"),
        (True, {}, "zero_stage 2, expected stage 1 without offloading"),
        (True, {"ZERO_STAGE": "1", "OFFLOAD_OPTIMIZER_DEVICE": "cpu"}, "zero_stage 1 and offloading to cpu"),
    ],
)
def test_other_forms_of_deepspeed_are_refused(installed, variables, message, second, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    for name, value in variables.items():
        monkeypatch.setenv(f"ACCELERATE_DEEPSPEED_{name}", value)
    for place in ("recbole_recfound.runtime.exchange", "accelerate.utils.dataclasses"):
        monkeypatch.setattr(f"{place}.is_deepspeed_available", lambda: installed, raising=False)
    with pytest.raises(ConfigError, match=message):
        exchange.start(torch.device("cpu"))


def test_one_process_divides_nothing(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "1")
    for place in ("recbole_recfound.runtime.exchange", "accelerate.utils.dataclasses"):
        monkeypatch.setattr(f"{place}.is_deepspeed_available", lambda: True, raising=False)
    exchange.start(torch.device("cpu"))
    assert not uses_deepspeed()
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "cpu")
    with pytest.raises(ConfigError, match="zero_stage 1 and offloading to cpu, expected"):
        exchange.start(torch.device("cpu"))


def test_errors_of_another_process_wait_for_the_main_one(second, capsys, monkeypatch):
    waited = []
    monkeypatch.setattr("time.sleep", waited.append)
    assert main(["compare"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error (process 1 of 3): recfound compare runs in one process, not in 3")
    assert waited and waited[0] > 1
