"""Exchange between the processes of a run. With one process nothing is sent and every value is returned as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from accelerate import PartialState
from accelerate.utils import DeepSpeedPlugin, is_deepspeed_available, patch_environment
from torch import distributed

from recbole_recfound.errors import ConfigError, cause_of
from recbole_recfound.runtime.device import is_gpu
from recbole_recfound.runtime.ranks import asks_for_deepspeed, is_main, rank, world

_T = TypeVar("_T")

PATIENCE = timedelta(days=30)
"""How long a process waits for the others: baselines are trained by the main process alone. A process that dies ends
the others through the launcher, not through this limit."""
_alone: list[bool] = []
"""Not empty while the main process computes something alone."""


def _several() -> bool:
    """Return whether several processes take part.

    Raises:
        RuntimeError: the others are waiting for the end of `on_main`, so they cannot take part.
    """
    if _alone:
        raise RuntimeError("the main process computes this alone: nothing can be exchanged inside of on_main")
    return world() > 1


def start(device: torch.device) -> None:
    """Join the processes that the launcher started; nothing to do for one.

    Args:
        device: of this process; the CPU exchanges through gloo.

    Raises:
        ConfigError: the launcher asks for a form of DeepSpeed that is not offered.
    """
    _check_deepspeed()
    if world() > 1 and not distributed.is_initialized():
        with patch_environment(accelerate_use_deepspeed="false"):  # it joins processes that have joined
            PartialState(cpu=not is_gpu(device), timeout=PATIENCE)


def _check_deepspeed() -> None:
    """Refuse forms of DeepSpeed that are not offered.

    Raises:
        ConfigError: it is not installed; another stage than 1, or offloading; its own file cannot be read.
    """
    if not asks_for_deepspeed():
        return
    if not is_deepspeed_available():
        raise ConfigError("accelerate: DeepSpeed is not installed: pip install 'recbole_recfound[deepspeed]'")
    try:
        plugin = DeepSpeedPlugin()
    except (ValueError, OSError) as error:
        raise ConfigError(f"accelerate: the file of DeepSpeed cannot be used ({cause_of(error)})") from None
    offloads = {plugin.offload_optimizer_device, plugin.offload_param_device} - {None, "none"}
    if plugin.zero_stage != 1 or offloads:
        further = f" and offloading to {sorted(offloads)[0]}" if offloads else ""
        raise ConfigError(
            f"accelerate: got DeepSpeed with zero_stage {plugin.zero_stage}{further}, expected stage 1 without "
            "offloading (properties/accelerate/deepspeed.yaml). Frozen weights are divided by fsdp2.yaml"
        )


def end() -> None:
    """Wait for the other processes and leave them."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()


def broadcast(value: _T) -> _T:
    """Return the main process's value on all processes.

    Args:
        value: anything that can be pickled; read on the main process only.
    """
    if not _several():
        return value
    values = [value if is_main() else None]
    distributed.broadcast_object_list(values)
    return cast(_T, values[0])


def gather(value: _T) -> list[_T]:
    """Return the values of all processes on all processes, in the order of their ranks.

    Args:
        value: anything that can be pickled.
    """
    if not _several():
        return [value]
    values: list[Any] = [None] * world()
    distributed.all_gather_object(values, value)
    return values


def on_main(compute: Callable[[], _T]) -> _T:
    """Compute a value on the main process and return it on all; an error is raised on all.

    Args:
        compute: called on the main process only.
    """
    if not _several():
        return compute()
    value, error = None, None
    if is_main():
        _alone.append(True)
        try:
            value = compute()
        except Exception as raised:
            error = raised
        finally:
            _alone.pop()
    value, error = broadcast((value, error))
    if error is not None:
        raise error
    return cast(_T, value)


def broadcast_tensor(values: torch.Tensor) -> torch.Tensor:
    """Return the main process's tensor on all processes, each on its own device.

    Args:
        values: of one shape and type on all processes; unchanged.
    """
    if not _several():
        return values
    sent = values.clone()
    distributed.broadcast(sent, 0)
    return sent


