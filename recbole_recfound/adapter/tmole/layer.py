"""A linear map with task-routed low-rank experts."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from peft.tuners.tuners_utils import BaseTunerLayer, check_adapters_to_merge
from torch import nn

from recbole_recfound.adapter.tmole.config import TMoLEConfig
from recbole_recfound.adapter.tmole.dropout import Dropout
from recbole_recfound.adapter.tmole.functional import fold, tmole_linear
from recbole_recfound.adapter.tmole.router import RoutedLayer
from recbole_recfound.adapter.tmole.routing import Route, current_route
from recbole_recfound.adapter.tmole.tasks import Plan, TaskTable

Routed = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""A, B and gates over the rank."""


class TMoLELayer(RoutedLayer, BaseTunerLayer):
    """Experts and routers of all adapters on one linear map.

    Args:
        base_layer: the frozen `nn.Linear`, or another tuner's layer around one.
    """

    adapter_layer_names = ("tmole_lora_A", "tmole_lora_B", "tmole_router")
    other_param_names = ("r", "scaling", "task_table", "dropout")

    def __init__(self, base_layer: nn.Module) -> None:
        self.base_layer = base_layer
        self.r: dict[str, int] = {}
        self.scaling: dict[str, float] = {}
        self.task_table: dict[str, TaskTable] = {}
        self.dropout = nn.ModuleDict()
        self.tmole_lora_A = nn.ParameterDict()
        self.tmole_lora_B = nn.ParameterDict()
        self.tmole_router = nn.ModuleDict()
        self.merged_adapters: list[str] = []
        self.merged_tasks: dict[str, int] = {}
        linear = self._linear()
        self.in_features, self.out_features = linear.in_features, linear.out_features

    def _linear(self) -> nn.Linear:
        """Return the frozen map itself, inside any other tuner's layer."""
        return cast(nn.Linear, self.get_base_layer())

    def update_layer(
        self, adapter_name: str, config: TMoLEConfig, task_table: TaskTable, inference_mode: bool = False
    ) -> None:
        """Add an adapter with float32 weights on the device of the base layer, whose dtype may differ.

        Args:
            adapter_name: name of the new adapter.
            config: its configuration.
            task_table: embeddings of its tasks, shared by all layers.
            inference_mode: freeze the new weights.
        """
        self.r[adapter_name] = config.r
        self.scaling[adapter_name] = config.lora_alpha / config.r
        self.task_table[adapter_name] = task_table
        self.dropout[adapter_name] = Dropout(config.lora_dropout)
        device, dtype = self._linear().weight.device, torch.float32
        wide_rank = config.num_experts * config.r
        weight_A = torch.empty(wide_rank, self.in_features, device=device, dtype=dtype)
        weight_B = torch.empty(self.out_features, wide_rank, device=device, dtype=dtype)
        self.tmole_lora_A[adapter_name] = nn.Parameter(weight_A)
        self.tmole_lora_B[adapter_name] = nn.Parameter(weight_B)
        self.tmole_router[adapter_name] = nn.Linear(config.task_dim, config.num_experts, device=device, dtype=dtype)
        self.reset_parameters(adapter_name, config.init_weights)
        self.set_adapter(self.active_adapters, inference_mode=inference_mode)

    def _move_adapter_to_device_of_base_layer(self, adapter_name: str, device: torch.device | None = None) -> None:
        """Move the task table too: PEFT loads a saved adapter on the GPU and moves only the layers back."""
        super()._move_adapter_to_device_of_base_layer(adapter_name, device)
        table = self.task_table.get(adapter_name)
        if table is not None and not table.weight.is_meta:
            table.to(self._linear().weight.device)

    def reset_parameters(self, adapter_name: str, init_weights: bool) -> None:
        """Initialise A as nn.Linear does, B at zero (or like A if not `init_weights`), the router from N(0, 1).

        Args:
            adapter_name: name of the adapter.
            init_weights: B starts at zero, so that the adapter changes nothing before training.
        """
        # The bound depends on d_in alone, so all experts can be drawn at once.
        nn.init.kaiming_uniform_(self.tmole_lora_A[adapter_name], a=math.sqrt(5))
        if init_weights:
            nn.init.zeros_(self.tmole_lora_B[adapter_name])
        else:
            bound = 1 / math.sqrt(self.r[adapter_name])
            nn.init.uniform_(self.tmole_lora_B[adapter_name], -bound, bound)
        nn.init.normal_(self.router_of(adapter_name).weight)
        nn.init.zeros_(self.router_of(adapter_name).bias)

    def experts(self, adapter_name: str, plan: Plan) -> tuple[torch.Tensor, torch.Tensor]:
        """Return views A [n * r, d_in] and B [d_out, n * r] of the plan's experts.

        Args:
            adapter_name: name of the adapter.
            plan: of the current batch.
        """
        r = self.r[adapter_name]
        columns = slice(plan.experts.start * r, plan.experts.stop * r)
        return self.tmole_lora_A[adapter_name][columns], self.tmole_lora_B[adapter_name][:, columns]

    @torch.no_grad()
    def fold_task(self, adapter_name: str, task: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the adapter for one task as an ordinary LoRA: A [R, d_in], B [d_out, R], scaling 1 (see `fold`).

        Args:
            adapter_name: name of the adapter.
            task: row of the task table.
        """
        plan = self.task_table[adapter_name].plan((task,), self.tmole_lora_A[adapter_name].device)
        # A gate that underflowed to zero would be dropped as if closed: all layers keep the same rank.
        gate = self.gate(adapter_name, plan)[0].clamp_min(torch.finfo(torch.float32).tiny)
        return fold(*self.experts(adapter_name, plan), gate, self.scaling[adapter_name])


class Linear(nn.Module, TMoLELayer):
    """`nn.Linear` with TMoLE adapters.

    Args:
        base_layer: the frozen linear map.
        adapter_name: name of the first adapter.
        config: its configuration.
        task_table: its task table, owned by the model.
    """

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: TMoLEConfig, task_table: TaskTable) -> None:
        super().__init__()
        TMoLELayer.__init__(self, base_layer)
        self._active_adapter = adapter_name
        self.update_layer(adapter_name, config, task_table)

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Map x [B, T, d_in] or [B, d_in] under the current route.

        Raises:
            RuntimeError: no route is set: an enabled adapter is never skipped.
            ValueError: the batch does not have one row per task.
        """
        if self.disable_adapters and self.merged:
            self.unmerge()
        result = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return result
        if self.merged:
            self._check_merged_tasks()
            return result
        for adapter_name in self.active_adapters:
            if adapter_name in self.tmole_lora_A:
                lora_A, lora_B, rank_gate = self._routed(adapter_name, x)
                result = tmole_linear(self.dropout[adapter_name](x), result, lora_A, lora_B, rank_gate)
        return result

    def _routed(self, adapter_name: str, x: torch.Tensor) -> Routed:
        """Return A (in the dtype of x), B and gates over the rank for the rows of x under the current route.

        While texts are generated they are made once for all tokens: the gates of a single task are then a part of B,
        and None.
        """
        route_now = _required_route()
        plan = route_now.plan(self.task_table[adapter_name], x.shape[0], x.device)

        def make() -> Routed:
            lora_A, lora_B = self.experts(adapter_name, plan)
            if not route_now.remembers:
                return lora_A.to(x.dtype), lora_B, route_now.rank_gate(self, adapter_name, plan, x.dtype)
            if not isinstance(plan.tasks, int):
                return lora_A.to(x.dtype), lora_B.to(x.dtype), route_now.rank_gate(self, adapter_name, plan, x.dtype)
            lora_B = lora_B * route_now.rank_gate(self, adapter_name, plan, lora_B.dtype)
            return lora_A.to(x.dtype), lora_B.to(x.dtype), None

        return route_now.remember((id(self), adapter_name, x.shape[0], x.dtype), make)

    def get_delta_weight(self, adapter_name: str, task: int) -> torch.Tensor:
        """Return an adapter's change of the weight for one task, [d_out, d_in] float32.

        Args:
            adapter_name: name of the adapter.
            task: row of the task table.
        """
        lora_A, lora_B = self.fold_task(adapter_name, task)
        return lora_B @ lora_A

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Add the adapters to the base weight, for the one task of the current route.

        Args:
            safe_merge: refuse weights that are not finite.
            adapter_names: adapters to merge; None: the active ones.

        Raises:
            RuntimeError: no route is set.
            ValueError: the route has several tasks, or `safe_merge` finds values that are not finite.
        """
        for adapter_name in check_adapters_to_merge(self, adapter_names):
            if adapter_name not in self.tmole_lora_A:
                continue
            tasks = set(self.task_table[adapter_name].ids(_required_route().tasks))
            if len(tasks) > 1:
                raise ValueError("weights can be merged for one task only: set a route with one task")
            task = tasks.pop()
            weight = self._linear().weight
            merged = weight.data + self.get_delta_weight(adapter_name, task).to(weight.dtype)
            if safe_merge and not torch.isfinite(merged).all():
                raise ValueError(f"the merged weights of adapter {adapter_name} are not finite")
            weight.data = merged
            self.merged_adapters.append(adapter_name)
            self.merged_tasks[adapter_name] = task

    def unmerge(self) -> None:
        """Take the merged adapters out of the base weight again."""
        while self.merged_adapters:
            adapter_name = self.merged_adapters.pop()
            weight = self._linear().weight
            task = self.merged_tasks.pop(adapter_name)
            weight.data -= self.get_delta_weight(adapter_name, task).to(weight.dtype)

    def _check_merged_tasks(self) -> None:
        route_now = current_route()
        for adapter_name, task in self.merged_tasks.items():
            table = self.task_table[adapter_name]
            if route_now is not None and set(table.ids(route_now.tasks)) != {task}:
                raise ValueError(f"the adapter is merged for task {table.names[task]}: unmerge it to run another")

    def __repr__(self) -> str:
        return "tmole." + super().__repr__()


def _required_route() -> Route:
    found = current_route()
    if found is None:
        raise RuntimeError(
            "a TMoLE layer ran without tasks: pass tmole_tasks=[...] to the model, or run it inside "
            "`with routing(model, tasks):` (or inside disable_adapter() for the plain backbone)"
        )
    return found
