"""TMoLE as the paper writes it: a loop over experts, each a pair of linear maps, one gate multiply each.

Slow and obvious on purpose. `looped` turns the TMoLE layers of a model into loops with the same weights.
"""

import copy
from collections.abc import Sequence

import torch
from torch import nn

from recbole_recfound.adapter.tmole import TMoLELayer


class ExpertLoop(nn.Module):
    """`y = W x + scaling * sum_e g_e B_e A_e x`, with the rows' tasks in the attribute `tasks`."""

    def __init__(self, layer: TMoLELayer, name: str = "default") -> None:
        super().__init__()
        table, r = layer.task_table[name], layer.r[name]
        self.base = copy.deepcopy(layer.get_base_layer())
        self.dropout = copy.deepcopy(layer.dropout[name])
        self.scaling = layer.scaling[name]
        self.kinds = table.kinds
        self.group = table.experts_per_group
        self.router = copy.deepcopy(layer.tmole_router[name]).requires_grad_()
        self.table = None  # set by `looped`: one table for the model
        self.tasks: Sequence[int] = ()
        self.A, self.B = nn.ModuleList(), nn.ModuleList()
        device = layer.tmole_lora_A[name].device
        for expert in range(3 * self.group):
            rows = slice(expert * r, (expert + 1) * r)
            A = nn.Linear(layer.in_features, r, bias=False, device=device)
            B = nn.Linear(r, layer.out_features, bias=False, device=device)
            A.weight.data.copy_(layer.tmole_lora_A[name].data[rows])
            B.weight.data.copy_(layer.tmole_lora_B[name].data[:, rows])
            self.A.append(A)
            self.B.append(B)

    def gate(self, task: int) -> torch.Tensor:
        scores = self.router(self.table.weight[task])
        closed = {"embedding": [2], "generative": [0], "none": [0, 2]}[self.kinds[task]]
        mask = torch.zeros_like(scores)
        for group in closed:
            mask[group * self.group : (group + 1) * self.group] = float("-inf")
        return torch.softmax(scores + mask, dim=-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.base(x)
        dropped = self.dropout(x)
        gates = torch.stack([self.gate(task) for task in self.tasks])
        for expert, (A, B) in enumerate(zip(self.A, self.B, strict=True)):
            weight = gates[:, expert].reshape(-1, *[1] * (x.dim() - 1))
            y = y + weight * self.scaling * B(A(dropped))
        return y


def looped(model: nn.Module) -> nn.Module:
    """A deep copy of a PEFT model's backbone in which every TMoLE layer is an `ExpertLoop`."""
    backbone = copy.deepcopy(model.get_base_model())
    table = copy.deepcopy(model.base_model.tmole_task_table["default"])
    backbone.requires_grad_(False)
    for name, module in list(backbone.named_modules()):
        if isinstance(module, TMoLELayer):
            loop = ExpertLoop(module)
            loop.base.requires_grad_(False)
            loop.table = table
            parent = backbone.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], loop)
    return backbone.train(model.training)


def set_tasks(backbone: nn.Module, tasks: Sequence[int]) -> None:
    """Give every loop the tasks of the rows of the next forward."""
    for module in backbone.modules():
        if isinstance(module, ExpertLoop):
            module.tasks = tasks


def wide_gradients(backbone: nn.Module, name: str) -> dict[str, torch.Tensor]:
    """The gradients of the loop at `name`, stacked as the wide layer holds them."""
    loop = backbone.get_submodule(name)
    return {
        "A": torch.cat([A.weight.grad for A in loop.A]),
        "B": torch.cat([B.weight.grad for B in loop.B], dim=1),
        "weight": loop.router.weight.grad,
        "bias": loop.router.bias.grad,
        "table": loop.table.weight.grad,
    }