def total(values: torch.Tensor) -> torch.Tensor:
    """Return the sum of a tensor over all processes.

    Args:
        values: of one shape and type on all processes; unchanged.
    """
    if not _several():
        return values
    summed = values.clone()
    distributed.all_reduce(summed)
    return summed


@dataclass(frozen=True)
class Share:
    """The rows of a global batch that belong to one process: `rank`, `rank + world`, ...

    Every process has at least one row, so that all of them make the same passes: where rows do not suffice, it is row 0
    again, and `count` is 0.

    Attributes:
        rows: of the global batch.
        rank: of the process.
        world: number of processes.
    """

    rows: int
    rank: int
    world: int

    @classmethod
    def of(cls, rows: int) -> Share:
        """Return the share of this process in a batch of `rows` rows."""
        return cls(rows, rank(), world())

    @property
    def count(self) -> int:
        """Number of rows that count."""
        return len(range(self.rank, self.rows, self.world))

    @property
    def index(self) -> list[int]:
        """Rows of the global batch, one at least."""
        return list(range(self.rank, self.rows, self.world)) or [0]


class _AllGather(torch.autograd.Function):
    """Tensors of all processes; the gradient of each is the sum over all processes (no collective of torch keeps it).

    Written here since `torch.distributed.nn.functional.all_gather` is deprecated and its successor is not in torch 2.6.
    """

    @staticmethod
    def forward(ctx: Any, rows: torch.Tensor) -> torch.Tensor:
        """Stack the tensors of all processes, [world, ...].

        Args:
            ctx: not used.
            rows: of one shape on all processes.
        """
        found = [torch.empty_like(rows) for _ in range(world())]
        distributed.all_gather(found, rows.contiguous())
        return torch.stack(found)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        """Add the gradients of all processes and return this one's.

        Args:
            ctx: not used.
            gradient: [world, ...].
        """
        return total(gradient.contiguous())[rank()]


def gather_rows(rows: torch.Tensor, count: int) -> torch.Tensor:
    """Return the rows of all processes in the order of the global batch, with their gradients.

    Args:
        rows: [n, ...] those of this process, as `Share.index` picks them.
        count: rows of the global batch.

    Returns:
        [count, ...].
    """
    if not _several():
        return rows
    real, most = Share.of(count).count, -(-count // world())
    padding = rows.new_zeros(most - real, *rows.shape[1:])
    found = _AllGather.apply(torch.cat([rows[:real], padding]))
    return found.transpose(0, 1).reshape(-1, *rows.shape[1:])[:count]


def in_order(shares: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return rows that every process has computed a share of, in their global order.

    Args:
        shares: of each process, in the order of their ranks; [n, ...].
    """
    rows = sum(map(len, shares))
    found = shares[0].new_empty(rows, *shares[0].shape[1:])
    for number, share in enumerate(shares):
        found[number :: len(shares)] = share
    return found


@torch.no_grad()
def complete_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Give a parameter that has a gradient on some process a gradient of zeros on the others.

    A parameter without a gradient anywhere has none afterwards either: optimisers skip it, as with one process.

    Args:
        parameters: the same ones on all processes.
    """
    weights = list(parameters)
    found = [weight.grad is not None for weight in weights]
    present = total(torch.tensor(found, dtype=torch.int32, device=weights[0].device))
    for weight, count in zip(weights, present.tolist(), strict=True):
        if count and weight.grad is None:
            weight.grad = torch.zeros_like(weight)


@torch.no_grad()
def sum_gradients(parameters: Iterable[torch.nn.Parameter], factor: float = 1.0) -> None:
    """Replace the gradients by their sums over all processes.

    Args:
        parameters: the same ones on all processes.
        factor: of the sums.
    """
    if not _several():
        return
    weights = list(parameters)
    complete_gradients(weights)
    found = [weight.grad for weight in weights if weight.grad is not None]
    if found:
        summed = total(torch.cat([gradient.flatten() for gradient in found]))
        for gradient, part in zip(found, summed.split([gradient.numel() for gradient in found]), strict=True):
            gradient.copy_(part.view_as(gradient) * factor)
