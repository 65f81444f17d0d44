"""The task table of one adapter, and the plan of its experts for a batch of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from recbole_recfound.adapter.tmole.config import OPEN_GROUPS, TMoLEConfig

#: One task for all rows, or one per row: ids or names.
Tasks = int | str | Sequence[int | str]


@dataclass(frozen=True)
class Plan:
    """The experts that the rows of one batch use, decided on the host.

    Args:
        experts: the contiguous range of experts that is open to some row.
        tasks: the distinct tasks of the batch, [K] ids on the device; an int when there is one.
        rows: [B] index into `tasks` for each row; None when there is one task.
        open_experts: [K, number of `experts`] bool.
    """

    experts: slice
    tasks: torch.Tensor | int
    rows: torch.Tensor | None
    open_experts: torch.Tensor


class TaskTable(nn.Module):
    """Embeddings, names and kinds of the tasks of one adapter, shared by all layers.

    Args:
        config: the adapter's configuration.
        device: where the embeddings live.
    """

    def __init__(self, config: TMoLEConfig, device: torch.device) -> None:
        super().__init__()
        self.names = tuple(config.task_names)
        self.kinds = tuple(config.task_kinds)
        self.experts_per_group = config.experts_per_group
        self.weight = nn.Parameter(torch.empty(config.num_tasks, config.task_dim, device=device, dtype=torch.float32))
        nn.init.xavier_normal_(self.weight)

    def ids(self, tasks: Sequence[int | str]) -> tuple[int, ...]:
        """Translate task names and ids into ids.

        Raises:
            ValueError: a name or id the table does not have.
        """
        return tuple(self._id(task) for task in tasks)

    def open_range(self, task: int) -> tuple[int, int]:
        """Return the first and one past the last expert of a task, in the order embedding | shared | generative."""
        first, last = OPEN_GROUPS[self.kinds[task]]
        return first * self.experts_per_group, last * self.experts_per_group

    def plan(self, tasks: tuple[int, ...], device: torch.device) -> Plan:
        """Plan how a batch with these task ids, one per row, uses the experts.

        Only the small index tensors go to the device: nothing is read back from it.

        Args:
            tasks: B task ids.
            device: of the index tensors.
        """
        distinct = sorted(set(tasks))
        ranges = [self.open_range(task) for task in distinct]
        start, stop = min(first for first, _ in ranges), max(last for _, last in ranges)
        open_experts = torch.tensor(
            [[first <= expert < last for expert in range(start, stop)] for first, last in ranges], device=device
        )
        if len(distinct) == 1:
            return Plan(slice(start, stop), distinct[0], None, open_experts)
        position = {task: index for index, task in enumerate(distinct)}
        return Plan(
            slice(start, stop),
            torch.tensor(distinct, device=device),
            torch.tensor([position[task] for task in tasks], device=device),
            open_experts,
        )

    def forward(self, plan: Plan) -> torch.Tensor:
        """Return the embeddings [K, D] of the distinct tasks of a batch."""
        if isinstance(plan.tasks, int):
            return self.weight[plan.tasks : plan.tasks + 1]
        return self.weight.index_select(0, plan.tasks)

    def extra_repr(self) -> str:
        """Return number and width of the embeddings, for `print(model)`."""
        return f"num_tasks={len(self.names)}, task_dim={self.weight.shape[1]}"

    def _id(self, task: int | str) -> int:
        if isinstance(task, str) and task in self.names:
            return self.names.index(task)
        if isinstance(task, int) and not isinstance(task, bool) and 0 <= task < len(self.names):
            return task
        raise ValueError(f"unknown task {task!r}: use an id below {len(self.names)} or one of {', '.join(self.names)}")
